"""The frames of encapsulated pixel data (PS3.5 A.4): fragments of a sequence of items, grouped into codestreams."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import pairwise

from radserve.dicom_io.nested import Buffer
from radserve.dicom_io.part10 import PixelElement
from radserve.dicom_io.plain import Elements
from radserve.errors import DicomError, ErrorCode

ITEM, DELIMITER = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"
END_OF_IMAGE = b"\xff\xd9"  # of JPEG, JPEG-LS and JPEG 2000 alike
Span = tuple[int, int]


def frame_codestreams(data: Buffer, pixels: PixelElement, elements: Elements, frames: int) -> Iterator[bytes]:
    """The codestream of each frame, one at a time. Raises as `frame_spans`."""
    for group in frame_spans(data, pixels, elements, frames):
        yield b"".join(data[start:stop] for start, stop in group)


def frame_spans(data: Buffer, pixels: PixelElement, elements: Elements, frames: int) -> list[list[Span]]:
    """Where the fragments of each frame are in `data`: (start, stop) of each.

    Raises DicomError TRUNCATED where the items end early, DECODE_FAILED where they are none, and PIXELS_INCONSISTENT
    where they do not add up to `frames`.
    """
    spans = _items(data, pixels)
    table, fragments = spans[0], spans[1:]
    if not fragments:
        raise DicomError(ErrorCode.NO_PIXELS, "the encapsulated pixel data has no fragment")
    groups = _group(data, table, fragments, elements, frames)
    if len(groups) != frames:
        text = f"the encapsulated pixel data holds {len(groups)} frames, NumberOfFrames is {frames}"
        raise DicomError(ErrorCode.PIXELS_INCONSISTENT, text)
    return groups


def _items(data: Buffer, pixels: PixelElement) -> list[Span]:
    """(start, stop) of the value of each item; the first is the Basic Offset Table."""
    end = len(data) if pixels.length is None else pixels.offset + pixels.length
    if end > len(data):
        raise _truncated()
    spans: list[Span] = []
    at = pixels.offset
    while at < end or pixels.length is None:
        head = data[at : at + 8]
        if len(head) < 8:
            raise _truncated()
        if head[:4] == DELIMITER:
            break
        if head[:4] != ITEM:
            raise DicomError(ErrorCode.DECODE_FAILED, "the pixel data is not a sequence of fragments")
        stop = at + 8 + struct.unpack("<I", head[4:])[0]
        if stop > end:
            raise _truncated()
        spans.append((at + 8, stop))
        at = stop
    if not spans:
        raise DicomError(ErrorCode.NO_PIXELS, "the encapsulated pixel data has no fragment")
    return spans


def _group(data: Buffer, table: Span, fragments: list[Span], elements: Elements, frames: int) -> list[list[Span]]:
    if frames == 1:
        return [fragments]
    if len(fragments) == frames:
        return [[fragment] for fragment in fragments]
    offsets = _offsets(data, table, elements)
    if offsets:
        return _group_by_offset(fragments, offsets)
    groups: list[list[Span]] = [[]]  # no table: a frame ends with the fragment that ends an image
    for start, stop in fragments:
        groups[-1].append((start, stop))
        if END_OF_IMAGE in data[max(start, stop - 10) : stop]:
            groups.append([])
    return [group for group in groups if group]


def _offsets(data: Buffer, table: Span, elements: Elements) -> list[int]:
    extended = elements.get("ExtendedOffsetTable")
    if isinstance(extended, bytes) and len(extended) % 8 == 0 and extended:
        return list(struct.unpack(f"<{len(extended) // 8}Q", extended))
    start, stop = table
    count = (stop - start) // 4
    return list(struct.unpack(f"<{count}I", data[start : start + 4 * count]))


def _group_by_offset(fragments: list[Span], offsets: list[int]) -> list[list[Span]]:
    first = fragments[0][0] - 8  # offsets count from the first item's tag
    places = {start - 8 - first: index for index, (start, _) in enumerate(fragments)}
    if offsets[0] != 0 or offsets != sorted(set(offsets)) or not places.keys() >= set(offsets):
        raise DicomError(ErrorCode.PIXELS_INCONSISTENT, "the offset table does not point to the fragments")
    bounds = [places[offset] for offset in offsets] + [len(fragments)]
    return [fragments[start:stop] for start, stop in pairwise(bounds)]


def _truncated() -> DicomError:
    return DicomError(ErrorCode.TRUNCATED, "the file ends inside the encapsulated pixel data")
