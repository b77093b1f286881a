"""The worker pool: what one bad task costs, and what it does not."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import fcntl
import gc
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from radserve import _shared_memory as shared
from radserve import _worker_process as wire
from radserve.errors import DicomError, ErrorCode, RadserveError, WorkerError
from radserve.workers import WorkerLimits, WorkerPool

GIB = 2**30
LIMITS = WorkerLimits(memory_bytes=2 * GIB, cpu_seconds=20, wall_seconds=900)


class PanicError(BaseException):
    """Like the panics of Rust extensions: no Exception."""


def double(value: float) -> float:
    return value * 2


def process_id() -> int:
    return os.getpid()


def abort() -> None:
    os.abort()


def leave(code: int) -> None:
    os._exit(code)


def crash() -> None:
    ctypes.string_at(0)


def sleep(seconds: float) -> None:
    time.sleep(seconds)


def say_and_sleep(path: Path) -> None:
    """Make the file, so that who waits for it knows that the task runs; then sleep longer than any test takes."""
    path.touch()
    time.sleep(600)


def wait_for(path: Path) -> None:
    while not path.exists():
        time.sleep(0.01)


async def exists(path: Path) -> None:
    """Return when a worker has made the file."""
    async with asyncio.timeout(60):
        while not path.exists():
            await asyncio.sleep(0.01)


def burn() -> None:
    while True:
        pass


def allocate(size: int) -> int:
    return len(bytearray(size))


def make_array(size: int) -> np.ndarray:
    array = np.arange(size, dtype=np.uint8)
    array.setflags(write=False)
    return array


def echo(arrays: list[np.ndarray]) -> list[np.ndarray]:
    return arrays


def refuse(text: str) -> None:
    raise DicomError(ErrorCode.TRUNCATED, text, detail=f"detail of {text}")


def fail(text: str) -> None:
    raise ValueError(text)


def panic(text: str) -> None:
    raise PanicError(text)


def unpicklable() -> object:
    return lambda: None


def environment(name: str) -> str:
    return os.environ.get(name, "")


def is_imported(name: str) -> bool:
    return name in sys.modules


@pytest.fixture
async def pool():
    async with WorkerPool(name="test", size=1, limits=LIMITS) as pool:
        yield pool


async def failure(awaitable) -> RadserveError:
    with pytest.raises(RadserveError) as caught:
        await awaitable
    return caught.value


async def test_a_function_runs_in_another_process_that_stays(pool):
    first = await pool.run(process_id)
    assert first != os.getpid()
    assert await pool.run(process_id) == first
    assert await pool.run(double, 21) == 42
    assert pool.restarts == 0


async def test_no_process_is_started_before_the_first_task(pool):
    before = len(psutil.Process().children())  # of other pools in the same test process
    await pool.run(double, 1)
    assert len(psutil.Process().children()) == before + 1


@pytest.mark.parametrize(
    ("function", "args", "cause"),
    [
        (abort, (), "signal SIGABRT"),
        (crash, (), "signal SIGSEGV"),
        (leave, (7,), "exit with code 7"),
        (leave, (0,), "exit with code 0"),
    ],
)
async def test_a_worker_that_dies_costs_its_task_only_and_is_replaced(pool, function, args, cause):
    await pool.run(double, 1)
    error = await failure(pool.run(function, *args))
    assert (error.code, type(error)) == (ErrorCode.WORKER_DIED, WorkerError)
    assert cause in error.client_message
    assert await pool.run(double, 4) == 8
    assert pool.restarts == 1


async def test_a_worker_killed_between_two_tasks_is_replaced_without_a_failure(pool):
    victim = await pool.run(process_id)
    os.kill(victim, signal.SIGKILL)
    psutil.Process(victim).wait(60)
    assert await pool.run(process_id) != victim


async def test_a_task_over_its_wall_time_is_stopped_and_the_error_names_the_seconds(pool):
    await pool.run(double, 1)
    async with asyncio.timeout(60):
        error = await failure(pool.run(sleep, 600.0, wall_seconds=0.3))
    assert error.code == ErrorCode.WORKER_TIMEOUT
    assert "0.3 s" in error.client_message
    assert await pool.run(double, 2) == 4


async def test_a_task_over_its_cpu_time_is_stopped_although_wall_time_is_left():
    limits = WorkerLimits(memory_bytes=None, cpu_seconds=1, wall_seconds=60)
    async with WorkerPool(name="cpu", size=1, limits=limits) as pool:
        error = await failure(pool.run(burn))
        assert error.code == ErrorCode.WORKER_TIMEOUT
        assert "1 s of CPU time" in error.client_message


async def test_cpu_time_is_counted_for_each_task_anew():
    limits = WorkerLimits(memory_bytes=None, cpu_seconds=1, wall_seconds=60)
    async with WorkerPool(name="cpu", size=1, limits=limits) as pool:
        for _ in range(4):
            assert await pool.run(_busy, 0.6) > 0.5
        assert pool.restarts == 0


def _busy(seconds: float) -> float:
    start = time.process_time()
    while time.process_time() - start < seconds:
        pass
    return time.process_time() - start


async def test_a_task_over_the_memory_limit_fails_with_the_limit_named(pool):
    error = await failure(pool.run(allocate, 3 * GIB))
    assert error.code == ErrorCode.WORKER_MEMORY
    assert "2048 MiB" in error.client_message
    assert await pool.run(allocate, 1000) == 1000
    assert pool.restarts == 1


async def test_an_error_of_ours_comes_through_unchanged_and_keeps_the_worker(pool):
    error = await failure(pool.run(refuse, "the file ends"))
    assert type(error) is DicomError
    assert (error.code, error.client_message, error.detail) == (
        ErrorCode.TRUNCATED,
        "the file ends",
        "detail of the file ends",
    )
    await pool.run(double, 1)
    assert pool.restarts == 0


@pytest.mark.parametrize(("function", "name"), [(fail, "ValueError"), (panic, "PanicError")])
async def test_of_any_other_error_only_the_type_crosses(pool, function, name):
    error = await failure(pool.run(function, "Doe^Jane"))
    assert (error.code, type(error)) == (ErrorCode.INTERNAL, WorkerError)
    assert name in error.client_message
    assert "Doe" not in str(error)
    assert await pool.run(double, 1) == 2


async def test_a_value_that_cannot_be_pickled_is_an_internal_error_and_the_worker_goes_on(pool):
    assert (await failure(pool.run(unpicklable))).code == ErrorCode.INTERNAL
    assert await pool.run(double, 1) == 2
    assert pool.restarts == 0


async def test_a_function_of_the_main_module_is_refused(pool, monkeypatch):
    monkeypatch.setattr(double, "__module__", "__main__")
    assert (await failure(pool.run(double, 1))).code == ErrorCode.INVALID_ARGUMENT


async def test_arrays_cross_unchanged_and_stay_read_only(pool):
    array = await pool.run(make_array, 7 * 2**20)
    assert np.array_equal(array, np.arange(7 * 2**20, dtype=np.uint8))
    assert not array.flags.writeable


async def test_several_large_arrays_cross_both_ways_beside_small_ones(pool):
    given = [np.arange(size, dtype=np.float32) for size in (7, 1 << 20, 0, (1 << 20) + 3, 3 << 20)]
    for arrays in (given, given[::-1]):
        for array, back in zip(arrays, await pool.run(echo, arrays), strict=True):
            np.testing.assert_array_equal(back, array)
            assert back.flags.aligned


def descriptors() -> list[str]:
    """What the open descriptors of this process are."""
    found = []
    for path in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            found.append(str(path.readlink()))
    return found


async def test_large_messages_leave_no_descriptor_behind(pool):
    await pool.run(make_array, 8 << 20)
    before = descriptors()
    for _ in range(20):
        await pool.run(make_array, 8 << 20)
    gc.collect()
    after = descriptors()
    assert sum("memfd" in each for each in after) <= sum("memfd" in each for each in before)
    assert len(after) < len(before) + 10  # a few come and go with what else runs in this process


def test_shared_memory_that_could_still_change_is_refused():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(struct.pack("!I", 1) + wire.PART.pack(2 << 20, -1, False))
        number = os.memfd_create("unsealed", os.MFD_ALLOW_SEALING)
        os.ftruncate(number, 2 << 20)
        socket.send_fds(theirs, [b"\0"], [number])
        os.close(number)
        with pytest.raises(wire.ProtocolError):
            wire.receive(ours)


def test_shared_memory_of_another_size_than_said_is_refused():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        wire.send(theirs, [memoryview(bytes(2 << 20))])
        received = ours.recv(4 + wire.PART.size)
        assert received == struct.pack("!I", 1) + wire.PART.pack(2 << 20, -1, False)
        data, (number,), _, _ = socket.recv_fds(ours, 1, 1)
        assert data
        theirs.sendall(struct.pack("!I", 1) + wire.PART.pack(3 << 20, -1, False))
        socket.send_fds(theirs, [b"\0"], [number])
        os.close(number)
        with pytest.raises(wire.ProtocolError):
            wire.receive(ours)


def add(array: np.ndarray, number: int) -> int:
    array += number
    return process_id()


def is_writeable(array: np.ndarray) -> bool:
    return bool(array.flags.writeable)


def lent(shape: tuple[int, ...], dtype: type) -> np.ndarray:
    """An array of zeros in memory that a task can be lent."""
    count = int(np.prod(shape))
    return np.frombuffer(shared.SharedMemory.make(count * np.dtype(dtype).itemsize), dtype).reshape(shape)


async def test_a_lent_array_is_written_in_place_by_tasks_that_have_its_parts(pool):
    array = lent((6, 5, 1000), np.float32)
    workers = [await pool.run(add, array[at : at + 2], at + 1) for at in (0, 2, 4)]
    assert os.getpid() not in workers
    assert array.mean(axis=(1, 2)).tolist() == [1, 1, 3, 3, 5, 5]
    await pool.run(add, array[3, 2:4, :], 10)
    assert np.argwhere(array == 13)[:, :2].min(axis=0).tolist() == [3, 2]
    assert (array == 13).sum() == 2000
    assert await pool.run(is_writeable, array)
    array[0] = 9
    np.testing.assert_array_equal(await pool.run(echo, array), array)  # what comes back is a copy


async def test_a_lent_array_that_is_read_only_is_so_in_a_task(pool):
    array = lent((1 << 20,), np.uint8)
    array.flags.writeable = False
    assert not await pool.run(is_writeable, array)
    assert (await failure(pool.run(add, array, 1))).code == ErrorCode.INTERNAL
    assert not array.any()


async def test_a_view_of_a_lent_array_that_is_not_contiguous_goes_as_a_copy(pool):
    array = lent((1000, 1000), np.float32)
    await pool.run(add, array[:, ::2], 1)
    assert not array.any()


async def test_lent_arrays_leave_no_descriptor_behind(pool):
    before = _shared_descriptors()
    await pool.run(add, lent((2 << 20,), np.uint8), 1)
    of_one = await pool.run(_shared_descriptors)  # the worker keeps what it was lent last
    for _ in range(20):
        await pool.run(add, lent((2 << 20,), np.uint8), 1)
    gc.collect()
    assert _shared_descriptors() <= before
    assert await pool.run(_shared_descriptors) == of_one


def _shared_descriptors() -> int:
    return sum("radserve-shared" in each for each in descriptors())


def put(number: int, place: np.ndarray) -> int:
    place[...] = number
    return process_id()


def look(place: np.ndarray) -> list[float]:
    """What is there before anything is written."""
    return np.unique(place).tolist()


def put_half_and(how: str, path: Path, place: np.ndarray) -> None:
    place[: len(place) // 2] = 7
    path.touch()
    match how:
        case "refuse":
            raise DicomError(ErrorCode.TRUNCATED, "half of it")
        case "die":
            os.abort()
        case "hang":
            time.sleep(600)


async def test_a_task_fills_any_contiguous_or_scattered_array_of_the_caller(pool):
    for out in (np.zeros((3, 4, 5), np.float32), np.zeros((8, 10), np.int16)[::2, 1::3], np.zeros((2, 1 << 20), "u1")):
        worker = await pool.fill(out, put, 3)
        assert worker != os.getpid()
        assert (out == 3).all()
    assert pool.can_fill


async def test_a_worker_keeps_the_memory_that_it_fills_and_another_gets_its_own(pool, tmp_path):
    out = np.zeros(1000)
    first = await pool.fill(out, put, 5)
    of_one = await pool.run(_shared_descriptors)
    assert await pool.fill(out, look) == [5.0]
    assert await pool.run(_shared_descriptors) == of_one
    await failure(pool.fill(out, put_half_and, "die", tmp_path / "begun"))
    assert await pool.fill(out, look) == [0.0]
    assert await pool.fill(out, put, 6) != first


@pytest.mark.parametrize("how", ["refuse", "die", "hang"])
async def test_what_a_failing_task_wrote_is_not_in_the_array(pool, tmp_path, how):
    out = np.ones((4, 3))
    task = asyncio.create_task(pool.fill(out, put_half_and, how, tmp_path / "begun"))
    await exists(tmp_path / "begun")
    if how == "hang":
        task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    other = np.zeros((4, 3))
    await pool.fill(other, put, 2)
    assert (out == 1).all()
    assert (other == 2).all()


async def test_tasks_that_fill_at_once_do_not_meet_in_one_memory():
    async with WorkerPool(name="several", size=2, limits=LIMITS) as several:
        block = np.zeros((40, 3000))
        await asyncio.gather(*(several.fill(place, put, number) for number, place in enumerate(block)))
    assert (block == np.arange(40)[:, None]).all()


@pytest.mark.parametrize(("size", "offset", "seals"), [(4096, 4096, 6), (8192, 0, 6), (4096, 0, 0), (4096, -2, 6)])
def test_a_part_that_is_not_in_its_memory_or_may_shrink_is_refused(size, offset, seals):
    ours, theirs = socket.socketpair()
    number = os.memfd_create("crafted", os.MFD_ALLOW_SEALING)
    os.ftruncate(number, 4096 if size > 4096 else 6000)
    fcntl.fcntl(number, fcntl.F_ADD_SEALS, seals)
    with ours, theirs:
        theirs.sendall(struct.pack("!I", 1) + wire.PART.pack(size, offset, True))
        socket.send_fds(theirs, [b"\0"], [number])
        theirs.shutdown(socket.SHUT_WR)
        os.close(number)
        with pytest.raises((wire.ProtocolError, EOFError)):
            wire.receive(ours, borrowed=shared.Borrowed())


def test_what_comes_from_a_worker_may_not_be_memory_that_it_can_still_change():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(struct.pack("!I", 1) + wire.PART.pack(4096, 0, True))
        with pytest.raises(wire.ProtocolError):
            wire.receive(ours)


async def test_the_event_loop_turns_while_a_large_array_crosses(pool):
    await pool.run(double, 1)
    task = asyncio.create_task(pool.run(make_array, 256 * 2**20))
    turns = 0
    while not task.done():
        await asyncio.sleep(0.001)
        turns += 1
    assert len(task.result()) == 256 * 2**20
    assert turns > 5


async def test_cancelling_the_caller_stops_the_task_and_keeps_the_slot(pool, tmp_path):
    worker = await pool.run(process_id)
    task = asyncio.create_task(pool.run(say_and_sleep, tmp_path / "runs"))
    await exists(tmp_path / "runs")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with asyncio.timeout(60):
        assert await pool.run(process_id) != worker


async def test_cancelling_a_caller_that_waits_for_a_slot_costs_nothing(pool, tmp_path):
    await pool.run(double, 1)
    busy = asyncio.create_task(pool.run(wait_for, tmp_path / "go on"))
    waiting = asyncio.create_task(pool.run(double, 1))
    await asyncio.sleep(0.1)
    waiting.cancel()
    (tmp_path / "go on").touch()
    await busy
    assert await pool.run(double, 3) == 6
    assert pool.restarts == 0


async def test_many_tasks_among_deaths_all_have_their_own_answer():
    async with WorkerPool(name="many", size=2, limits=LIMITS) as pool:
        tasks = [pool.run(abort) if index % 10 == 3 else pool.run(double, index) for index in range(40)]
        answers = await asyncio.gather(*tasks, return_exceptions=True)
    for index, answer in enumerate(answers):
        if index % 10 == 3:
            assert isinstance(answer, WorkerError)
        else:
            assert answer == index * 2


async def test_workers_preload_modules_and_run_one_thread():
    async with WorkerPool(name="preload", size=1, limits=LIMITS, preload=("wave",)) as pool:
        assert await pool.run(is_imported, "wave")
        assert await pool.run(environment, "OMP_NUM_THREADS") == "1"
        assert await pool.run(environment, "OPENBLAS_NUM_THREADS") == "1"


async def test_a_module_that_cannot_be_imported_is_named_by_its_error_type():
    async with WorkerPool(name="preload", size=1, limits=LIMITS, preload=("no_such_module",)) as pool:
        error = await failure(pool.run(double, 1))
    assert error.code == ErrorCode.INTERNAL
    assert "ModuleNotFoundError" in error.client_message


async def test_an_interrupt_does_not_stop_a_worker(pool):
    worker = await pool.run(process_id)
    os.kill(worker, signal.SIGINT)
    assert await pool.run(process_id) == worker


async def test_closing_ends_the_workers_and_fails_what_runs_or_waits(tmp_path):
    pool = WorkerPool(name="closing", size=1, limits=LIMITS)
    worker = await pool.run(process_id)
    tasks = [asyncio.create_task(pool.run(say_and_sleep, tmp_path / "runs")) for _ in range(2)]
    await exists(tmp_path / "runs")
    await pool.close()
    for task in tasks:
        assert (await failure(task)).code == ErrorCode.CANCELLED
    assert not psutil.pid_exists(worker)
    assert (await failure(pool.run(double, 1))).code == ErrorCode.CANCELLED
    await pool.close()


PARENT = """
import asyncio, os, sys
from radserve.workers import WorkerLimits, WorkerPool
from tests.radserve.test_workers import process_id, sleep

async def main():
    pool = WorkerPool(name="orphan", size=1, limits=WorkerLimits(None, None, 900))
    print(await pool.run(process_id), flush=True)
    await pool.run(sleep, 600.0)

asyncio.run(main())
"""


def test_a_busy_worker_dies_with_its_parent():
    environ = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True, env=environ)
    worker = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.wait()
    parent.stdout.close()
    psutil.wait_procs([worker], timeout=60)
    assert not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize("field", ["memory_bytes", "cpu_seconds", "wall_seconds"])
def test_limits_must_be_positive(field):
    values = {"memory_bytes": 1, "cpu_seconds": 1.0, "wall_seconds": 1.0, field: 0}
    with pytest.raises(RadserveError, match=field) as caught:
        WorkerLimits(**values)
    assert caught.value.code == ErrorCode.INVALID_ARGUMENT


def test_a_pool_needs_a_worker():
    with pytest.raises(RadserveError, match="at least 1"):
        WorkerPool(name="none", size=0, limits=LIMITS)
