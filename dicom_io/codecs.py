"""Decode the codestream of one frame into stored values. One decoder for each family, no second try with another.

Every codestream is first held against the header: decoders allocate what the codestream claims.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt

from radserve.dicom_io import codestream
from radserve.dicom_io.codestream import FrameHeader, failed
from radserve.dicom_io.pixel_layout import PixelLayout, extend_sign
from radserve.errors import DicomError, ErrorCode

Array = npt.NDArray[Any]
RLE_HEADER_BYTES = 64  # PS3.5 G.5
RLE_MOST_EXPANSION = 64  # a replicate run of PackBits gives 128 bytes for 2 (PS3.5 G.3.1)
PROBE_BYTES = 4096


@dataclass(frozen=True, slots=True, eq=False)
class DecodedFrame:
    """Stored values (rows, columns[, 3]) in the layout's dtype, and the colour space the decoder left them in."""

    values: Array
    photometric: str


def decode_frame(data: bytes, transfer_syntax_uid: str, layout: PixelLayout) -> DecodedFrame:
    """Decode one frame. Raises DicomError PIXELS_INCONSISTENT or DECODE_FAILED."""
    return _DECODERS[transfer_syntax_uid](data, layout)


def _run(decoder: Callable[..., Array], data: bytes, layout: PixelLayout, **options: Any) -> Array:
    try:
        values = decoder(data, **options)
    except MemoryError:
        raise
    except Exception as error:  # each codec has its own error class
        raise failed(f"{type(error).__name__}") from None
    if values.shape != layout.shape_of_frame():
        raise layout.inconsistent("shape of a frame", values.shape, layout.shape_of_frame())
    return values


def _check(header: FrameHeader, layout: PixelLayout) -> None:
    got, expected = (header.rows, header.columns), (layout.rows, layout.columns)
    if got != expected:
        raise layout.inconsistent("rows and columns", got, expected)
    if header.components != layout.samples:
        raise layout.inconsistent("samples per pixel", header.components, layout.samples)
    if header.precision > layout.bits_allocated:
        raise layout.inconsistent("bits", header.precision, f"BitsAllocated {layout.bits_allocated}")


def _stored(values: Array, header: FrameHeader, layout: PixelLayout) -> Array:
    """Bring decoded values to the layout's dtype; the codestream's own precision and sign may differ from the tags."""
    if not header.signed and int(values.max()) >> header.precision:
        raise failed(f"it has values above its {header.precision} bits")
    if not header.signed and layout.signed:  # the values are bit patterns (PS3.5 8.2)
        values = extend_sign(values.astype(f"u{layout.dtype.itemsize}"), min(header.precision, layout.bits_stored))
    if header.precision > layout.bits_stored or (header.signed and not layout.signed):
        least, greatest = layout.stored_range
        found = int(values.min()), int(values.max())
        if found[0] < least or found[1] > greatest:
            raise layout.inconsistent("range of values", found, f"{layout.bits_stored} bits, {least} to {greatest}")
    return values.astype(layout.dtype, copy=False)


def _jpeg(data: bytes, layout: PixelLayout, *, processes: tuple[int, ...]) -> DecodedFrame:
    header = codestream.jpeg_header(data)
    if header.process not in processes:
        raise failed(f"its process (SOF marker {header.process:02X}) is not that of the transfer syntax")
    _check(header, layout)
    end = codestream.jpeg_end(data)
    # Naming one colour space for both sides keeps the components as they are coded.
    space = {} if header.components == 1 else {"colorspace": "RGB", "outcolorspace": "RGB"}
    values = _run(imagecodecs.jpeg8_decode, data, layout, **space)
    if _may_be_filled(values) and not _is_complete(data[:end], values, layout, space):
        raise failed("its scan ends early")
    return DecodedFrame(_stored(values, header, layout), _jpeg_colour(header, layout))


def _may_be_filled(values: Array) -> bool:
    """Whether the last row is flat or a copy of the row above: where a decoder ran out of data it is."""
    last, above = values[-1].astype(np.int64), values[-2 if len(values) > 1 else -1].astype(np.int64)
    difference = last - above
    return bool((last == last[0]).all() or (difference == difference[0]).all())


def _is_complete(scan: bytes, values: Array, layout: PixelLayout, space: dict[str, str]) -> bool:
    """Decode again with noise in the place of the end: only a decoder that ran out of data will have read it."""
    noise = np.random.default_rng(0).integers(0, 0xFF, PROBE_BYTES, dtype=np.uint8).tobytes()
    again = _run(imagecodecs.jpeg8_decode, scan + noise + b"\xff\xd9", layout, **space)
    return bool(np.array_equal(values, again))


def _jpeg_colour(header: FrameHeader, layout: PixelLayout) -> str:
    """An Adobe segment tells how the components were made, better than the tags of converted files."""
    if header.components == 1 or header.adobe_transform is None:
        return layout.photometric
    return "YBR_FULL" if header.adobe_transform == 1 else "RGB"


