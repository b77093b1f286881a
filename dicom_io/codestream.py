"""What a codestream says of itself, read before it is decoded: the tags of a file may say something else."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from radserve.errors import DicomError, ErrorCode

# ITU-T T.81 table B.1 and T.87 C.1.1
BASELINE, EXTENDED, PROGRESSIVE, LOSSLESS, JPEG_LS = 0xC0, 0xC1, 0xC2, 0xC3, 0xF7
START_OF_FRAME = frozenset((*range(0xC0, 0xD0), JPEG_LS)) - {0xC4, 0xC8, 0xCC}
START_OF_SCAN, END_OF_IMAGE, RESTART_INTERVAL, ADOBE = 0xDA, 0xD9, 0xDD, 0xEE
RESTARTS = frozenset(range(0xD0, 0xD8))
BETWEEN_SCANS = frozenset((0xC4, START_OF_SCAN, 0xDB, RESTART_INTERVAL, 0xFE))
J2K_START = b"\xff\x4f\xff\x51"  # SOC, SIZ: T.800 A.4.1 and A.5.1
PADDING = b"\x00\xff"
START_OF_TILE_PART, END_OF_CODESTREAM = b"\xff\x90", b"\xff\xd9"  # SOT and EOC: T.800 A.4.2 and A.4.4


@dataclass(frozen=True, slots=True)
class FrameHeader:
    """SOF of JPEG and JPEG-LS, SIZ of JPEG 2000. `process` is the SOF marker's code, 0 for JPEG 2000.

    `adobe_transform` is the colour transform of an Adobe APP14 segment, None without one.
    """

    rows: int
    columns: int
    components: int
    precision: int
    signed: bool
    process: int
    adobe_transform: int | None = None


def failed(problem: str) -> DicomError:
    """The error of a codestream that cannot be decoded."""
    return DicomError(ErrorCode.DECODE_FAILED, f"the codestream cannot be decoded: {problem}")


def jpeg_header(data: bytes) -> FrameHeader:
    """Read the frame header of a JPEG or JPEG-LS image. Raises DECODE_FAILED."""
    adobe = None
    for marker, start, stop in _segments(data):
        if marker == ADOBE and data[start : start + 5] == b"Adobe" and stop - start >= 12:
            adobe = data[start + 11]
        if marker in START_OF_FRAME:
            if stop - start < 6:
                break
            precision, rows, columns, components = struct.unpack(">BHHB", data[start : start + 6])
            return FrameHeader(rows, columns, components, precision, False, marker, adobe)
        if marker == START_OF_SCAN:
            break
    raise failed("it has no frame header")


def j2k_header(data: bytes) -> tuple[FrameHeader, int]:
    """Read the SIZ segment of a JPEG 2000 codestream, bare or in a JP2 file, and where the codestream starts."""
    start = data.find(J2K_START)
    size = data[start + 4 : start + 42]
    if start < 0 or len(size) < 38:
        raise failed("it has no SIZ segment")
    _, _, right, bottom, left, top, _, _, _, _, components = struct.unpack(">HHIIIIIIIIH", size)
    depths = data[start + 42 : start + 42 + 3 * components : 3]
    if not components or len(depths) < components or len(set(depths)) != 1:
        raise failed("its components are not of one kind")
    if right <= left or bottom <= top:
        raise failed("its image area is empty")
    return FrameHeader(bottom - top, right - left, components, (depths[0] & 0x7F) + 1, depths[0] > 0x7F, 0), start


def check_tile_parts(data: bytes) -> None:
    """Refuse a JPEG 2000 codestream (T.800 and T.814) with a tile missing or cut: decoders fill it and only warn.

    Raises DECODE_FAILED.
    """
    right, bottom, _, _, width, height, left, top = struct.unpack(">8I", data[8:40])
    if not width or not height or right <= left or bottom <= top:
        raise failed("its tiles are empty")
    tiles = -(-(right - left) // width) * -(-(bottom - top) // height)
    at, found = _first_tile_part(data), set()
    while data[at : at + 2] == START_OF_TILE_PART:
        head = data[at + 4 : at + 10]
        if len(head) < 6:
            raise failed("a tile-part is cut")
        index, length = struct.unpack(">HI", head)
        stop = at + length if length else len(data)  # the last may leave its length open
        if stop > len(data) or stop < at + 14:
            raise failed("a tile-part is cut")
        found.add(index)
        at = stop
    if len(found) != tiles:
        raise failed(f"it has {len(found)} of {tiles} tiles")
    if data[at : at + 2] != END_OF_CODESTREAM and data[at:].strip(PADDING):
        raise failed("its tile-parts do not follow each other")


def _first_tile_part(data: bytes) -> int:
    at = 2
    while (marker := data[at : at + 2]) != START_OF_TILE_PART:
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        if marker[:1] != b"\xff" or length < 2:
            raise failed("its main header is broken")
        at += 2 + length
    return at


def jpeg_end(data: bytes) -> int:
    """Where the EOI marker of a JPEG image is, with nothing but entropy-coded data between the scans and it.

    Decoders fill what is missing with grey and only warn, so an image without its end, or with a foreign marker in its
    scan, is refused here. Raises DECODE_FAILED.
    """
    end = len(data.rstrip(PADDING)) - 1
    if end < 2 or data[end : end + 1] != b"\xd9" or data[end - 1 : end] != b"\xff":
        raise failed("it has no end")
    scan, restarts = _first_scan(data)
    codes = np.frombuffer(data, np.uint8, count=end - 1 - scan, offset=scan)
    following = codes[1:][codes[:-1] == 0xFF]
    allowed = BETWEEN_SCANS | {0x00, 0xFF} | (RESTARTS if restarts else frozenset())
    if not set(np.unique(following).tolist()) <= allowed:
        raise failed("there is a foreign marker inside its scan")
    return end - 1


def _first_scan(data: bytes) -> tuple[int, bool]:
    restarts = False
    for marker, start, stop in _segments(data):
        restarts = restarts or (marker == RESTART_INTERVAL and any(data[start:stop]))
        if marker == START_OF_SCAN:
            return stop, restarts
    raise failed("it has no scan")


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """(marker code, start, stop) of the segments from the start to the first scan."""
    if data[:2] != b"\xff\xd8":
        raise failed("it is no JPEG image")
    at = 2
    while True:
        while data[at : at + 2] == b"\xff\xff":
            at += 1
        head = data[at : at + 4]
        if len(head) < 4 or head[0] != 0xFF:
            raise failed("its header is broken")
        stop = at + 2 + struct.unpack(">H", head[2:])[0]
        if stop > len(data) or stop < at + 4:
            raise failed("its header is cut")
        yield head[1], at + 4, stop
        at = stop
