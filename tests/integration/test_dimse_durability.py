"""Nothing acknowledged is lost: a disk that runs full, and a service that is killed in the middle of a transfer."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from radserve.dicom_io.dimse import statuses
from radserve.dicom_io.dimse.peer import Peer
from radserve.dicom_io.dimse.store_scu import StoreOutcome, StoreScu, StoreState
from radserve.dicom_io.reserve import DiskReserve
from tests.dicom_io.dimse.scp_process import scp_process
from tests.dicom_io.dimse.support import free_port, running_scp
from tests.support.dicoms import ct, part10

NOISE = np.random.default_rng(0).integers(0, 4096, (128, 128), dtype=np.uint16)


def slices(count: int) -> list[bytes]:
    """CT slices of 33 KB."""
    return [part10(ct(NOISE, instance=str(number), InstanceNumber=number + 1)) for number in range(count)]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("mounting a tmpfs needs root")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", disk], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("a tmpfs cannot be mounted here")
    yield disk
    subprocess.run(["umount", disk], check=True)


@pytest.mark.parametrize("reserve_bytes", [0, 1 << 20])
async def test_a_full_disk_refuses_keeps_what_was_acknowledged_and_takes_again(
    small_disk: Path, reserve_bytes: int
) -> None:
    data = slices(150)  # 5 MB
    async with running_scp(small_disk, reserve=DiskReserve(small_disk, reserve_bytes)) as running:
        scu = StoreScu(running.peer())
        outcomes = await scu.send(data)
        kept = {outcome.sop_instance_uid for outcome in outcomes if outcome.is_stored}
        refused = [outcome for outcome in outcomes if not outcome.is_stored]
        assert 20 < len(kept) < 130
        assert {outcome.status for outcome in refused} == {statuses.OUT_OF_RESOURCES}
        assert all(outcome.is_transient for outcome in refused)
        stored = running.instances()
        assert {path.stem for path in stored} == kept
        assert {str(dcmread(path).SOPInstanceUID) for path in stored} == kept
        assert not list((small_disk / ".incoming").iterdir())
        if reserve_bytes:
            assert DiskReserve(small_disk, 0).free_bytes() >= reserve_bytes - (1 << 16)
        for path in stored[:30]:
            path.unlink()
        again = next(each for each, outcome in zip(data, outcomes, strict=True) if not outcome.is_stored)
        (outcome,) = await scu.send([again])
        assert outcome.is_stored


async def send_until(
    sending: Awaitable[list[StoreOutcome]], reached: Callable[[], bool], stop: Callable[[], None]
) -> list[StoreOutcome]:
    """Call `stop` when `reached` holds, which is asked at every turn of the loop that sends; return what was sent."""
    task = asyncio.ensure_future(sending)
    while not task.done() and not reached():
        await asyncio.sleep(0)
    stop()
    return await task


@pytest.mark.slow
def test_a_kill_during_the_transfer_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    data, port = slices(400), free_port()
    acknowledged: set[str] = set()

    def on_disk() -> set[str]:
        return {path.stem for path in tmp_path.glob("*/*/*.dcm")}

    def has(count: int) -> bool:
        return any(
            sum(1 for _ in series.iterdir()) >= count for series in tmp_path.glob("[0-9]*/*")
        )  # there is one series

    for turn in range(3):
        enough = len(on_disk()) + 40 + 30 * turn
        with scp_process(port, tmp_path) as process:
            sending = StoreScu(Peer("127.0.0.1", port, "RADSERVE")).send(data)
            outcomes = asyncio.run(send_until(sending, partial(has, enough), process.kill))
        stored = [outcome for outcome in outcomes if outcome.is_stored]
        assert 0 < len(stored) < len(data), "the kill has to come in the middle"
        assert [outcome.state for outcome in outcomes if not outcome.is_stored].count(StoreState.UNCONFIRMED) <= 1
        acknowledged |= {outcome.sop_instance_uid for outcome in stored}
        data = data[len(stored) // 2 :]  # half of them again: duplicates
        assert acknowledged <= on_disk()
        assert len(on_disk() - acknowledged) <= turn + 1  # at most the one that was not answered
    with scp_process(port, tmp_path):
        outcomes = asyncio.run(StoreScu(Peer("127.0.0.1", port, "RADSERVE")).send(slices(400)))
        assert all(outcome.is_stored for outcome in outcomes)
        assert not list((tmp_path / ".incoming").iterdir())
    for path in tmp_path.rglob("*.dcm"):
        np.testing.assert_array_equal(dcmread(path).pixel_array, NOISE)
