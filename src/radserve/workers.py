"""A pool of child processes with limits: input that crashes, hangs or bloats a decoder costs one task, not the service.

Workers are started by running the interpreter anew (never forked, `__main__` is not imported again), so a task is a
function of an importable module with picklable arguments.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt

from radserve import _worker_process as wire
from radserve._checks import invalid
from radserve._shared_memory import AVAILABLE, SharedMemory
from radserve.errors import ErrorCode, WorkerError

T = TypeVar("T")
logger = logging.getLogger(__name__)

START_SECONDS = 120.0  # a worker that imports torch on a loaded machine needs its time
EXIT_SECONDS = 5.0
SOCKET_BUFFER_BYTES = 1 << 20
BOOTSTRAP = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[3]); "
    "from radserve._worker_process import serve; serve(int(sys.argv[1]), int(sys.argv[2]))"
)


@dataclass(frozen=True, slots=True)
class WorkerLimits:
    """What one task may use. None sets no limit.

    `memory_bytes` bounds the address space of the worker (RLIMIT_AS), imported libraries included. `cpu_seconds` is CPU
    time of one task (RLIMIT_CPU, whole seconds), `wall_seconds` its time on the clock, without the worker's start.
    """

    memory_bytes: int | None
    cpu_seconds: float | None
    wall_seconds: float

    def __post_init__(self) -> None:
        for name in ("memory_bytes", "cpu_seconds", "wall_seconds"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise invalid(f"WorkerLimits.{name}", value, "above 0")


class WorkerPool:
    """Runs functions in `size` long-lived child processes; a lost worker is replaced when the next task needs it."""

    def __init__(self, *, name: str, size: int, limits: WorkerLimits, preload: Sequence[str] = ()) -> None:
        """Make the pool; no process is started yet. `preload` names modules that a worker imports at its start."""
        if size < 1:
            raise invalid("WorkerPool size", size, "at least 1")
        self._name = name
        self._limits = limits
        self._slots = [_Slot(name, limits, tuple(preload)) for _ in range(size)]
        # Last in, first out: few tasks keep few workers warm instead of starting all.
        self._idle: asyncio.LifoQueue[_Slot] = asyncio.LifoQueue()
        for slot in reversed(self._slots):
            self._idle.put_nowait(slot)
        # A thread for each worker, as long as the pool lives: the kernel ties a worker to the thread that started it.
        self._threads = ThreadPoolExecutor(size, thread_name_prefix=f"workers-{name}")
        self._closed = False

    @property
    def restarts(self) -> int:
        """How many workers were started in the place of a lost one."""
        return sum(max(slot.starts - 1, 0) for slot in self._slots)

    async def run(self, function: Callable[..., T], /, *args: object, wall_seconds: float | None = None) -> T:
        """Run `function(*args)` in a worker and return its value.

        `function` is importable by its module and name; arguments and value are picklable. `wall_seconds` replaces
        that of the limits. A RadserveError that the function raises comes through as it is. Raises WorkerError:
        WORKER_DIED, WORKER_TIMEOUT, WORKER_MEMORY, INTERNAL for any other error of the function (its type only),
        CANCELLED when the pool is closed. Cancelling the caller kills the worker.
        """
        return await self._run(function, args, None, wall_seconds)

    @property
    def can_fill(self) -> bool:
        """Whether the system has memory that `fill` can lend a worker: Linux."""
        return AVAILABLE

    async def fill(self, out: npt.NDArray[Any], function: Callable[..., T], /, *args: object) -> T:
        """`run(function, *args, place)`, where `place` is an array like `out`, whose values are in `out` at the end.

        Quicker than to return an array: `place` is memory that the worker keeps from task to task. What an earlier task
        left is still in it, so `function` must write all of `place`, or raise, or say in its value that `out` is not to
        be used. Where this raises, `out` has no new values.
        """
        return await self._run(function, args, out, None)

    async def _run(
        self,
        function: Callable[..., T],
        args: tuple[object, ...],
        out: npt.NDArray[Any] | None,
        wall_seconds: float | None,
    ) -> T:
        if function.__module__ == "__main__":
            raise invalid("WorkerPool.run function", function.__qualname__, "a function of an importable module")
        slot = await self._idle.get()
        if self._closed:
            self._idle.put_nowait(slot)
            raise WorkerError(ErrorCode.CANCELLED, f"the worker pool {self._name!r} is closed")
        seconds = self._limits.wall_seconds if wall_seconds is None else wall_seconds
        future = asyncio.get_running_loop().run_in_executor(self._threads, slot.call, function, args, out, seconds)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            slot.doom()
            raise
        finally:
            future.add_done_callback(lambda done: self._release(slot, done))

    def _release(self, slot: _Slot, done: asyncio.Future[Any]) -> None:
        if not done.cancelled():
            done.exception()  # mark it as seen: a cancelled caller does not await it
        self._idle.put_nowait(slot)

    async def warm(self) -> None:
        """Start every worker that is not busy, so that the first tasks do not wait for imports."""
        await asyncio.gather(*(self.run(os.getpid) for _ in range(self._idle.qsize())))

    async def close(self) -> None:
        """Kill the workers; tasks that run or wait fail with CANCELLED. May be called again."""
        self._closed = True
        for slot in self._slots:
            slot.doom(close=True)
        await asyncio.to_thread(self._end)

    def _end(self) -> None:
        self._threads.shutdown()
        for slot in self._slots:
            slot.end()

    async def __aenter__(self) -> WorkerPool:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


class _Slot:
    """The place of one worker. `call` and `end` run in one thread at a time, `doom` in any."""

    def __init__(self, pool: str, limits: WorkerLimits, preload: tuple[str, ...]) -> None:
        self._pool = pool
        self._limits = limits
        self._preload = preload
        self._worker: _Worker | None = None
        self._closed = False
        self.starts = 0

    def call(
        self,
        function: Callable[..., T],
        args: tuple[object, ...],
        out: npt.NDArray[Any] | None,
        wall_seconds: float,
    ) -> T:
        what = f"{function.__qualname__} in worker pool {self._pool!r}"
        task = wire.encode((function, args))
        place = None
        try:
            worker = self._ready_worker()
            if out is not None:
                place = worker.place_like(out)
                task = wire.encode((function, (*args, place)))
            kind, value = worker.exchange(task, wall_seconds, self._limits.memory_bytes)
        except TimeoutError:
            self.end()
            text = f"{what} took longer than {wall_seconds:g} s and was stopped"
            raise self._failed(ErrorCode.WORKER_TIMEOUT, text) from None
        except _WorkerGoneError:
            raise self._death(what) from None
        result = cast(T, self._outcome(what, kind, value))
        if out is not None:
            out[...] = place
        return result

    def doom(self, *, close: bool = False) -> None:
        """Kill the worker without waiting for its end; with `close`, start no other."""
        self._closed = self._closed or close
        if worker := self._worker:
            worker.doom()

    def end(self) -> int | None:
        """Kill the worker, if there is one, and return its exit status."""
        worker, self._worker = self._worker, None
        return worker.end() if worker else None

    def _ready_worker(self) -> _Worker:
        if self._worker is not None and self._worker.lost:
            self.end()
        if self._closed:
            raise WorkerError(ErrorCode.CANCELLED, f"the worker pool {self._pool!r} is closed")
        if self._worker is None:
            self._worker = worker = _Worker()
            self.starts += 1
            self._prepare(worker)
        return self._worker

    def _prepare(self, worker: _Worker) -> None:
        message = wire.encode((self._limits.memory_bytes, self._limits.cpu_seconds, self._preload))
        try:
            kind, value = worker.exchange(message, START_SECONDS, None)
        except TimeoutError:
            kind, value = wire.INTERNAL, f"not ready after {START_SECONDS:g} s"
        if kind != wire.READY:
            self.end()
            raise self._failed(ErrorCode.INTERNAL, f"a worker of pool {self._pool!r} could not start: {value}")

    def _outcome(self, what: str, kind: str, value: Any) -> Any:
        if kind == wire.VALUE:
            return value
        if kind == wire.ERROR:
            raise value
        if kind == wire.MEMORY:
            self.end()  # its memory may stay fragmented
            limit = self._limits.memory_bytes
            bound = "there is" if limit is None else f"its limit of {limit / 2**20:.0f} MiB allows"
            raise self._failed(ErrorCode.WORKER_MEMORY, f"{what} needed more memory than {bound}")
        raise self._failed(ErrorCode.INTERNAL, f"{what} failed with {value}")

    def _death(self, what: str) -> WorkerError:
        stopped = self._closed or (self._worker is not None and self._worker.doomed)  # by us, which is no fault to log
        status = self.end()
        if stopped:
            return WorkerError(ErrorCode.CANCELLED, f"{what} was stopped: its caller is gone, or the pool was closed")
        if status == -signal.SIGXCPU:
            text = f"{what} used more than {self._limits.cpu_seconds} s of CPU time and was stopped"
            return self._failed(ErrorCode.WORKER_TIMEOUT, text)
        return self._failed(ErrorCode.WORKER_DIED, f"the worker died of {_cause(status)} while running {what}")

    @staticmethod
    def _failed(code: ErrorCode, text: str) -> WorkerError:
        logger.warning("%s: %s", code, text)
        return WorkerError(code, text)


class _WorkerGoneError(Exception):
    """The worker ended, or what it sent is no message."""


class _Worker:
    """A child process, the socket to it, and the memory that it is lent."""

    def __init__(self) -> None:
        self.doomed = False  # we have killed it
        self._memory: SharedMemory | None = None
        self._channel, theirs = socket.socketpair()
        with theirs:
            for end in (self._channel, theirs):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER_BYTES)
            numbers = [str(theirs.fileno()), str(os.getpid())]
            self._process = subprocess.Popen(
                [sys.executable, "-c", BOOTSTRAP, *numbers, json.dumps(sys.path)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,  # decoders print what they find in a file: it may be patient data
                pass_fds=(theirs.fileno(),),
                process_group=0,  # a Ctrl-C in the terminal is for the parent
            )

    @property
    def lost(self) -> bool:
        return self.doomed or self._process.poll() is not None

    def place_like(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """An array like `array` in memory that no other worker is ever lent: one that dies late disturbs nobody."""
        if self._memory is None or len(self._memory) < array.nbytes:
            self._memory = SharedMemory.make(array.nbytes)
        return np.frombuffer(self._memory, array.dtype, array.size).reshape(array.shape)

    def exchange(self, message: wire.Parts, seconds: float, max_bytes: int | None) -> tuple[str, Any]:
        """Send a message and return the answer. Raises TimeoutError or _WorkerGoneError."""
        deadline = time.monotonic() + seconds
        try:
            self._channel.settimeout(seconds)
            wire.send(self._channel, message, share=True)
            kind, value = wire.decode(wire.receive(self._channel, deadline, max_bytes))
        except (EOFError, ConnectionError, wire.ProtocolError):
            raise _WorkerGoneError from None
        return kind, value

    def doom(self) -> None:
        self.doomed = True
        self._process.kill()

    def end(self) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            if self._eof():
                self._process.wait(EXIT_SECONDS)
        self._process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(EXIT_SECONDS)
        self._channel.close()
        return self._process.returncode

    def _eof(self) -> bool:
        """Whether the worker closed its end: it is exiting by itself, and its own exit status is wanted."""
        self._channel.setblocking(False)
        try:
            return not self._channel.recv(1)
        except OSError:
            return False


def _cause(status: int | None) -> str:
    if status is None:
        return "a broken connection"
    if status >= 0:
        return f"an exit with code {status}"
    try:
        return f"signal {signal.Signals(-status).name}"
    except ValueError:
        return f"signal {-status}"
