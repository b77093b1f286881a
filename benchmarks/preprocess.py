"""Decode and preprocess one full radiograph: radserve's path against MONAI's LoadImage and Compose as usually written.

    python benchmarks/preprocess.py [--runs 9] [--threads 1] [--json FILE]

The radiograph is RG1_UNCR of pydicom-data (extra `demo`): raw, and the same pixels as JPEG-LS. The ways are run in
turns, so that a busy machine is busy for all of them. Times are medians, but for the CPU time through the pools: the
kernel counts that of other processes in ticks, so it is the mean of all runs. `--threads` is given to torch for MONAI;
our path uses one thread.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path

import psutil
import pydicom
import torch
from monai.transforms import Compose, EnsureChannelFirst, LoadImage, Resize, ScaleIntensityRange
from pydicom.data import get_testdata_file
from pydicom.uid import JPEGLSLossless

from radserve.dicom_io.decode import DecodeLimits, decode_image
from radserve.pipelines.preprocess.adapter import PRELOAD, MonaiPreprocessor, prepare_now
from radserve.pipelines.preprocess.chain import TransformSpec, chain_of
from radserve.workers import WorkerLimits, WorkerPool

SIZES = (224, 28)
MONAI, IN_PROCESS, POOLS = "MONAI as usually written", "radserve, in process", "radserve, through the pools"
LIMITS = WorkerLimits(memory_bytes=None, cpu_seconds=None, wall_seconds=120.0)


@dataclass(frozen=True)
class Case:
    """One file to one size."""

    syntax: str
    path: Path
    size: int

    @property
    def input_name(self) -> str:
        return str(self.size)


@dataclass
class Timing:
    """The runs of one way through one case, in milliseconds."""

    wall_ms: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Row:
    """One line of the table; the ratios are MONAI's time to this one."""

    syntax: str
    size: int
    way: str
    wall_ms: float
    cpu_ms: float
    wall_ratio: float
    cpu_ratio: float


Way = Callable[[Case], Awaitable[object]]


def chain(size: int) -> tuple[TransformSpec, ...]:
    return chain_of([("VoiWindow", {}), ("ResizeAntialias", {"spatial_size": [size, size]})])


def monai_way(path: Path, threads: int) -> Way:
    """MONAI with the window of the file's header."""
    header = pydicom.dcmread(path, stop_before_pixels=True)
    low = float(header.WindowCenter) - float(header.WindowWidth) / 2
    window = ScaleIntensityRange(a_min=low, a_max=low + float(header.WindowWidth), b_min=0, b_max=1, clip=True)
    compose = {
        size: Compose([EnsureChannelFirst(), window, Resize((size, size), mode="bilinear", anti_aliasing=True)])
        for size in SIZES
    }
    load = LoadImage(reader="PydicomReader")

    async def run(case: Case) -> object:
        torch.set_num_threads(threads)
        return compose[case.size](load(case.path))

    return run


async def in_process(case: Case) -> object:
    return prepare_now(chain(case.size), decode_image(case.path, DecodeLimits()), [0])


def through_pools(decoders: WorkerPool, preprocessor: MonaiPreprocessor) -> Way:
    async def run(case: Case) -> object:
        image = await decoders.run(decode_image, case.path, DecodeLimits())
        return await preprocessor.prepare(image, case.input_name, [0])

    return run


def cpu_seconds() -> float:
    """CPU time of this process, to the nanosecond, and of its children, to the tick."""
    children = (child.cpu_times() for child in psutil.Process().children(recursive=True))
    return time.process_time() + sum(times.user + times.system for times in children)


async def measure(cases: list[Case], ways: dict[str, Way], runs: int) -> dict[tuple[Case, str], Timing]:
    timings = {(case, name): Timing() for case in cases for name in ways}
    for run in range(runs + 1):
        for (case, name), timing in timings.items():
            cpu, wall = cpu_seconds(), time.perf_counter()
            await ways[name](case)
            wall_ms, cpu_ms = (time.perf_counter() - wall) * 1e3, (cpu_seconds() - cpu) * 1e3
            if run:  # the first round starts the workers and warms the caches
                timing.wall_ms.append(wall_ms)
                timing.cpu_ms.append(cpu_ms)
    return timings


def table(timings: dict[tuple[Case, str], Timing]) -> list[Row]:
    times = {
        key: (
            statistics.median(timing.wall_ms),
            (statistics.mean if key[1] == POOLS else statistics.median)(timing.cpu_ms),
        )
        for key, timing in timings.items()
    }
    rows = []
    for (case, way), (wall, cpu) in times.items():
        monai_wall, monai_cpu = times[case, MONAI]
        rows.append(Row(case.syntax, case.size, way, wall, cpu, monai_wall / wall, monai_cpu / cpu))
    return rows


def machine() -> dict[str, object]:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
    return {
        "cpu": model or platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "load": [round(value, 2) for value in os.getloadavg()],
        **{name: version(name) for name in ("monai", "torch", "numpy", "pydicom", "imagecodecs")},
    }


def make_cases(folder: Path) -> list[Case]:
    found = get_testdata_file("RG1_UNCR.dcm", download=False)
    if found is None:
        raise SystemExit("RG1_UNCR.dcm is not here: install the extra 'demo' (pydicom-data)")
    compressed = folder / "jpegls.dcm"
    dataset = pydicom.dcmread(str(found))
    dataset.compress(JPEGLSLossless)
    dataset.save_as(compressed)
    paths = {"raw": Path(str(found)), "JPEG-LS": compressed}
    return [Case(syntax, path, size) for size in SIZES for syntax, path in paths.items()]


async def run(runs: int, threads: int) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        cases = make_cases(Path(folder))
        async with (
            WorkerPool(name="decode", size=1, limits=LIMITS, preload=("radserve.dicom_io.decode",)) as decoders,
            WorkerPool(name="preprocess", size=1, limits=LIMITS, preload=(PRELOAD,)) as workers,
        ):
            preprocessor = MonaiPreprocessor({str(size): chain(size) for size in SIZES}, workers)
            ways: dict[str, Way] = {
                MONAI: monai_way(cases[0].path, threads),
                IN_PROCESS: in_process,
                POOLS: through_pools(decoders, preprocessor),
            }
            return table(await measure(cases, ways, runs))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    before = machine()
    rows = asyncio.run(run(options.runs, options.threads))
    print(f"{before}\nruns: {options.runs}, threads for MONAI: {options.threads}, load after: {machine()['load']}")
    print(f"{'syntax':8} {'size':>4}  {'way':28} {'wall ms':>8} {'x':>5} {'CPU ms':>8} {'x':>5}")
    for row in rows:
        print(
            f"{row.syntax:8} {row.size:4}  {row.way:28} {row.wall_ms:8.1f} {row.wall_ratio:5.1f}"
            f" {row.cpu_ms:8.1f} {row.cpu_ratio:5.1f}"
        )
    if options.json:
        report = {"machine": before, "runs": options.runs, "threads": options.threads, "rows": [*map(asdict, rows)]}
        options.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
