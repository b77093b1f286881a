"""Frames and bulk data of a file: where their bytes are, or the bytes where they have to be made. For workers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import numpy as np
from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian

from radserve._checks import invalid
from radserve.dicom_io.codecs import DecodedFrame, decode_frame
from radserve.dicom_io.encapsulated import Span, frame_spans
from radserve.dicom_io.parse import pixel_element
from radserve.dicom_io.part10 import DicomFile, open_dicom, quiet
from radserve.dicom_io.pixel_layout import DecodeLimits, PixelLayout
from radserve.dicom_io.stored import stored_frames
from radserve.errors import DicomError, ErrorCode, RadserveError


@dataclass(frozen=True, slots=True)
class Piece:
    """A body: spans (start, stop) of the file one after the other, or else `data`.

    `aside`: the spans are of the file that `put_aside` wrote.
    """

    spans: tuple[Span, ...] = ()
    data: bytes = field(default=b"", repr=False)
    aside: bool = False

    @property
    def size(self) -> int:
        """Bytes of the body."""
        return sum(stop - start for start, stop in self.spans) or len(self.data)


def put_aside(target: Path, make: Callable[..., list[Piece]], *args: object) -> list[Piece]:
    """What `make(*args)` gives, but with data in the file `target`, so that it never is in the service's memory.

    Without data the file is not made.
    """
    pieces = make(*args)
    if not any(piece.data for piece in pieces):
        return pieces
    with target.open("xb") as out:
        return [piece if piece.spans else _written(piece, out) for piece in pieces]


def _written(piece: Piece, out: BinaryIO) -> Piece:
    start = out.tell()
    out.write(piece.data)
    return Piece(((start, out.tell()),), aside=True)


class NoSuchPartError(RadserveError):
    """The file has no such frame, element or item (HTTP 404)."""

    def __init__(self, client_message: str) -> None:
        super().__init__(ErrorCode.INVALID_ARGUMENT, client_message)

    def __reduce__(self) -> tuple[object, ...]:
        return NoSuchPartError, (self.client_message,)


def stored_pieces(path: Path, numbers: Sequence[int]) -> list[Piece]:
    """Frames (counted from 1) as they are stored: codestreams, or uncompressed pixels.

    Raises NoSuchPartError, and DicomError as decoding does.
    """
    with quiet():
        file, layout = _opened(path)
        _check(numbers, layout)
        if not UID(file.transfer_syntax_uid).is_encapsulated:
            return [_native(file, layout, number) for number in numbers]
        spans = frame_spans(file.data, pixel_element(file), file.elements, layout.frames)
        return [Piece(tuple(spans[number - 1])) for number in numbers]


def check_frames(path: Path, numbers: Sequence[int]) -> None:
    """Raise NoSuchPartError unless the file has these frames."""
    with quiet():
        _, layout = _opened(path)
        _check(numbers, layout)


def decoded_pieces(path: Path, number: int) -> list[Piece]:
    """A frame as uncompressed little-endian pixels, colour by pixel. Raises as `stored_pieces`."""
    with quiet():
        file, layout = _opened(path)
        _check((number,), layout)
        if is_native_little(file.transfer_syntax_uid):
            return [_native(file, layout, number)]
        DecodeLimits().check(layout, layout.samples * layout.dtype.itemsize)
        return [Piece(data=frame_bytes(frame_of(file, layout, number), layout))]


def frame_of(file: DicomFile, layout: PixelLayout, number: int) -> DecodedFrame:
    """Decode one frame, and no other where they are compressed. Raises as `stored_frames`."""
    if UID(file.transfer_syntax_uid).is_encapsulated and not layout.floating:
        spans = frame_spans(file.data, pixel_element(file), file.elements, layout.frames)[number - 1]
        data = b"".join(file.data[start:stop] for start, stop in spans)
        return decode_frame(data, file.transfer_syntax_uid, layout)
    return next(islice(stored_frames(file, layout), number - 1, None))


def frame_bytes(frame: DecodedFrame, layout: PixelLayout) -> bytes:
    """Stored values as uncompressed little-endian pixels."""
    if layout.bits_allocated == 1:
        return np.packbits(frame.values, bitorder="little").tobytes()
    return np.ascontiguousarray(frame.values, frame.values.dtype.newbyteorder("<")).tobytes()


def is_native_little(transfer_syntax_uid: str) -> bool:
    """Whether pixels stand in the file as they do in Explicit VR Little Endian."""
    return not UID(transfer_syntax_uid).is_encapsulated and transfer_syntax_uid != ExplicitVRBigEndian


def bulk_pieces(path: Path, place: Sequence[int]) -> list[Piece]:
    """The value of an element: `place` is its tag, or tags with item numbers (from 1) between them.

    Encapsulated pixels are one piece for each frame. Raises NoSuchPartError.
    """
    with quiet():
        file = open_dicom(path)
        if file.pixels is not None and tuple(place) == (file.pixels.tag,):
            return _pixel_pieces(file)
        found = _element(file.dataset, place)
        if not isinstance(found.value, bytes) or "SQ" in (found.VR, _dictionary_vr(found.tag)):
            raise NoSuchPartError("the element has no bulk data")
        is_in_file = len(place) == 1 and file.transfer_syntax_uid != DeflatedExplicitVRLittleEndian
        if is_in_file and found.value and found.length == len(found.value):
            return [Piece(((found.value_tell, found.value_tell + found.length),))]
        return [Piece(data=found.value)]


def _dictionary_vr(tag: int) -> str:
    return dictionary_VR(tag) if dictionary_has_tag(tag) else ""


def _opened(path: Path) -> tuple[DicomFile, PixelLayout]:
    file = open_dicom(path)
    if file.pixels is None:
        raise NoSuchPartError("the instance has no frames")
    return file, PixelLayout.of(file.elements, pixel_element(file).tag)


def _check(numbers: Sequence[int], layout: PixelLayout) -> None:
    if beyond := [number for number in numbers if not 1 <= number <= layout.frames]:
        raise NoSuchPartError(f"there is no frame {beyond[0]}: the instance has {layout.frames}")


def _native(file: DicomFile, layout: PixelLayout, number: int) -> Piece:
    """A frame of uncompressed pixels, in the byte order of the file."""
    pixels = pixel_element(file)
    first, shift = divmod((number - 1) * layout.frame_bits, 8)
    stop = first + layout.frame_bytes
    if shift or layout.frame_bits % 8:
        return Piece(data=frame_bytes(frame_of(file, layout, number), layout))
    if pixels.length is None or stop > min(pixels.length, len(file.data) - pixels.offset):
        raise DicomError(ErrorCode.TRUNCATED, f"the pixel data ends before the end of frame {number}")
    span = pixels.offset + first, pixels.offset + stop
    if file.transfer_syntax_uid == DeflatedExplicitVRLittleEndian:  # the data is inflated, the file is not
        return Piece(data=bytes(file.data[slice(*span)]))
    return Piece((span,))


def _pixel_pieces(file: DicomFile) -> list[Piece]:
    pixels = pixel_element(file)
    if UID(file.transfer_syntax_uid).is_encapsulated:
        layout = PixelLayout.of(file.elements, pixels.tag)
        return [Piece(tuple(spans)) for spans in frame_spans(file.data, pixels, file.elements, layout.frames)]
    if pixels.length is None or pixels.offset + pixels.length > len(file.data):
        raise DicomError(ErrorCode.TRUNCATED, "the file ends inside the pixel data")
    span = pixels.offset, pixels.offset + pixels.length
    if file.transfer_syntax_uid == DeflatedExplicitVRLittleEndian:
        return [Piece(data=bytes(file.data[slice(*span)]))]
    return [Piece((span,))]


def _element(ds: Dataset, place: Sequence[int]) -> RawDataElement:
    """The element before its conversion, which may be the only one that has its place in the file."""
    tag, *rest = place
    if tag not in ds:
        raise NoSuchPartError(f"the instance has no element {tag:08X}")
    if not rest:
        found = ds.get_item(tag)
        if isinstance(found, RawDataElement):
            return found
        value = ds[tag].value
        data = value if isinstance(value, bytes) else value.encode("utf-8") if isinstance(value, str) else None
        return RawDataElement(found.tag, None, -1, data, 0, False, True)
    item, *inner = rest
    try:
        items = list(ds[tag].value)
    except Exception as error:  # pydicom has no common base; its texts quote values
        raise invalid("element", f"{tag:08X}", f"a sequence ({type(error).__name__})") from None
    if not inner or not 1 <= item <= len(items) or not isinstance(items[item - 1], Dataset):
        raise NoSuchPartError(f"the element {tag:08X} has no such item")
    return _element(items[item - 1], inner)
