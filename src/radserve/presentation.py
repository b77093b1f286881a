"""From the modality values of a frame to what a reader would see: VOI, then the polarity of the photometry."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from radserve._checks import invalid
from radserve.image import Image, PixelProperties
from radserve.voi import Float32Array, VoiFunction, VoiTransform, VoiWindow

PERCENTILES = (0.5, 99.5)


def present_frame(image: Image, frame_index: int) -> Float32Array:
    """Return a frame (rows, columns) as float32 in [0, 1], 0 black and 1 white; `frame_index` counts from 0.

    The VOI transform is that of the header (PS3.3 C.11.2). Without one it is a linear window: over the range of the
    stored values for up to 8 bits stored, else from the 0.5th to the 99.5th percentile of this frame; a flat frame
    is then mid-grey. MONOCHROME1 is inverted (PS3.3 C.7.6.3.1.2). Raises RadserveError INVALID_ARGUMENT for an index
    that is not of a frame.
    """
    if not 0 <= frame_index < image.frames:
        raise invalid("frame_index", frame_index, f"0 to {image.frames - 1}")
    return present_values(image.array[frame_index], image.properties)


def present_values(values: npt.NDArray[Any], properties: PixelProperties) -> Float32Array:
    """Do what `present_frame` does with modality values of any shape that belong together: a frame, or a volume."""
    frame = np.ascontiguousarray(values, values.dtype.newbyteorder("="))
    voi = properties.voi or default_window(frame, properties)
    inverted = properties.photometric_interpretation == "MONOCHROME1"
    if not _is_narrow(frame):
        return _apply(frame, voi, inverted)
    # At most 65536 different values: compute each once, then index with the bits of the stored value.
    bits = _bits(frame)
    every_value = np.arange(np.iinfo(bits.dtype).max + 1, dtype=bits.dtype).view(frame.dtype)
    return _look_up(_apply(every_value, voi, inverted), bits)


def default_window(frame: npt.NDArray[Any], properties: PixelProperties) -> VoiWindow:
    """The window of a frame whose header gives none (see `present_frame`)."""
    low, high = properties.value_range
    if properties.bits_stored > 8:
        last = frame.size - 1
        ranks = int(np.floor(last * PERCENTILES[0] / 100)), int(np.ceil(last * PERCENTILES[1] / 100))
        low, high = _values_of_rank(frame, ranks)
    return VoiWindow((low + high) / 2, (high - low) or 1.0, VoiFunction.LINEAR_EXACT)


def _values_of_rank(frame: npt.NDArray[Any], ranks: tuple[int, int]) -> tuple[float, float]:
    """The values at the given places of the sorted frame."""
    if not _is_narrow(frame):
        low, high = np.partition(frame, ranks, axis=None)[list(ranks)]
        return float(low), float(high)
    bits = _bits(frame)
    counts = np.zeros(np.iinfo(bits.dtype).max + 1, dtype=np.int64)
    for band in _bands(bits):
        counts += np.bincount(band.ravel(), minlength=counts.size)
    least = int(np.iinfo(frame.dtype).min)
    if least < 0:
        counts = np.roll(counts, counts.size // 2)
    low, high = np.searchsorted(counts.cumsum(), ranks, side="right") + least
    return float(low), float(high)


def _is_narrow(values: npt.NDArray[Any]) -> bool:
    return values.dtype.kind in "ui" and values.dtype.itemsize <= 2


def _look_up(table: Float32Array, bits: npt.NDArray[Any]) -> Float32Array:
    """`table[bits]`, in nearly half the time: clipping, which never happens here, spares a check of every index."""
    presented = np.empty(bits.shape, table.dtype)
    for band, into in zip(_bands(bits), _bands(presented), strict=True):
        np.take(table, band, out=into, mode="clip")
    return presented


def _bands(array: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
    """Views of some rows each, small enough that the 64-bit copy numpy makes of indices stays in the cache."""
    return np.array_split(array, max(1, array.size >> 17))


def _bits(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return values.view(np.dtype(f"u{values.dtype.itemsize}"))


def _apply(values: npt.NDArray[Any], voi: VoiTransform, inverted: bool) -> Float32Array:
    presented = voi.apply(values)
    return np.subtract(np.float32(1), presented, out=presented) if inverted else presented