def _baseline(data: bytes, layout: PixelLayout) -> DecodedFrame:
    return _jpeg(data, layout, processes=(codestream.BASELINE, codestream.EXTENDED, codestream.PROGRESSIVE))


def _lossless(data: bytes, layout: PixelLayout) -> DecodedFrame:
    frame = _jpeg(data, layout, processes=(codestream.LOSSLESS,))
    return DecodedFrame(frame.values, layout.photometric)  # lossless coding transforms no colours


def _jpeg_ls(data: bytes, layout: PixelLayout) -> DecodedFrame:
    header = codestream.jpeg_header(data)
    if header.process != codestream.JPEG_LS:
        raise failed(f"its process (SOF marker {header.process:02X}) is not that of the transfer syntax")
    _check(header, layout)
    values = _run(imagecodecs.jpegls_decode, data, layout)
    return DecodedFrame(_stored(values, header, layout), layout.photometric)


def _jpeg_2000(data: bytes, layout: PixelLayout) -> DecodedFrame:
    header, start = codestream.j2k_header(data)
    _check(header, layout)
    values = _run(imagecodecs.jpeg2k_decode, data[start:] if start else data, layout)
    photometric = "RGB" if layout.photometric in ("YBR_RCT", "YBR_ICT") else layout.photometric
    return DecodedFrame(_stored(values, header, layout), photometric)


def _rle(data: bytes, layout: PixelLayout) -> DecodedFrame:
    """PS3.5 annex G: a PackBits segment for each byte of each sample, the most significant byte first."""
    size = layout.bits_allocated // 8
    count = layout.samples * size
    if len(data) < RLE_HEADER_BYTES:
        raise failed("its RLE header is cut")
    segments, *offsets = struct.unpack("<16I", data[:RLE_HEADER_BYTES])
    if segments != count:
        raise layout.inconsistent("RLE segments", segments, f"{count} ({layout.samples} samples of {size} bytes)")
    bounds = [*offsets[:count], len(data)]
    if bounds[0] < RLE_HEADER_BYTES or bounds != sorted(bounds):
        raise failed("its RLE segments are out of place")
    cells = np.empty((layout.pixels, layout.samples, size), dtype=np.uint8)  # little-endian integers
    for index in range(count):
        segment = data[bounds[index] : bounds[index + 1]]
        if len(segment) * RLE_MOST_EXPANSION < layout.pixels:
            raise layout.inconsistent("RLE segment", f"{len(segment)} bytes", f"{layout.pixels} pixels")
        cells[:, index // size, size - 1 - index % size] = _unpack_bits(segment, layout)
    values = cells.view(f"<u{size}").reshape(layout.shape_of_frame())
    return DecodedFrame(native_values(values, layout), layout.photometric)


def _unpack_bits(segment: bytes, layout: PixelLayout) -> Array:
    try:
        unpacked = imagecodecs.packbits_decode(segment)
    except MemoryError:
        raise
    except Exception as error:
        raise failed(type(error).__name__) from None
    if len(unpacked) < layout.pixels:
        raise DicomError(
            ErrorCode.DECODE_FAILED, f"an RLE segment ends after {len(unpacked)} of {layout.pixels} pixels"
        )
    return np.frombuffer(unpacked, np.uint8, count=layout.pixels)  # a segment may be padded


def native_values(values: Array, layout: PixelLayout) -> Array:
    """Uncompressed cells (unsigned, any byte order) as stored values: the bits above BitsStored are no part of them."""
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    if layout.signed:
        return extend_sign(values, layout.bits_stored)
    if layout.bits_stored == layout.bits_allocated:
        return values
    return np.bitwise_and(values, values.dtype.type((1 << layout.bits_stored) - 1))


_DECODERS: dict[str, Callable[[bytes, PixelLayout], DecodedFrame]] = {
    "1.2.840.10008.1.2.5": _rle,
    "1.2.840.10008.1.2.4.50": _baseline,
    "1.2.840.10008.1.2.4.51": _baseline,
    "1.2.840.10008.1.2.4.57": _lossless,
    "1.2.840.10008.1.2.4.70": _lossless,
    "1.2.840.10008.1.2.4.80": _jpeg_ls,
    "1.2.840.10008.1.2.4.81": _jpeg_ls,
    "1.2.840.10008.1.2.4.90": _jpeg_2000,
    "1.2.840.10008.1.2.4.91": _jpeg_2000,
}


def missing_codecs() -> tuple[str, ...]:
    """The codecs of imagecodecs that decoding needs and this installation lacks."""
    needed = ("JPEG8", "JPEGLS", "JPEG2K", "PACKBITS")
    return tuple(name for name in needed if not getattr(imagecodecs, name).available)
