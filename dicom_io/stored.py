"""The stored values of an instance, frame by frame: the pixel element of any DICOM file, before any transform.

Run it in a worker (radserve.workers): decoders of hostile files crash, hang and bloat.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.uid import UID, ExplicitVRBigEndian

from radserve._checks import read_only
from radserve.dicom_io.codecs import DecodedFrame, decode_frame, native_values
from radserve.dicom_io.encapsulated import frame_codestreams
from radserve.dicom_io.parse import pixel_element
from radserve.dicom_io.part10 import DicomFile, PixelElement, open_dicom, quiet
from radserve.dicom_io.pixel_layout import DecodeLimits, PixelLayout
from radserve.dicom_io.repairs import Repair
from radserve.errors import DicomError, ErrorCode

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class StoredPixels:
    """All frames as they are stored: `array` (frames, rows, columns) or (frames, rows, columns, 3), read-only.

    `photometric` is the colour space of the array: that of the header, but RGB where the codestream's own transform was
    undone. Chrominance is repeated where two pixels share it.
    """

    array: Array = field(repr=False)
    photometric: str
    bits_stored: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "array", read_only(self.array))

    @property
    def sha256(self) -> str:
        """SHA-256, hex, of dtype, shape and values: equal for equal pixels in any transfer syntax."""
        digest = hashlib.sha256(f"{self.array.dtype.str} {self.array.shape} ".encode())
        digest.update(np.ascontiguousarray(self.array).data)
        return digest.hexdigest()


def decode_stored(path: Path, limits: DecodeLimits | None = None) -> StoredPixels:
    """Decode the stored values of any object with pixels, whatever its SOP class and UIDs.

    Raises DicomError NOT_DICOM, TRUNCATED, INVALID_HEADER, UNSUPPORTED_TRANSFER_SYNTAX, NO_PIXELS, UNSUPPORTED_PIXELS,
    PIXEL_BUDGET_EXCEEDED, PIXELS_INCONSISTENT or DECODE_FAILED.
    """
    file = open_dicom(path)
    with quiet():
        layout = PixelLayout.of(file.elements, pixel_element(file).tag)
        (limits or DecodeLimits()).check(layout, layout.samples * layout.dtype.itemsize)
        array = np.empty((layout.frames, *layout.shape_of_frame()), layout.dtype)
        photometric = layout.photometric
        for place, frame in zip(array, stored_frames(file, layout), strict=True):
            place[...] = frame.values
            photometric = frame.photometric
    return StoredPixels(array, photometric, layout.bits_stored)


def stored_frames(file: DicomFile, layout: PixelLayout) -> Iterator[DecodedFrame]:
    """Decode the frames one after the other; each has an array of its own. Raises as `decode_stored`."""
    pixels = pixel_element(file)
    if not UID(file.transfer_syntax_uid).is_encapsulated:
        yield from _native_frames(file, pixels, layout)
        return
    if layout.floating:
        raise DicomError(ErrorCode.UNSUPPORTED_PIXELS, "compressed floating point pixel data is not supported")
    for data in frame_codestreams(file.data, pixels, file.elements, layout.frames):
        yield decode_frame(data, file.transfer_syntax_uid, layout)


def _native_frames(file: DicomFile, pixels: PixelElement, layout: PixelLayout) -> Iterator[DecodedFrame]:
    """Cut uncompressed pixel data into frames."""
    repairs = _check_length(file, pixels, layout)
    big = file.transfer_syntax_uid == ExplicitVRBigEndian
    cell = np.dtype(f"{'>' if big else '<'}u{layout.dtype.itemsize}")
    swapped = big and pixels.vr == "OW" and layout.bits_allocated <= 8
    for index in range(layout.frames):
        first, shift = divmod(index * layout.frame_bits, 8)
        size = -(-(shift + layout.frame_bits) // 8)
        if swapped:
            cells = _swapped_bytes(file, pixels, first, size)
        else:
            cells = np.frombuffer(file.data, cell, count=size // cell.itemsize, offset=pixels.offset + first)
        if layout.bits_allocated == 1:  # the first pixel is the least significant bit (PS3.5 8.1.1)
            cells = np.unpackbits(cells, bitorder="little")[shift : shift + layout.pixels]
        values = _as_they_are(cells, layout)
        if values is None:
            found = _repair_of_foreign_bits(cells, layout)
            values = native_values(cells, layout)
            yield DecodedFrame(_arranged(values, layout), layout.photometric, (*repairs, *found))
        else:
            yield DecodedFrame(_arranged(values, layout), layout.photometric, repairs)


def _as_they_are(cells: Array, layout: PixelLayout) -> Array | None:
    """The cells as stored values, in the same memory, where nothing but the values is in them; None elsewhere."""
    if layout.floating or layout.bits_allocated == 1 or not cells.dtype.isnative:
        return None
    values = cells.view(layout.dtype)
    if layout.bits_stored < layout.bits_allocated:
        least, greatest = layout.stored_range
        if values.max() > greatest or (layout.signed and values.min() < least):
            return None
    return values


def _check_length(file: DicomFile, pixels: PixelElement, layout: PixelLayout) -> tuple[Repair, ...]:
    expected = layout.total_bytes
    if layout.photometric == "YBR_PARTIAL_420":
        text = "PhotometricInterpretation is YBR_PARTIAL_420 without compression, which has no such form"
        raise DicomError(ErrorCode.UNSUPPORTED_PIXELS, text)
    if layout.is_subsampled and layout.columns % 2:
        raise layout.inconsistent("columns", "an even number", f"{layout.columns} of {layout.photometric}")
    if pixels.length is None:
        raise layout.inconsistent("length", "undefined", f"{expected} bytes without compression")
    available = min(pixels.length, len(file.data) - pixels.offset)
    if available < expected:
        raise DicomError(ErrorCode.TRUNCATED, f"the pixel data has {available} bytes, the header needs {expected}")
    excess = pixels.length - expected
    if excess >= max(layout.frame_bytes, 2):
        raise layout.inconsistent("length", f"{pixels.length} bytes", f"{expected} bytes")
    if excess > 1:  # one byte makes the length even
        return (Repair("length of the pixel data", f"{pixels.length} bytes", f"{expected}", "bytes after the frames"),)
    return ()


def _swapped_bytes(file: DicomFile, pixels: PixelElement, start: int, size: int) -> Array:
    """Bytes of 8-bit and 1-bit pixels sent as big-endian words (PS3.5 annex B): each pair is swapped."""
    first = start - start % 2
    stop = start + size
    raw = np.frombuffer(
        file.data, np.uint8, count=min(stop + stop % 2, pixels.length or 0) - first, offset=pixels.offset + first
    )
    pairs = raw[: raw.size // 2 * 2].reshape(-1, 2)[:, ::-1].reshape(-1)
    return np.asarray(pairs[start - first :][:size])


def _repair_of_foreign_bits(cells: Array, layout: PixelLayout) -> tuple[Repair, ...]:
    """Whether bits above BitsStored hold something: not zeros, not the sign; retired overlays were hidden there."""
    if layout.bits_stored == layout.bits_allocated or not int(cells.max()) >> layout.bits_stored:
        return ()
    if layout.signed:
        values = cells.astype(layout.dtype)
        least, greatest = layout.stored_range
        if least <= values.min() and values.max() <= greatest:
            return ()
    bits = f"bits {layout.bits_stored} to {layout.bits_allocated - 1}"
    return (Repair(f"{bits} of the pixels", "in use", "left out", "they are above BitsStored; perhaps an overlay"),)


def _arranged(values: Array, layout: PixelLayout) -> Array:
    if layout.is_subsampled:  # Y1 Y2 Cb Cr (PS3.3 C.7.6.3.1.2)
        quads = values.reshape(-1, 4)
        pairs = np.stack([quads[:, (0, 2, 3)], quads[:, (1, 2, 3)]], axis=1)
        return np.asarray(pairs.reshape(layout.shape_of_frame()))
    if layout.planar and layout.samples > 1:
        return values.reshape(layout.samples, layout.rows, layout.columns).transpose(1, 2, 0)
    return values.reshape(layout.shape_of_frame())
