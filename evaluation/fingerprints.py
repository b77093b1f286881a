"""Fingerprints of images: an exact digest, two perceptual hashes, and the fine detail that tells look-alikes apart.

Chest radiographs of different patients look alike to a perceptual hash; their detail at a few pixels does not.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage
from scipy import fft, ndimage

from radserve._checks import read_only
from radserve.evaluation.tables import BoolArray, FloatArray, refusal

SIDE = 64  # pixels of the small image that everything but the digest is computed from
SATURATED = 0.01  # of the grey range: a pixel so close to its end tells nothing, a narrower window put it there
DETAIL_SIGMA = 4.0  # pixels of the small image: coarser structure is anatomy, common to all patients


@dataclass(frozen=True)
class Fingerprint:
    """What is kept of one image. Arrays are not writeable.

    `digest`: SHA-256 of shape and pixel values. `difference_hash` (64,) and `frequency_hash` (63,) bits (dHash, pHash).
    `detail` (64, 64), float64: locally normalised high-pass of the small image; all 0 for an image of one grey value.
    `telling` (64, 64): pixels not at either end of the grey range.
    """

    digest: str
    difference_hash: BoolArray
    frequency_hash: BoolArray
    detail: FloatArray
    telling: BoolArray


def fingerprint(image: npt.NDArray[Any]) -> Fingerprint:
    """Return the fingerprint of a grey image, shape (rows, columns), any integer or finite float type.

    Raises INVALID_ARGUMENT for another shape, no pixel, and values that are not finite.
    """
    if image.ndim != 2 or 0 in image.shape:
        raise refusal(f"image: got shape {image.shape}, expected (rows, columns)")
    values = image.astype(np.float64)
    if not np.isfinite(values).all():
        raise refusal("image: got a pixel that is not finite")
    small = _shrink(_unit_range(values), SIDE, SIDE)
    return Fingerprint(
        digest=_digest(image),
        difference_hash=read_only(_difference_hash(small)),
        frequency_hash=read_only(_frequency_hash(small)),
        detail=read_only(_detail(small)),
        telling=read_only((small > SATURATED) & (small < 1 - SATURATED)),
    )


def _digest(image: npt.NDArray[Any]) -> str:
    """The same for the same numbers, whatever integer (or float) type holds them."""
    kind = "<f8" if np.issubdtype(image.dtype, np.floating) else "<i8"
    content = np.ascontiguousarray(image, dtype=kind).tobytes()
    return hashlib.sha256(f"{kind}{image.shape}".encode() + content).hexdigest()


def _unit_range(values: FloatArray) -> FloatArray:
    low, spread = values.min(), np.ptp(values)
    return (values - low) / spread if spread else np.zeros_like(values)


def _shrink(image: FloatArray, rows: int, columns: int) -> FloatArray:
    enough = image.shape[0] >= rows and image.shape[1] >= columns
    method = PillowImage.Resampling.BOX if enough else PillowImage.Resampling.BICUBIC
    resized = PillowImage.fromarray(image.astype(np.float32)).resize((columns, rows), method)
    return np.asarray(resized, np.float64)


def _difference_hash(small: FloatArray) -> BoolArray:
    """Is each of 8 x 9 means brighter than its left neighbour? (Krawetz 2013)"""
    means = _shrink(small, 8, 9)
    return (means[:, 1:] > means[:, :-1]).ravel()


def _frequency_hash(small: FloatArray) -> BoolArray:
    """Which of the 63 lowest cosine terms lie above their median? (Zauner 2010)"""
    terms = fft.dctn(_shrink(small, 32, 32), norm="ortho")[:8, :8].ravel()[1:]
    return np.asarray(terms > np.median(terms), np.bool_)


def _detail(small: FloatArray) -> FloatArray:
    high = small - ndimage.gaussian_filter(small, DETAIL_SIGMA)
    power = ndimage.gaussian_filter(high**2, 2 * DETAIL_SIGMA)
    return np.asarray(high / np.sqrt(power + 1e-4), np.float64)  # 1e-4: noise of 1 % of the range is not amplified
