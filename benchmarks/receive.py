"""C-STORE receive rate: radserve's storage SCP against DCMTK's storescp and Orthanc, on the same CT slices.

    python benchmarks/receive.py [--slices 200] [--rounds 5] [--json FILE]

200 generated CT slices of 512 x 512 pixels (16 bits, explicit VR little endian, 105 MB) go over the loopback from
DCMTK's storescu, with 1 and with 4 associations that share the slices. The receivers are up all the time and take
turns within every round; each round sends new UIDs, so nobody meets a duplicate. Durable writes: radserve fsyncs every
file, its folder and its row in the index before it answers; Orthanc runs with SyncStorageArea on; storescp does not
fsync. The floor (benchmarks/receive_floor.py) writes, fsyncs and answers, and does nothing else: what the disk, the
system and the sender leave to a receiver in Python. No-delay: DCMTK sets TCP_NODELAY where the environment says
TCP_NODELAY=1, here for sender and storescp both; Orthanc takes the same variable. Receivers that are not installed are
left out, with a line that says so. A ratio is the median of the ratios to Orthanc in the same round.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import numpy as np
import psutil
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from radserve.dicom_io.database import Database, sqlite_url
from radserve.dicom_io.dimse.access import AccessPolicy, PeerPolicy
from radserve.dicom_io.dimse.store_scp import ScpOptions, StoreScp
from radserve.dicom_io.index import StudyIndex
from radserve.dicom_io.store import StudyStore
from radserve.uids import derive_uid
from radserve.workers import WorkerLimits, WorkerPool

STORESCU, STORESCP, ECHOSCU = "/usr/bin/storescu", "/usr/bin/storescp", "/usr/bin/echoscu"
ASSOCIATIONS = (1, 4)
SIZE = 512
ENVIRONMENT = {**os.environ, "TCP_NODELAY": "1"}
START_SECONDS = 60.0
ORTHANC = "Orthanc (SyncStorageArea)"
# Files that were deleted a minute ago slow down whoever makes new ones on the same ext4: the slices lie elsewhere.
MEMORY = Path("/dev/shm")


@dataclass(frozen=True)
class Receiver:
    """A running SCP, its process, and the folder below which its files lie."""

    name: str
    port: int
    folder: Path
    process: psutil.Process

    def cpu_seconds(self) -> float:
        """CPU time of the process and of its children, also of those that ended."""
        seconds = 0.0
        for each in (self.process, *self.process.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):  # a child that ends meanwhile is in its parent's times afterwards
                times = each.cpu_times()
                seconds += times.user + times.system + times.children_user + times.children_system
        return seconds


@dataclass
class Timing:
    """Seconds of each round, on the clock and of the receiver's CPU time, by the number of associations."""

    seconds: dict[int, list[float]] = field(default_factory=lambda: {count: [] for count in ASSOCIATIONS})
    cpu_seconds: dict[int, list[float]] = field(default_factory=lambda: {count: [] for count in ASSOCIATIONS})


def write_slices(folder: Path, study: str, count: int) -> None:
    """`count` CT slices of noise; a new study for each `study`."""
    rng = np.random.default_rng(0)
    for index in range(count):
        dataset = Dataset()
        dataset.SOPClassUID = CTImageStorage
        dataset.SOPInstanceUID = derive_uid("receive", study, str(index))
        dataset.StudyDate, dataset.StudyTime, dataset.Modality = "20260101", "120000", "CT"
        dataset.PatientName, dataset.PatientID = "Receive^Benchmark", study
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = derive_uid(study), derive_uid(study, "series")
        dataset.InstanceNumber = index + 1
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.Rows = dataset.Columns = SIZE
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
        dataset.PixelData = rng.integers(0, 4096, SIZE * SIZE, dtype=np.uint16).tobytes()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.save_as(folder / f"{index:04}.dcm", enforce_file_format=True)


def send(receiver: Receiver, files: list[Path], associations: int) -> float:
    """Send the files over so many associations at once; return the seconds until all are acknowledged."""
    command = [STORESCU, "-aec", "RADSERVE", "127.0.0.1", str(receiver.port)]
    started = time.perf_counter()
    running = [
        subprocess.Popen([*command, *map(str, files[index::associations])], env=ENVIRONMENT)
        for index in range(associations)
    ]
    failed = [process.wait() for process in running]
    seconds = time.perf_counter() - started
    if any(failed):
        raise RuntimeError(f"{receiver.name}: storescu ended with {failed}")
    return seconds


async def serve(port: int, folder: Path) -> None:
    """radserve's SCP as the service runs it: one process, two sandboxed workers that read headers, SQLite index."""
    limits = WorkerLimits(memory_bytes=2 << 30, cpu_seconds=30, wall_seconds=60)
    async with WorkerPool(name="receive", size=2, limits=limits, preload=("radserve.dicom_io.parse",)) as workers:
        await workers.warm()
        database = Database(sqlite_url(folder.with_suffix(".sqlite")))
        await database.open()
        store = StudyStore(folder, workers, index=StudyIndex(database))
        await store.open()
        access = AccessPolicy("RADSERVE", others=PeerPolicy())
        scp = StoreScp(ScpOptions(access, port=port), store)
        await scp.start()
        await asyncio.Event().wait()


