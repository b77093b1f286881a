"""Arrays between the service and its workers: copies, memory that is lent, memory that a task fills."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import gc
import os
import socket
import struct
import time
from pathlib import Path

import numpy as np
import pytest

from radserve import _shared_memory as shared
from radserve import _worker_process as wire
from radserve.errors import DicomError, ErrorCode
from radserve.workers import WorkerPool
from tests.support.tasks import LIMITS, double, echo, exists, failure, make_array, process_id


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
