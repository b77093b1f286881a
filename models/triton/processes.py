"""The processes of a tritonserver: itself and one backend process per graph instance, all in its process group."""

from __future__ import annotations

import asyncio
import os
import signal
from asyncio.subprocess import Process
from contextlib import suppress
from pathlib import Path

_POLL_S = 0.05
_LAST_GRACE_S = 0.5


def backends(server: int) -> set[int]:
    """The backend processes of tritonserver (its process id). Empty where the kernel does not tell."""
    found: set[int] = set()
    for listing in Path(f"/proc/{server}/task").glob("*/children"):
        with suppress(OSError):  # the thread has just ended
            found |= {int(child) for child in listing.read_text().split()}
    return found


def dead_backends(server: int) -> set[int]:
    """Those that died and were not replaced: Triton leaves them zombies.

    It goes on calling their models ready and fails every request for them.
    """
    return {child for child in backends(server) if _is_zombie(child)}


async def wait_backend_death(server: int, poll_s: float) -> None:
    """Return when a backend process has been dead for a whole `poll_s`; those Triton ends itself are gone sooner."""
    before: set[int] = set()
    while not (dead := dead_backends(server)) & before:
        before = dead
        await asyncio.sleep(poll_s)


async def end(process: Process, *, stop_timeout_s: float, orphan_timeout_s: float) -> None:
    """End a server and its backends: SIGTERM, SIGKILL for what has not gone in time.

    Backends end by themselves when their server is gone. With a dead one Triton would not end before its own time-out,
    so then it is killed at once.
    """
    if process.returncode is None:
        with suppress(ProcessLookupError):
            process.kill() if dead_backends(process.pid) else process.terminate()
        with suppress(TimeoutError):
            await asyncio.wait_for(_wait(process), stop_timeout_s)
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    await _end_group(process.pid, orphan_timeout_s)


async def _wait(process: Process) -> None:
    """Wait until the server has ended, or has ended its backends and then nothing happens any more.

    At the very end the gRPC library in it may wait many seconds for a timer, when there is nothing left to do.
    """
    served = bool(backends(process.pid))
    while process.returncode is None and not (served and not backends(process.pid)):
        await asyncio.sleep(_POLL_S)
    await asyncio.wait_for(process.wait(), _LAST_GRACE_S)


async def _end_group(group: int, timeout_s: float) -> None:
    deadline = asyncio.get_running_loop().time() + timeout_s
    with suppress(ProcessLookupError):
        while asyncio.get_running_loop().time() < deadline:
            os.killpg(group, 0)
            await asyncio.sleep(_POLL_S)
        os.killpg(group, signal.SIGKILL)


def _is_zombie(process: int) -> bool:
    try:
        stat = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] == "Z"  # proc(5): the state follows the name in parentheses