@contextmanager
def running(name: str, command: list[str], port: int, folder: Path) -> Iterator[Receiver]:
    process = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + START_SECONDS
        echo = [ECHOSCU, "-aec", "RADSERVE", "127.0.0.1", str(port)]
        while subprocess.run(echo, stderr=subprocess.DEVNULL, check=False).returncode:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{name} did not start")
            time.sleep(0.2)
        yield Receiver(name, port, folder, psutil.Process(process.pid))
    finally:
        process.terminate()
        process.wait()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def commands(root: Path) -> Iterator[tuple[str, list[str], int, Path]]:
    """The receivers: name, command, port, folder."""
    port, folder = free_port(), root / "radserve"
    yield "radserve (fsync)", [sys.executable, __file__, "--serve", str(port), str(folder)], port, folder
    port, folder = free_port(), root / "floor"
    script = Path(__file__).with_name("receive_floor.py")
    yield "floor (fsync)", [sys.executable, str(script), str(port), str(folder)], port, folder
    port, folder = free_port(), root / "storescp"
    yield (
        "DCMTK storescp (no fsync)",
        [STORESCP, "--fork", "-aet", "RADSERVE", "-od", str(folder), str(port)],
        port,
        folder,
    )
    orthanc = shutil.which("Orthanc", path="/usr/sbin:/usr/bin")
    if orthanc is None:
        print("Orthanc is not installed: left out", file=sys.stderr)
        return
    port, folder = free_port(), root / "orthanc"
    configuration = {
        "StorageDirectory": str(folder),
        "IndexDirectory": str(folder),
        "SyncStorageArea": True,
        "DicomAet": "RADSERVE",
        "DicomPort": port,
        "HttpServerEnabled": False,
        "Plugins": [],
        "DicomThreadsCount": 4,
        "TcpNoDelay": True,
    }
    (root / "orthanc.json").write_text(json.dumps(configuration))
    yield ORTHANC, [orthanc, str(root / "orthanc.json")], port, folder


def measure(slices: int, rounds: int) -> dict[str, Timing]:
    timings: dict[str, Timing] = {}
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        root = Path(name)
        receivers = []
        for title, command, port, folder in commands(root):
            folder.mkdir()
            receivers.append(stack.enter_context(running(title, command, port, folder)))
        for turn in range(rounds + 1):  # the first one warms up
            for associations in ASSOCIATIONS:
                source = Path(tempfile.mkdtemp(dir=MEMORY if MEMORY.is_dir() else name))
                write_slices(source, f"{turn} {associations}", slices)
                files = sorted(source.iterdir())
                for receiver in receivers[turn % len(receivers) :] + receivers[: turn % len(receivers)]:
                    os.sync()  # nobody pays for the writes of the one before
                    before = receiver.cpu_seconds()
                    seconds = send(receiver, files, associations)
                    if turn:
                        timing = timings.setdefault(receiver.name, Timing())
                        timing.seconds[associations].append(seconds)
                        timing.cpu_seconds[associations].append(receiver.cpu_seconds() - before)
                shutil.rmtree(source)
    return timings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slices", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--serve", nargs=2, metavar=("PORT", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        asyncio.run(serve(int(arguments.serve[0]), Path(arguments.serve[1])))
        return
    timings = measure(arguments.slices, arguments.rounds)
    load = os.getloadavg()[0]
    print(
        f"{arguments.slices} slices, {arguments.rounds} rounds, {os.cpu_count()} cores, load {load:.0f}, "
        f"{platform.platform()}"
    )
    orthanc = timings.get(ORTHANC)
    for name, timing in timings.items():
        for associations, seconds in timing.seconds.items():
            ratio = ""
            if orthanc and orthanc is not timing:
                pairs = zip(orthanc.seconds[associations], seconds, strict=True)
                ratio = f", {median(theirs / ours for theirs, ours in pairs):.2f} of Orthanc"
            rate = arguments.slices / median(seconds)
            spread = f"{arguments.slices / max(seconds):.0f} to {arguments.slices / min(seconds):.0f}"
            cpu = median(timing.cpu_seconds[associations]) / arguments.slices * 1e3
            print(
                f"{name:28} {associations} associations: {rate:6.0f} slices/s (median; {spread}), "
                f"{cpu:.1f} ms of CPU each{ratio}"
            )
    if arguments.json:
        results = {name: timing.seconds for name, timing in timings.items()}
        arguments.json.write_text(json.dumps({"slices": arguments.slices, "seconds": results}, indent=2))


if __name__ == "__main__":
    main()
