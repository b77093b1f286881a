"""Whether two Part 10 files hold the same instance: the same data set in the same transfer syntax.

The preamble and the file meta information belong to the file: a PACS writes them anew when it gives a file by WADO-RS,
and we write them for what comes by C-STORE. The data set, the pixels with it, has to be the same byte for byte, but for
Data Set Trailing Padding (FFFC,FFFC), which means nothing (PS3.10 section 7.2): DCMTK drops it when it sends a file.
"""

from __future__ import annotations

import filecmp
import mmap
import struct
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from radserve.dicom_io.file_meta import DEFLATED, EXPLICIT_BIG, IMPLICIT_LITTLE, read_file_meta
from radserve.dicom_io.quick_header import quick_header
from radserve.errors import DicomError

HEAD_BYTES = 64 << 10  # with the file meta information, whatever private information it holds
PIECE_BYTES = 1 << 20
PADDING_TAG = (0xFFFC, 0xFFFC)
PADDING_VRS = (b"OB", b"OW", b"UN")  # the standard has OB


def same_instance(one: Path, other: Path) -> bool:
    """Compare two files that are whole, as the store takes them. Raises OSError."""
    if filecmp.cmp(one, other, shallow=False):
        return True
    with one.open("rb") as first, other.open("rb") as second:
        try:
            metas = read_file_meta(first.read(HEAD_BYTES)), read_file_meta(second.read(HEAD_BYTES))
        except DicomError:
            return False
        if replace(metas[0], offset=0) != replace(metas[1], offset=0):
            return False
        syntax = metas[0].transfer_syntax_uid
        one_body, other_body = _Body.of(first, metas[0].offset), _Body.of(second, metas[1].offset)
        shorter, longer = sorted((one_body, other_body), key=_size)
        may_be_same = shorter.size in (longer.size, _padding_start(longer, syntax, shorter.size))
        if may_be_same and _same_bytes(shorter, longer, shorter.size):
            return True
        # Both may be padded, each in its way: only who knows where the pixels end can tell padding from pixels.
        end = _padding_start(shorter, syntax)
        return end is not None and end == _padding_start(longer, syntax) and _same_bytes(shorter, longer, end)


@dataclass(frozen=True, slots=True)
class _Body:
    """The data set of an open file: `size` bytes from `offset`."""

    file: BinaryIO
    offset: int
    size: int

    @classmethod
    def of(cls, file: BinaryIO, offset: int) -> _Body:
        return cls(file, offset, file.seek(0, 2) - offset)

    def start(self, at: int = 0) -> BinaryIO:
        """The file, at a place of the data set."""
        self.file.seek(self.offset + at)
        return self.file


def _size(body: _Body) -> int:
    return body.size


def _same_bytes(one: _Body, other: _Body, size: int) -> bool:
    first, second = one.start(), other.start()
    while size:
        piece = first.read(min(PIECE_BYTES, size))
        if not piece or piece != second.read(len(piece)):
            return False
        size -= len(piece)
    return True


def _is_padding(body: _Body, at: int, syntax: str) -> bool:
    """Whether what is left from a place on is one element of trailing padding, to the last byte."""
    head = body.start(at).read(12)
    order = ">" if syntax == EXPLICIT_BIG else "<"
    long_form = syntax != IMPLICIT_LITTLE
    start = 12 if long_form else 8
    if syntax == DEFLATED or len(head) < start or struct.unpack_from(f"{order}HH", head) != PADDING_TAG:
        return False
    if long_form and head[4:6] not in PADDING_VRS:
        return False
    return bool(struct.unpack_from(f"{order}I", head, start - 4)[0] == body.size - at - start)


def _padding_start(body: _Body, syntax: str, at: int | None = None) -> int | None:
    """Where padding begins: at a place behind the pixels, or right behind them; None where none does.

    Where an unusual data set has its pixels is not known here: such padding is found at a given place alone.
    """
    with mmap.mmap(body.file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        quick = quick_header(data)
    pixels_end = quick.pixels_end - body.offset if quick else None
    at = pixels_end if at is None else at
    if at is None or at < (pixels_end or 0):
        return None
    return at if _is_padding(body, at, syntax) else None
