"""Seeded mutants of real and made DICOM files, and what a worker answers to one."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from pydicom.data import get_testdata_files
from pydicom.uid import JPEGBaseline8Bit

from radserve.dicom_io.decode import decode_image
from radserve.dicom_io.parse import parse_header, source_context
from tests.support.bad_dicoms import BYTES, WORDS
from tests.support.dicoms import LOSSLESS_SYNTAXES, cr, part10, us

LARGEST_SEED = 400_000
EXTREMES = (b"\xff\xff\xff\xff", b"\0\0\0\0", b"\xff\xff\xff\x7f", b"\xfe\xff\0\xe0", b"\xfe\xff\xdd\xe0", b"\0\0\1\0")
VRS = (b"SQ", b"UN", b"OB", b"US", b"DS", b"PN", b"UI", b"\0\0")
MARKERS = (b"\xff\xc3", b"\xff\xc0", b"\xff\xf7", b"\xff\x4f", b"\xff\x51", b"\xff\xda", b"\xff\xc4", b"\xff\xd9")


def seeds() -> list[bytes]:
    """Small real files, of a kind each once, and made ones in every transfer syntax."""
    real = {path.name: path for path in map(Path, get_testdata_files("**/*.dcm"))}
    small = [path.read_bytes() for _, path in sorted(real.items()) if path.stat().st_size <= LARGEST_SEED]
    made = [part10(us(np.stack([BYTES] * 2)), syntax) for syntax in (*LOSSLESS_SYNTAXES, JPEGBaseline8Bit)]
    return small + made * 3 + [part10(cr(WORDS), syntax) for syntax in LOSSLESS_SYNTAXES] * 3


def mutants(seed: int, count: int) -> Iterator[bytes]:
    """`count` files, each a seed with one to three changes: bits, lengths, VRs, codestream headers, cuts, splices."""
    random = np.random.default_rng(seed)
    sources = seeds()
    for _ in range(count):
        data = bytearray(sources[random.integers(len(sources))])
        for _ in range(int(random.integers(1, 4))):
            if len(data) > 200:
                _change(data, random, sources)
        yield bytes(data)


def _change(data: bytearray, random: np.random.Generator, sources: list[bytes]) -> None:
    at = int(random.integers(132, len(data)))
    size = int(random.integers(1, 64))
    kind = int(random.integers(9))
    if kind == 0:
        data[at] ^= 1 << int(random.integers(8))
    elif kind == 1:
        del data[at : at + size]
    elif kind == 2:
        data[at:at] = data[at : at + size]
    elif kind == 3:
        data[at : at + 4] = EXTREMES[random.integers(len(EXTREMES))]
    elif kind == 4 and (start := data.find(b"\x28\0", 132, 20_000)) > 0:  # group 0028: the layout of the pixels
        data[start + 8 : start + 10] = struct.pack("<H", int(random.integers(1 << 16)))
    elif kind == 5 and (start := data.find(MARKERS[random.integers(len(MARKERS))], 132)) > 0:
        start += 2 + int(random.integers(16))
        data[start : start + 1] = bytes([int(random.integers(256))])
    elif kind == 6:
        data[at + 4 : at + 6] = VRS[random.integers(len(VRS))]
    elif kind == 7:
        other = sources[random.integers(len(sources))]
        start = int(random.integers(len(other)))
        data[at : at + size] = other[start : start + size]
    else:
        del data[at:]


def read(path: Path) -> str:
    """Parse and decode in a worker; the shape of what came out. Raises RadserveError as these do."""
    parse_header(path)
    source_context(path)
    return str(decode_image(path).array.shape)
