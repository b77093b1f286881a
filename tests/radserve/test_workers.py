"""The worker pool: what one bad task costs, and what it does not."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from radserve import workers
from radserve.errors import DicomError, ErrorCode, RadserveError, WorkerError
from radserve.workers import WorkerLimits, WorkerPool, _Worker
from tests.support.tasks import GIB, LIMITS, double, exists, failure, process_id


class PanicError(BaseException):
    """Like the panics of Rust extensions: no Exception."""


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


def burn() -> None:
    while True:
        pass


def allocate(size: int) -> int:
    return len(bytearray(size))


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
    limits = WorkerLimits(memory_bytes=None, cpu_seconds=1, wall_seconds=900)
    async with WorkerPool(name="cpu", size=1, limits=limits) as pool:
        error = await failure(pool.run(burn))
        assert error.code == ErrorCode.WORKER_TIMEOUT
        assert "1 s of CPU time" in error.client_message


async def test_cpu_time_is_counted_for_each_task_anew():
    # Far below the limit each, far above it together: time that the host of a virtual machine takes counts as its own.
    limits = WorkerLimits(memory_bytes=None, cpu_seconds=2, wall_seconds=300)
    async with WorkerPool(name="cpu", size=1, limits=limits) as pool:
        for _ in range(6):
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


async def test_cancelling_the_caller_stops_the_task_and_keeps_the_slot(pool, tmp_path):
    worker = await pool.run(process_id)
    task = asyncio.create_task(pool.run(say_and_sleep, tmp_path / "runs"))
    await exists(tmp_path / "runs")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with asyncio.timeout(60):
        assert await pool.run(process_id) != worker


async def test_a_worker_that_we_stop_ourselves_is_no_failure_in_the_log(caplog, monkeypatch):
    """A start that is given up cancels its warming: workers in the middle of their imports, and tasks in work."""
    pool = WorkerPool(name="given up", size=2, limits=LIMITS, preload=("time", "wave"))
    started = []
    monkeypatch.setattr(workers, "_Worker", lambda: started.append(make()) or started[-1])
    make = _Worker
    warming = asyncio.create_task(pool.warm())
    async with asyncio.timeout(60):
        while len(started) < 2:
            await asyncio.sleep(0.001)
    warming.cancel()
    await asyncio.gather(warming, return_exceptions=True)
    await pool.close()
    assert caplog.messages == []


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
import asyncio, time
from radserve.workers import WorkerLimits, WorkerPool
from tests.support.tasks import process_id

async def main():
    pool = WorkerPool(name="orphan", size=1, limits=WorkerLimits(None, None, 900))
    print(await pool.run(process_id), flush=True)
    await pool.run(time.sleep, 600.0)

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
