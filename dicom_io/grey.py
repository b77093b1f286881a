"""Colour as grey: the luminance of RGB, YBR and palette pixels."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.pixels.processing import apply_color_lut

from radserve.dicom_io import attributes
from radserve.dicom_io.codecs import DecodedFrame
from radserve.dicom_io.pixel_layout import PixelLayout
from radserve.dicom_io.plain import Elements, dataset_of

Array = npt.NDArray[Any]
ToGrey = Callable[[DecodedFrame], Array]
LUMINANCE = np.array((0.2990, 0.5870, 0.1140))  # Y of YBR_FULL, PS3.3 C.7.6.3.1.2


def to_grey(ds: Elements, layout: PixelLayout) -> tuple[ToGrey, np.dtype[Any], int]:
    """How a decoded frame becomes a grey one (rows, columns), with the dtype and the bits of its values.

    Raises DicomError INVALID_HEADER for a palette that cannot be read.
    """
    if layout.photometric == "PALETTE COLOR":
        table, first, bits = _palette(ds)

        def look_up(frame: DecodedFrame) -> Array:
            index = np.clip(frame.values.astype(np.int64) - first, 0, table.size - 1)
            return np.asarray(table[index])

        return look_up, table.dtype, bits
    if layout.samples == 1:
        return lambda frame: frame.values, layout.dtype, layout.bits_stored
    return partial(_luminance, bits=layout.bits_stored), layout.dtype, layout.bits_stored


def _luminance(frame: DecodedFrame, bits: int) -> Array:
    if frame.photometric.startswith("YBR_PARTIAL"):
        return _full_range(frame.values[..., 0], bits)
    if frame.photometric.startswith("YBR"):
        return np.asarray(frame.values[..., 0])
    weights = LUMINANCE.astype(np.float64 if frame.values.dtype.itemsize > 2 else np.float32)
    return np.asarray(np.rint(frame.values @ weights).astype(frame.values.dtype))


def _full_range(luminance: Array, bits: int) -> Array:
    """Y of YBR_PARTIAL runs from 16/256 to 235/256 of the range (PS3.3 C.7.6.3.1.2), that of RGB over all of it."""
    unit, greatest = 2.0 ** (bits - 8), (1 << bits) - 1
    scaled = (luminance.astype(np.float64) - 16 * unit) * greatest / (219 * unit)
    return np.asarray(np.rint(scaled.clip(0, greatest)), luminance.dtype)


def _palette(ds: Elements) -> tuple[Array, int, int]:
    """Luminance of the palette's entries, the stored value of the first, the bits of an entry (PS3.3 C.7.6.3.1.5)."""
    try:
        dataset = dataset_of(ds)
        count, first, bits = (int(part) for part in dataset.RedPaletteColorLookupTableDescriptor)
        count = count or 1 << 16
        stored = np.arange(first, first + count)
        entries = apply_color_lut(stored.clip(0).astype(np.uint16), dataset)
    except MemoryError:
        raise
    except Exception as error:  # pydicom has no common base
        raise attributes.invalid_header("the palette", f"cannot be read ({type(error).__name__})") from None
    if bits not in (8, 16) or entries.shape != (count, 3):
        raise attributes.invalid_header("RedPaletteColorLookupTableDescriptor", f"has {bits} bits")
    dtype = np.uint8 if bits == 8 else np.uint16
    return np.rint(entries @ LUMINANCE).astype(dtype), first, bits
