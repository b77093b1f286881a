"""A power cut loses nothing that was acknowledged by C-STORE or STOW-RS, neither a file nor its row in the index.

The store lies on an ext4 in a file, mounted with a journal that is not committed by itself while the test runs. In the
middle of a transfer the service is stopped and the file is copied: what the copy holds is what a disk would hold whose
power was cut at that moment; the system's cache is not in it. What a store that is opened on the copy has is compared
with what was acknowledged.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sqlite3
import subprocess
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from radserve.dicom_io.dimse.peer import Peer
from radserve.dicom_io.dimse.store_scu import StoreOutcome, StoreScu
from radserve.dicom_io.store import StudyStore
from radserve.dicom_io.web_peer import stow
from radserve.dicom_io.web_peer.peer import WebPeer
from radserve.errors import RadserveError
from radserve.server.records import opened_records
from radserve.server.settings import Settings
from radserve.workers import WorkerLimits, WorkerPool
from tests.dicom_io.dimse.scp_process import scp_process
from tests.dicom_io.dimse.support import free_port
from tests.support.dicoms import ct, part10

NOISE = np.random.default_rng(3).integers(0, 4096, (64, 64), dtype=np.uint16)
ROUNDS, EACH = 6, 20
SENDERS = 4


@contextmanager
def mounted(image: Path, folder: Path, *options: str) -> Iterator[None]:
    """The file system in `image` at `folder`."""
    folder.mkdir(exist_ok=True)
    command = ["mount", "-o", ",".join(("loop", *options)), str(image), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"a loop device cannot be mounted here: {done.stderr.strip()}")
    try:
        yield
    finally:
        end = time.monotonic() + 60  # a worker of the killed service may still be ending
        while subprocess.run(["umount", str(folder)], capture_output=True, check=False).returncode:
            assert time.monotonic() < end, f"{folder} is still in use"
            time.sleep(0.1)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    if shutil.which("mkfs.ext4", path="/usr/sbin:/sbin:/usr/bin") is None:
        pytest.skip("mkfs.ext4 is not installed")
    path = tmp_path / "disk.img"
    with path.open("wb") as file:
        file.truncate(64 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", str(path)], check=True)
    return path


@dataclass
class Load:
    """Several senders; `acknowledged` has the SOP Instance UIDs that were answered with success."""

    peer: Peer
    web: WebPeer
    acknowledged: set[str] = field(default_factory=set)
    sent: int = 0
    answered: Counter[str] = field(default_factory=Counter)

    async def by_c_store(self, data: bytes) -> StoreOutcome:
        (outcome,) = await StoreScu(self.peer).send([data])
        return outcome

    async def by_stow(self, data: bytes) -> StoreOutcome:
        (outcome,) = await stow.store(self.web, [data])
        return outcome

    async def send(self, store: Callable[[bytes], Awaitable[StoreOutcome]]) -> None:
        while True:
            self.sent += 1
            study = str(self.sent % 4)  # new folders as well as known ones
            data = part10(ct(NOISE, study=study, instance=str(self.sent), InstanceNumber=self.sent))
            outcome = await store(data)
            if outcome.is_stored:
                self.acknowledged.add(outcome.sop_instance_uid)
                self.answered[store.__name__] += 1


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """Nothing of the process runs while the block does."""
    os.kill(pid, signal.SIGSTOP)
    os.waitpid(pid, os.WUNTRACED)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


async def restart(data: Path) -> None:
    """Open and close the store, as a service does that starts after the power cut."""
    limits = WorkerLimits(memory_bytes=2 << 30, cpu_seconds=30, wall_seconds=600)
    async with (
        WorkerPool(name="restart", size=1, limits=limits, preload=("radserve.dicom_io.parse",)) as workers,
        opened_records(Settings(data_dir=data, disk_reserve_mib=0)) as records,
    ):
        store = StudyStore(data / "studies", workers, index=records.index)
        await store.open()
        await store.close()


async def lost(copy: Path, folder: Path, acknowledged: set[str]) -> set[str]:
    """The acknowledged instances that the copied disk lacks after a restart, as files or as rows of the index."""
    with mounted(copy, folder):
        try:
            await restart(folder / "data")
        except (RadserveError, OSError) as error:  # a disk without a sync may hold anything
            print(f"the store cannot be opened: {error}")
        files = {}
        for path in folder.glob("data/studies/[0-9]*/*/*.dcm"):
            try:
                files[path.stem] = np.array_equal(dcmread(path).pixel_array, NOISE)
            except Exception:  # cut off, empty, or full of zeros
                files[path.stem] = False
        rows = set()
        if (folder / "data" / "index.db").exists():
            with closing(sqlite3.connect(folder / "data" / "index.db")) as database:
                try:
                    rows = {row[0] for row in database.execute("SELECT sop_instance_uid FROM instances")}
                except sqlite3.DatabaseError:
                    rows = set()
    return {uid for uid in acknowledged if not files.get(uid) or uid not in rows}


async def cut(image: Path, rounds: int, pid: int, load: Load) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    copy = image.with_name("copy.img")
    ways = (load.by_c_store, load.by_stow)
    senders = [asyncio.create_task(load.send(ways[number % 2])) for number in range(SENDERS)]
    for number in range(1, rounds + 1):
        while len(load.acknowledged) < number * EACH:
            done, _ = await asyncio.wait(senders, timeout=0.001)
            assert not done, [task.exception() for task in done]
        with stopped(pid):
            acknowledged = set(load.acknowledged)
            shutil.copyfile(image, copy)
        found.append((len(acknowledged), len(await lost(copy, image.parent / "copy", acknowledged))))
    for task in senders:
        task.cancel()
    await asyncio.gather(*senders, return_exceptions=True)
    assert min(load.answered[way.__name__] for way in ways) > 1
    return found


def losses(image: Path, rounds: int, *options: str) -> list[tuple[int, int]]:
    """For each round, how many instances were acknowledged by then and how many of them a power cut would lose."""
    disk, port, http_port = image.parent / "disk", free_port(), free_port()
    web = WebPeer(f"http://127.0.0.1:{http_port}/dicom-web", response_seconds=600)
    load = Load(Peer("127.0.0.1", port, "RADSERVE", response_seconds=600), web)
    with (
        mounted(image, disk, "commit=300"),
        scp_process(port, disk / "data" / "studies", 600.0, "index", f"http={http_port}", *options) as process,
    ):
        return asyncio.run(cut(image, rounds, process.pid, load))


@pytest.mark.slow
def test_a_power_cut_loses_nothing_that_was_acknowledged(image: Path) -> None:
    found = losses(image, ROUNDS)
    assert all(count >= EACH for count, _ in found)
    assert [missing for _, missing in found] == [0] * ROUNDS


@pytest.mark.slow
def test_without_fsync_the_same_cut_loses_so_the_test_can_tell(image: Path) -> None:
    ((count, missing),) = losses(image, 1, "nosync")
    assert missing > count // 2
