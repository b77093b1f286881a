"""What tests of the embedded Triton share: waiting for it, looking at its processes, checking its answers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import psutil

from radserve.tensors import InferenceResponse


async def eventually(condition: Callable[[], Awaitable[bool] | bool], timeout_s: float = 120.0) -> None:
    """Return when `condition` holds; fail when it does not within `timeout_s`."""
    async with asyncio.timeout(timeout_s):
        while True:
            holds = condition()
            if holds if isinstance(holds, bool) else await holds:
                return
            await asyncio.sleep(0.05)


def family(pid: int) -> list[psutil.Process]:
    """tritonserver and its backend processes."""
    server = psutil.Process(pid)
    return [server, *server.children(recursive=True)]


def living(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those that still run (a zombie does not)."""
    return [each for each in processes if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]


def shared_memory(prefix: str) -> list[Path]:
    """The files in shared memory whose names begin so."""
    return list(Path("/dev/shm").glob(f"{prefix}*"))


def largest_difference(answer: InferenceResponse, expected: InferenceResponse) -> float:
    """The largest difference over all tensors, which must be the same ones."""
    assert answer.outputs.keys() == expected.outputs.keys()
    return max(float(np.abs(answer.outputs[name] - array).max()) for name, array in expected.outputs.items())
