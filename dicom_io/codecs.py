"""Decode the codestream of one frame into stored values. One decoder for each family, no second try with another.

Every codestream is first held against the header: decoders allocate what the codestream claims.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt

from radserve.dicom_io import codestream
from radserve.dicom_io.codestream import FrameHeader, failed
from radserve.dicom_io.pixel_layout import PixelLayout, extend_sign
from radserve.dicom_io.repairs import Repair
from radserve.dicom_io.rle import decode_rle

Array = npt.NDArray[Any]
PROBE_BYTES = 4096
_HOOK = threading.Lock()


@dataclass(frozen=True, slots=True, eq=False)
class DecodedFrame:
    """Stored values (rows, columns[, 3]) in the layout's dtype, and the colour space the decoder left them in."""

    values: Array
    photometric: str
    repairs: tuple[Repair, ...] = ()


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
    has_spare_bits = header.precision < 8 * values.dtype.itemsize
    if not header.signed and has_spare_bits and int(values.max()) >> header.precision:
        raise failed(f"it has values above its {header.precision} bits")
    if not header.signed and layout.signed:  # the values are bit patterns (PS3.5 8.2)
        values = extend_sign(values.astype(f"u{layout.dtype.itemsize}"), min(header.precision, layout.bits_stored))
    if header.precision > layout.bits_stored or (header.signed and not layout.signed):
        least, greatest = layout.stored_range
        found = int(values.min()) if values.dtype.kind == "i" else 0, int(values.max())
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
    photometric = _jpeg_colour(header, layout)
    family = layout.photometric.replace("_422", "").replace("_420", "")  # subsampling is undone by the decoder
    if header.process == codestream.LOSSLESS or photometric in (layout.photometric, family):
        return DecodedFrame(_stored(values, header, layout), layout.photometric)
    repair = Repair("PhotometricInterpretation", layout.photometric, photometric, "Adobe segment of the JPEG image")
    return DecodedFrame(_stored(values, header, layout), photometric, (repair,))


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
    """An Adobe segment tells how the components were made, better than the tags of converted files.

    Lossless coding transforms no colours, whatever it says.
    """
    if header.components == 1 or header.adobe_transform is None:
        return layout.photometric
    return "YBR_FULL" if header.adobe_transform == 1 else "RGB"


def _baseline(data: bytes, layout: PixelLayout) -> DecodedFrame:
    return _jpeg(data, layout, processes=(codestream.BASELINE, codestream.EXTENDED, codestream.PROGRESSIVE))


def _lossless(data: bytes, layout: PixelLayout) -> DecodedFrame:
    return _jpeg(data, layout, processes=(codestream.LOSSLESS,))


def _jpeg_ls(data: bytes, layout: PixelLayout) -> DecodedFrame:
    header = codestream.jpeg_header(data)
    if header.process != codestream.JPEG_LS:
        raise failed(f"its process (SOF marker {header.process:02X}) is not that of the transfer syntax")
    _check(header, layout)
    values = _run(imagecodecs.jpegls_decode, data, layout)
    return DecodedFrame(_stored(values, header, layout), layout.photometric)


def _jpeg_2000(data: bytes, layout: PixelLayout) -> DecodedFrame:
    return _j2k(data, layout, imagecodecs.jpeg2k_decode)


def _htj2k(data: bytes, layout: PixelLayout) -> DecodedFrame:
    return _j2k(data, layout, _htj2k_decode)


def _j2k(data: bytes, layout: PixelLayout, decoder: Callable[..., Array]) -> DecodedFrame:
    header, start = codestream.j2k_header(data)
    _check(header, layout)
    bare = data[start:] if start else data
    codestream.check_tile_parts(bare)
    values = _run(decoder, bare, layout, planar=False)
    return DecodedFrame(_stored(values, header, layout), _without_j2k_transform(layout))


def _htj2k_decode(data: bytes, planar: bool) -> Array:
    """imagecodecs' decoder, but raising where it stopped in the middle.

    It reports that to sys.unraisablehook only and leaves zeros from there to the end. An image that ends in zeros is
    decoded again to see.
    """
    values: Array = imagecodecs.htj2k_decode(data, planar=planar)
    if values[-1].any():
        return values
    lost: list[object] = []
    with _HOOK:
        hook, sys.unraisablehook = sys.unraisablehook, lost.append
        try:
            imagecodecs.htj2k_decode(data, planar=planar)
        finally:
            sys.unraisablehook = hook
    if lost:
        raise ValueError
    return values


def _without_j2k_transform(layout: PixelLayout) -> str:
    """RCT and ICT are part of the codestream: the decoder undoes them (PS3.3 C.7.6.3.1.2)."""
    return "RGB" if layout.photometric in ("YBR_RCT", "YBR_ICT") else layout.photometric


def _rle(data: bytes, layout: PixelLayout) -> DecodedFrame:
    return DecodedFrame(native_values(decode_rle(data, layout), layout), layout.photometric)


def native_values(cells: Array, layout: PixelLayout) -> Array:
    """Uncompressed cells (unsigned, any byte order) as stored values in an array of their own.

    The bits above BitsStored are no part of them. Cells that may be written to are used as the place of the result.
    """
    out = cells if cells.flags.writeable and cells.dtype.isnative else None
    bits = 8 * cells.dtype.itemsize if layout.floating or layout.signed else layout.bits_stored
    values = np.bitwise_and(cells, cells.dtype.type((1 << bits) - 1), out=out)
    if layout.floating or not layout.signed:
        return values.view(layout.dtype)
    return extend_sign(values, layout.bits_stored) if layout.bits_allocated > 1 else values


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
    "1.2.840.10008.1.2.4.201": _htj2k,
    "1.2.840.10008.1.2.4.202": _htj2k,
    "1.2.840.10008.1.2.4.203": _htj2k,
}
_NEEDED = {
    "JPEG8": "JPEG baseline, extended and lossless",
    "JPEGLS": "JPEG-LS",
    "JPEG2K": "JPEG 2000",
    "HTJ2K": "High-Throughput JPEG 2000",
    "PACKBITS": "RLE",
}


def missing_codecs() -> tuple[str, ...]:
    """The codecs of imagecodecs that decoding needs and this installation lacks, each with what it is for."""
    return tuple(
        f"imagecodecs {name} ({use})" for name, use in _NEEDED.items() if not getattr(imagecodecs, name).available
    )
