"""Corruptions of images that imaging really meets, at severities 1 to 5, repeatable by seed.

Every corruption takes one grey image, shape (rows, columns), float in [0, 1], and gives the same shape and dtype in
[0, 1]. Lengths are fractions of the shorter side, so that an image of 28 pixels and one of 2,000 suffer alike. The
random numbers depend on seed, corruption and image, not on the severity: a higher severity is the same noise, stronger.
Severity 0 is the image itself, bit for bit. After Hendrycks and Dietterich (2019) and MedMNIST-C (Di Salvo 2024).
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage
from scipy import ndimage

from radserve.evaluation.tables import FloatArray, refusal

SEVERITIES = (1, 2, 3, 4, 5)
AnyFloat = npt.NDArray[np.floating[Any]]
Effect = Callable[[FloatArray, float, np.random.Generator], FloatArray]


@dataclass(frozen=True)
class Corruption:
    """A corruption: `strengths` holds what `meaning` says, for severities 1 to 5."""

    name: str
    meaning: str
    strengths: tuple[float, float, float, float, float]
    effect: Effect


def corrupt(image: AnyFloat, name: str, severity: int, *, seed: int, index: int = 0) -> AnyFloat:
    """Return `image` (rows, columns), float in [0, 1], with corruption `name` at `severity`; the input is not changed.

    `index` tells the images of a set apart: each has noise of its own. Raises INVALID_ARGUMENT for an unknown
    corruption, a severity outside 0 to 5, and an image of another shape, kind of number or range.
    """
    corruption = CORRUPTIONS.get(name)
    if corruption is None:
        raise refusal(f"corruption: got {name!r}, expected one of {', '.join(CORRUPTIONS)}")
    if severity not in (0, *SEVERITIES):
        raise refusal(f"severity: got {severity!r}, expected 0 to 5")
    _check_image(image)
    if severity == 0:
        return image.copy()
    rng = np.random.default_rng([seed, zlib.crc32(name.encode()), index])
    corrupted = corruption.effect(image.astype(np.float64), corruption.strengths[severity - 1], rng)
    return np.clip(corrupted, 0.0, 1.0).astype(image.dtype)


def _check_image(image: AnyFloat) -> None:
    if image.ndim != 2 or 0 in image.shape:
        raise refusal(f"image: got shape {image.shape}, expected (rows, columns)")
    if not np.issubdtype(image.dtype, np.floating):
        raise refusal(f"image: got {image.dtype}, expected a float in [0, 1]")
    low, high = float(image.min()), float(image.max())
    if not (low >= 0 and high <= 1):
        raise refusal(f"image: got values from {low} to {high}, expected 0 to 1")


def _gaussian_noise(image: FloatArray, sigma: float, rng: np.random.Generator) -> FloatArray:
    return image + sigma * rng.standard_normal(image.shape)


def _shot_noise(image: FloatArray, photons: float, rng: np.random.Generator) -> FloatArray:
    sigma = np.sqrt(image / photons)  # the normal limit of Poisson counts
    return np.asarray(image + sigma * rng.standard_normal(image.shape), np.float64)


def _speckle(image: FloatArray, sigma: float, rng: np.random.Generator) -> FloatArray:
    return image + image * sigma * rng.standard_normal(image.shape)


def _gaussian_blur(image: FloatArray, sigma: float, _: np.random.Generator) -> FloatArray:
    return np.asarray(ndimage.gaussian_filter(image, sigma * min(image.shape), mode="nearest"), np.float64)


def _motion(image: FloatArray, length: float, rng: np.random.Generator) -> FloatArray:
    """Average over a straight movement of `length` in a random direction, the image staying centred."""
    angle = rng.uniform(0, np.pi)
    pixels = length * min(image.shape)
    positions = np.linspace(-pixels / 2, pixels / 2, 2 * int(np.ceil(pixels)) + 1)
    shifts = np.outer(positions, [np.sin(angle), np.cos(angle)])
    moved = [ndimage.shift(image, shift, order=1, mode="nearest") for shift in shifts]
    return np.asarray(np.mean(moved, axis=0), np.float64)


def _contrast(image: FloatArray, factor: float, _: np.random.Generator) -> FloatArray:
    mean = image.mean()
    return np.asarray(mean + factor * (image - mean), np.float64)


def _brightness(image: FloatArray, offset: float, _: np.random.Generator) -> FloatArray:
    return image + offset


def _window(image: FloatArray, cut: float, _: np.random.Generator) -> FloatArray:
    """A window set too narrow: the darkest and the brightest `cut` of the range are clipped (PS3.3 C.11.2.1.2)."""
    return np.asarray((image - cut) / (1 - 2 * cut), np.float64)


def _gamma(image: FloatArray, exponent: float, _: np.random.Generator) -> FloatArray:
    return np.asarray(np.power(image, exponent), np.float64)


def _rotation(image: FloatArray, degrees: float, rng: np.random.Generator) -> FloatArray:
    side = 1 if rng.integers(2) else -1
    return np.asarray(ndimage.rotate(image, side * degrees, reshape=False, order=1, mode="constant"), np.float64)


def _jpeg(image: FloatArray, quality: float, _: np.random.Generator) -> FloatArray:
    with io.BytesIO() as stream:
        PillowImage.fromarray(np.round(image * 255).astype(np.uint8)).save(stream, "JPEG", quality=int(quality))
        with PillowImage.open(stream) as decoded:
            return np.asarray(decoded, np.float64) / 255


def _ring(image: FloatArray, amplitude: float, rng: np.random.Generator) -> FloatArray:
    """Concentric rings about the centre, as faulty elements of a CT detector leave them."""
    rows, columns = image.shape
    radius = np.hypot(*np.meshgrid(np.arange(rows) - rows / 2, np.arange(columns) - columns / 2, indexing="ij"))
    width = max(1.0, min(rows, columns) / 112)
    gains = rng.standard_normal(int(radius.max() / width) + 1)
    return np.asarray(image + amplitude * gains[(radius / width).astype(int)], np.float64)


def _down_sampling(image: FloatArray, factor: float, _: np.random.Generator) -> FloatArray:
    rows, columns = image.shape
    small = (max(1, round(columns / factor)), max(1, round(rows / factor)))
    reduced = PillowImage.fromarray(image.astype(np.float32)).resize(small, PillowImage.Resampling.BOX)
    return np.asarray(reduced.resize((columns, rows), PillowImage.Resampling.NEAREST), np.float64)


_ALL = (
    Corruption("gaussian_noise", "standard deviation", (0.02, 0.05, 0.1, 0.18, 0.3), _gaussian_noise),
    Corruption("shot_noise", "photons per pixel at full brightness", (500, 120, 40, 15, 6), _shot_noise),
    Corruption("speckle_noise", "relative standard deviation", (0.05, 0.1, 0.2, 0.35, 0.5), _speckle),
    Corruption("gaussian_blur", "sigma, fraction of the side", (0.008, 0.015, 0.025, 0.04, 0.06), _gaussian_blur),
    Corruption("motion_blur", "length, fraction of the side", (0.02, 0.04, 0.07, 0.11, 0.16), _motion),
    Corruption("contrast", "factor about the mean", (0.8, 0.6, 0.4, 0.25, 0.15), _contrast),
    Corruption("brightness_up", "offset", (0.05, 0.1, 0.18, 0.28, 0.4), _brightness),
    Corruption("brightness_down", "offset", (-0.05, -0.1, -0.18, -0.28, -0.4), _brightness),
    Corruption("window", "range clipped at both ends", (0.05, 0.1, 0.17, 0.25, 0.35), _window),
    Corruption("gamma", "exponent", (1.2, 1.5, 1.9, 2.4, 3.0), _gamma),
    Corruption("rotation", "degrees", (3, 7, 12, 20, 30), _rotation),
    Corruption("jpeg", "quality", (60, 35, 20, 10, 4), _jpeg),
    Corruption("ring", "amplitude", (0.015, 0.03, 0.06, 0.1, 0.16), _ring),
    Corruption("down_sampling", "factor", (1.5, 2, 3, 4.5, 7), _down_sampling),
)
CORRUPTIONS: Mapping[str, Corruption] = MappingProxyType({each.name: each for each in _ALL})
