"""Decode one full radiograph in each transfer syntax: radserve's `decode_image` against pydicom's `pixel_array`.

    python benchmarks/decode.py [--runs 11] [--keep-memory] [--json FILE]

The pixels are those of RG1_UNCR of pydicom-data (extra `demo`), 1955 x 1841 of 15 bits, coded anew without loss. Both
start from the file: pydicom gives the stored values, radserve an Image (modality values, header
for derived objects). The ways are run in turns, so that a busy machine is busy for both, in one thread of this process.
pydicom takes the first of its plugins that is installed; the table names it. Where python-gdcm is installed, pydicom
takes GDCM for the JPEG family; radserve never uses it. Every array is compared before a time is printed.
With --keep-memory the process keeps what is freed, for both ways, as radserve's workers do.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate
from pydicom.pixels import get_decoder
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from radserve._worker_process import keep_freed_memory
from radserve.dicom_io.decode import decode_image

CODERS: dict[str, tuple[UID, Callable[[np.ndarray], bytes] | None]] = {
    "raw": (ExplicitVRLittleEndian, None),
    "RLE": (RLELossless, None),
    "JPEG lossless SV1": (
        JPEGLosslessSV1,
        lambda pixels: imagecodecs.jpeg8_encode(pixels, lossless=True, predictor=1, bitspersample=16),
    ),
    "JPEG-LS": (JPEGLSLossless, imagecodecs.jpegls_encode),
    "JPEG 2000": (
        JPEG2000Lossless,
        lambda pixels: imagecodecs.jpeg2k_encode(pixels, codecformat="j2k", reversible=True, bitspersample=15),
    ),
    "HTJ2K": (HTJ2KLossless, lambda pixels: imagecodecs.htj2k_encode(pixels, reversible=True)),
}


@dataclass(frozen=True)
class Row:
    """One syntax: medians in milliseconds, and pydicom's time over ours."""

    syntax: str
    file_bytes: int
    pydicom_plugin: str
    cpu_ms: float
    wall_ms: float
    pydicom_cpu_ms: float
    pydicom_wall_ms: float
    cpu_ratio: float
    wall_ratio: float


def write_file(folder: Path, name: str) -> Path:
    """The radiograph in the syntax `name`."""
    syntax, coder = CODERS[name]
    ds = pydicom.dcmread(get_testdata_file("RG1_UNCR.dcm"))
    if syntax == RLELossless:
        ds.compress(RLELossless, generate_instance_uid=False)
    elif coder is not None:
        stream = bytes(coder(ds.pixel_array))
        ds.PixelData = encapsulate([stream + b"\0" * (len(stream) % 2)])
        ds["PixelData"].VR = "OB"
        ds["PixelData"].is_undefined_length = True
    ds.file_meta.TransferSyntaxUID = syntax
    path = folder / name.replace(" ", "_")
    ds.save_as(path, implicit_vr=False, little_endian=True)
    return path


def plugin(name: str) -> str:
    syntax = CODERS[name][0]
    return "pydicom" if not syntax.is_encapsulated else str(get_decoder(syntax).available_plugins[0])


def radserve_way(path: Path) -> np.ndarray:
    return decode_image(path).array[0]


def pydicom_way(path: Path) -> np.ndarray:
    return np.asarray(pydicom.dcmread(path).pixel_array)


def measure(name: str, path: Path, runs: int) -> Row:
    ways = (radserve_way, pydicom_way)
    if not np.array_equal(*(way(path) for way in ways)):  # this round warms caches too
        raise SystemExit(f"{name}: the two ways give different pixels")
    cpu: list[list[float]] = [[], []]
    wall: list[list[float]] = [[], []]
    for _ in range(runs):
        for index, way in enumerate(ways):
            started_cpu, started = time.process_time(), time.perf_counter()
            way(path)
            wall[index].append((time.perf_counter() - started) * 1e3)
            cpu[index].append((time.process_time() - started_cpu) * 1e3)
    (own_cpu, their_cpu), (own_wall, their_wall) = (list(map(statistics.median, each)) for each in (cpu, wall))
    return Row(
        syntax=name,
        file_bytes=path.stat().st_size,
        pydicom_plugin=plugin(name),
        cpu_ms=own_cpu,
        wall_ms=own_wall,
        pydicom_cpu_ms=their_cpu,
        pydicom_wall_ms=their_wall,
        cpu_ratio=their_cpu / own_cpu,
        wall_ratio=their_wall / own_wall,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=11)
    parser.add_argument("--json", type=Path, help="write the rows there too")
    parser.add_argument("--keep-memory", action="store_true", help="keep freed memory, as radserve's workers do")
    arguments = parser.parse_args()
    if arguments.keep_memory:
        keep_freed_memory()
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}")
    print(", ".join(f"{name} {version(name)}" for name in ("pydicom", "imagecodecs", "numpy")))
    print(f"\n{'':18} {'radserve, ms':>15} {'pydicom, ms':>15} {'ratio':>12}")
    print(f"{'syntax':18} {'cpu':>7} {'wall':>7} {'cpu':>7} {'wall':>7} {'cpu':>6} {'wall':>5}  plugin")
    rows = []
    with tempfile.TemporaryDirectory(prefix="radserve-decode-") as folder:
        for name in CODERS:
            row = measure(name, write_file(Path(folder), name), arguments.runs)
            rows.append(row)
            print(
                f"{row.syntax:18} {row.cpu_ms:7.1f} {row.wall_ms:7.1f} {row.pydicom_cpu_ms:7.1f} "
                f"{row.pydicom_wall_ms:7.1f} {row.cpu_ratio:6.2f} {row.wall_ratio:5.2f}  {row.pydicom_plugin}"
            )
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")


if __name__ == "__main__":
    main()
