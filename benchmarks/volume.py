"""A CT series from its files to a volume: radserve against MONAI's LoadImage.

    python benchmarks/volume.py [--runs 5] [--slices 200] [--json FILE]

The slices are 693_UNCI of pydicom-data (extra `demo`), 512 x 512, shifted from slice to slice and written anew, raw
and as HTJ2K. MONAI reads the folder with LoadImage by its PydicomReader. radserve runs `decode_volume` in this process,
and `read_volume`, as its store does, with one sandboxed worker and with two. Both give float32 values; radserve's
result carries geometry and the header of each slice, MONAI's the affine. The ways are run in turns; times are medians.
All volumes are compared before a time is printed, and at the end of each measured run one value of each slice is read.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import imagecodecs
import numpy as np
import psutil
import pydicom
from monai.transforms import LoadImage
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian, HTJ2KLossless, generate_uid

from radserve.dicom_io.volume import decode_volume
from radserve.dicom_io.volume_reading import read_volume
from radserve.workers import WorkerLimits, WorkerPool

MONAI = "MONAI LoadImage"
LIMITS = WorkerLimits(memory_bytes=2 * 2**30, cpu_seconds=120, wall_seconds=120)
Way = Callable[[list[Path]], Awaitable[np.ndarray]]


@dataclass(frozen=True)
class Row:
    """One way through one syntax: medians in milliseconds, and MONAI's time over it."""

    syntax: str
    way: str
    cpu_ms: float
    wall_ms: float
    cpu_ratio: float
    wall_ratio: float


def write_series(folder: Path, slices: int, *, htj2k: bool) -> list[Path]:
    source = get_testdata_file("693_UNCI.dcm", download=False)
    if source is None:
        raise SystemExit("693_UNCI.dcm is not here: install the extra 'demo' (pydicom-data)")
    ds = pydicom.dcmread(str(source))
    pixels = ds.pixel_array
    paths = []
    folder.mkdir()
    for index in range(slices):
        shifted = np.ascontiguousarray(np.roll(pixels, index, axis=1))
        ds.SOPInstanceUID = generate_uid(entropy_srcs=[str(index)])
        ds.InstanceNumber = index + 1
        ds.ImagePositionPatient = [*ds.ImagePositionPatient[:2], 2.5 * index]
        ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        ds.PixelData = shifted.tobytes()
        ds["PixelData"].VR = "OW"
        ds["PixelData"].is_undefined_length = False
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        if htj2k:
            stream = bytes(imagecodecs.htj2k_encode(shifted, reversible=True))
            ds.PixelData = encapsulate([stream + b"\0" * (len(stream) % 2)])
            ds["PixelData"].VR = "OB"
            ds["PixelData"].is_undefined_length = True
            ds.file_meta.TransferSyntaxUID = HTJ2KLossless
        paths.append(folder / f"{index:04}.dcm")
        ds.save_as(paths[-1], implicit_vr=False, little_endian=True)
    return paths


async def monai_way(paths: list[Path]) -> np.ndarray:
    volume = LoadImage(reader="PydicomReader", image_only=True)(paths[0].parent)
    return np.asarray(volume).transpose(2, 1, 0)


async def in_process(paths: list[Path]) -> np.ndarray:
    return decode_volume(paths).array


def in_workers(pool: WorkerPool) -> Way:
    async def run(paths: list[Path]) -> np.ndarray:
        return (await read_volume(pool, paths)).array

    return run


def cpu_seconds() -> float:
    """CPU time of this process, to the nanosecond, and of its children, to the tick."""
    children = (child.cpu_times() for child in psutil.Process().children(recursive=True))
    return time.process_time() + sum(times.user + times.system for times in children)


async def measure(syntax: str, paths: list[Path], ways: dict[str, Way], runs: int) -> list[Row]:
    reference = await ways[MONAI](paths)
    for name, way in ways.items():  # warms caches and workers too
        if not np.array_equal(await way(paths), reference):
            raise SystemExit(f"{syntax}: {name} gives other voxels than MONAI")
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(runs):
        for name, way in ways.items():
            started_cpu, started = cpu_seconds(), time.perf_counter()
            (await way(paths))[:, -1, -1].sum()
            times[name].append(((cpu_seconds() - started_cpu) * 1e3, (time.perf_counter() - started) * 1e3))
    medians = {
        name: tuple(statistics.median(values) for values in zip(*each, strict=True)) for name, each in times.items()
    }
    monai_cpu, monai_wall = medians[MONAI]
    return [Row(syntax, name, cpu, wall, monai_cpu / cpu, monai_wall / wall) for name, (cpu, wall) in medians.items()]


async def run(runs: int, slices: int) -> list[Row]:
    rows = []
    preload = ("radserve.dicom_io.volume",)
    with tempfile.TemporaryDirectory(prefix="radserve-volume-") as folder:
        async with (
            WorkerPool(name="one", size=1, limits=LIMITS, preload=preload) as one,
            WorkerPool(name="two", size=2, limits=LIMITS, preload=preload) as two,
        ):
            ways: dict[str, Way] = {
                MONAI: monai_way,
                "decode_volume, in process": in_process,
                "read_volume, one worker": in_workers(one),
                "read_volume, two workers": in_workers(two),
            }
            for syntax, htj2k in (("raw", False), ("HTJ2K", True)):
                rows += await measure(syntax, write_series(Path(folder, syntax), slices, htj2k=htj2k), ways, runs)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--slices", type=int, default=200)
    parser.add_argument("--json", type=Path, help="write the rows there too")
    arguments = parser.parse_args()
    print(f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}, {arguments.slices} slices, runs: {arguments.runs}")
    print(", ".join(f"{name} {version(name)}" for name in ("monai", "pydicom", "imagecodecs", "numpy")))
    rows = asyncio.run(run(arguments.runs, arguments.slices))
    print(f"\n{'syntax':7} {'way':28} {'cpu ms':>8} {'wall ms':>8} {'cpu x':>6} {'wall x':>6}")
    for row in rows:
        print(
            f"{row.syntax:7} {row.way:28} {row.cpu_ms:8.0f} {row.wall_ms:8.0f} "
            f"{row.cpu_ratio:6.1f} {row.wall_ratio:6.1f}"
        )
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")


if __name__ == "__main__":
    main()
