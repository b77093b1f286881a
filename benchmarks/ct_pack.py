"""What a volume costs a server: the pack ct-chest-mini on the chest CT it learned from, and what loading it costs.

    python benchmarks/ct_pack.py [--runs 3]

Starts `radserve serve` with and without the pack, in turns, and reports the processor time until it listens and the
memory of its processes; then analyses the CT and reports the stages of the results (timings_ms, wall time) and the
greatest memory. Medians.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import psutil

from radserve.clinical_context import ClinicalContext
from radserve.dicom_io.files import FoundFile, discover
from radserve.models.train.ct.data import read_chest_ct
from radserve.results import Artifact
from radserve.server.client import RadserveClient
from radserve.v1 import common_pb2

RADSERVE = Path(sys.executable).with_name("radserve")
EXAMPLE = Path(__file__).parents[1] / "examples" / "chest_ct_dicom.py"


@contextmanager
def served(folder: Path, *arguments: str) -> Iterator[tuple[str, psutil.Process]]:
    """A server as its user starts it: its address and its process."""
    command = [str(RADSERVE), "serve", "--port", "0", "--data-dir", str(folder), *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "COLUMNS": "200"}) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if found := re.search(r"listens on (\S+)", line):
                break
        else:
            raise SystemExit("the server did not start")
        try:
            yield found[1], psutil.Process(process.pid)
        finally:
            process.terminate()


def processor_s(process: psutil.Process) -> float:
    """The processor time of a process and all that it started, those that have ended too."""
    total = 0.0
    for each in [process, *process.children(recursive=True)]:
        try:
            times = each.cpu_times()
        except psutil.Error:
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total


def memory_mib(process: psutil.Process) -> float:
    """The proportional memory of a process and all that it started (PSS: what is shared counts once)."""
    total = 0
    for each in [process, *process.children(recursive=True)]:
        try:
            total += each.memory_full_info().pss
        except psutil.Error:
            continue
    return total / 2**20


async def analysed(address: str, files: list[FoundFile]) -> tuple[dict[str, float], float, dict[str, int]]:
    """The timings of a result, the seconds with all its files, and their sizes."""
    async with RadserveClient(address) as client:
        uid = {each.study_instance_uid for each in await client.import_files(files)}.pop()
        began = time.monotonic()
        timings: dict[str, float] = {}
        sizes = {}
        async for event in client.analyse(uid, "ct-chest-mini", ClinicalContext()):
            if isinstance(event, Artifact):
                sizes[event.name] = len(event.data)
            elif isinstance(event, common_pb2.StudyResult):
                timings = {each.stage: each.milliseconds for each in event.timings}
        return timings, time.monotonic() - began, sizes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    runs = parser.parse_args().runs
    spec = importlib.util.spec_from_file_location("chest_ct_dicom", EXAMPLE)
    assert spec is not None and spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        example.write_series(read_chest_ct(), folder / "ct")
        files = [each for each in discover([folder / "ct"]) if isinstance(each, FoundFile)]
        starts: dict[str, list[tuple[float, float]]] = {"without": [], "with": []}
        for run in range(runs):
            for name, arguments in (("without", ()), ("with", ("--pack", "ct-chest-mini"))):
                with served(folder / f"{name}-{run}", *arguments) as (_, process):
                    starts[name].append((processor_s(process), memory_mib(process)))
        for name, found in starts.items():
            print(f"{name} the pack: listens after {median(s for s, _ in found):.1f} s of processor time, "
                  f"{median(m for _, m in found):.0f} MiB")  # fmt: skip
        with served(folder / "data", "--pack", "ct-chest-mini") as (address, process):
            greatest, done = [0.0], threading.Event()

            def watch() -> None:
                while not done.wait(0.25):
                    greatest[0] = max(greatest[0], memory_mib(process))

            watcher = threading.Thread(target=watch)
            watcher.start()
            results = [asyncio.run(analysed(address, files)) for _ in range(runs)]
            done.set()
            watcher.join()
        for stage in results[0][0]:
            print(f"{stage}: {median(timings[stage] for timings, _, _ in results) / 1000:.2f} s")
        seconds = median(each for _, each, _ in results)
        print(f"with all files: {seconds:.2f} s; greatest memory {greatest[0]:.0f} MiB")
        print({name: size for name, size in results[0][2].items() if name.endswith(".dcm")})
    print(f"load average {os.getloadavg()[0]:.0f}, {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
