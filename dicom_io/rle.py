"""RLE of PS3.5 annex G: a PackBits segment for each byte of each sample, the most significant byte first."""

from __future__ import annotations

import struct
from itertools import pairwise
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt

from radserve.dicom_io.codestream import failed
from radserve.dicom_io.pixel_layout import PixelLayout

Array = npt.NDArray[Any]
HEADER_BYTES = 64  # PS3.5 G.5
MOST_EXPANSION = 64  # a replicate run of PackBits gives 128 bytes for 2 (PS3.5 G.3.1)
LONGEST_RUN = 128


def decode_rle(data: bytes, layout: PixelLayout) -> Array:
    """Unsigned cells (rows, columns[, samples]) of one frame. Raises DicomError PIXELS_INCONSISTENT, DECODE_FAILED."""
    size = layout.dtype.itemsize
    segments = _segments(data, layout, layout.samples * size)
    samples = []
    for first in range(0, len(segments), size):
        values = _unpack(segments[first], layout).astype(f"u{size}", copy=False)
        for segment in segments[first + 1 : first + size]:
            np.left_shift(values, 8, out=values)
            np.bitwise_or(values, _unpack(segment, layout), out=values)
        samples.append(values.reshape(layout.rows, layout.columns))
    return samples[0] if layout.samples == 1 else np.stack(samples, axis=-1)


def _segments(data: bytes, layout: PixelLayout, count: int) -> list[Any]:
    if layout.bits_allocated == 1:
        raise failed("RLE has no form for 1-bit pixels")
    if len(data) < HEADER_BYTES:
        raise failed("its RLE header is cut")
    found, *offsets = struct.unpack("<16I", data[:HEADER_BYTES])
    if found != count:
        raise layout.inconsistent("RLE segments", found, f"{count} ({layout.samples} samples)")
    bounds = [*offsets[:count], len(data)]
    if bounds[0] < HEADER_BYTES or bounds != sorted(bounds):
        raise failed("its RLE segments are out of place")
    view = memoryview(data)  # no copies
    segments = [view[start:stop] for start, stop in pairwise(bounds)]
    least = min(len(segment) for segment in segments)
    if least * MOST_EXPANSION < layout.pixels:
        raise layout.inconsistent("RLE segment", f"{least} bytes", f"{layout.pixels} pixels")
    return segments


def _unpack(segment: Any, layout: PixelLayout) -> Array:
    # With a place to write to, the decoder need not run once before to learn the length; padding may be one run more.
    place: Any = np.empty(layout.pixels + LONGEST_RUN, np.uint8)
    try:
        unpacked = imagecodecs.packbits_decode(segment, out=place)
    except MemoryError:
        raise
    except Exception as error:
        if "TOO_SMALL" in str(error):
            raise layout.inconsistent("RLE segment", f"more than {place.size} pixels", f"{layout.pixels}") from None
        raise failed(f"{type(error).__name__} in an RLE segment") from None
    if len(unpacked) < layout.pixels:
        raise failed(f"an RLE segment ends after {len(unpacked)} of {layout.pixels} pixels")
    if len(unpacked) - layout.pixels >= layout.columns:  # a segment may be padded, not by a row
        raise layout.inconsistent("RLE segment", f"{len(unpacked)} pixels", f"{layout.pixels}")
    return np.asarray(place[: layout.pixels])
