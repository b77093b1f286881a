"""How alike are two images once a small crop or shift between them is undone?

The inverse compositional form of Lucas and Kanade's method (Baker and Matthews, Int J Comput Vision 2004; 56:221) for
scale and shift along both axes, on the detail of two fingerprints.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from radserve.evaluation.fingerprints import SIDE, Fingerprint
from radserve.evaluation.tables import BoolArray, FloatArray

MARGIN = 4  # pixels of the small image that a crop may have taken
MOST_STEPS = 12
HOPELESS_AFTER, HOPELESS = 2, 0.8  # steps, similarity: what is not close by then never gets there
LARGEST_SCALE, LARGEST_SHIFT = 0.15, 6.0  # pixels
INNER_SIDE = SIDE - 2 * MARGIN
FEWEST_PIXELS = INNER_SIDE**2 // 8

_PLACES = np.arange(MARGIN, SIDE - MARGIN) - (SIDE - 1) / 2  # of the inner pixels, from the centre
_COLUMNS = np.arange(SIDE)


@dataclass(frozen=True)
class _Warp:
    """Row y of the one image is row `scale_y` * y + `shift_y` of the other, from the centre; columns likewise."""

    scale_y: float = 1.0
    scale_x: float = 1.0
    shift_y: float = 0.0
    shift_x: float = 0.0

    def undone(self, step: FloatArray) -> _Warp:
        """Return this warp after the inverse of the small warp (1 + step[0], 1 + step[1], step[2], step[3])."""
        scale_y, scale_x = self.scale_y / (1 + step[0]), self.scale_x / (1 + step[1])
        return _Warp(scale_y, scale_x, self.shift_y - scale_y * step[2], self.shift_x - scale_x * step[3])

    @property
    def too_large(self) -> bool:
        scales = max(abs(self.scale_y - 1), abs(self.scale_x - 1))
        return scales > LARGEST_SCALE or max(abs(self.shift_y), abs(self.shift_x)) > LARGEST_SHIFT

    @property
    def resamplers(self) -> tuple[FloatArray, FloatArray]:
        """Linear interpolation along rows and columns, (INNER_SIDE, SIDE) each: moved = rows @ image @ columns.T."""
        return _interpolation(self.scale_y, self.shift_y), _interpolation(self.scale_x, self.shift_x)


def similarity(a: Fingerprint, b: Fingerprint) -> float:
    """Return the best correlation, -1 to 1, of the two images' detail after alignment; 0 where nothing can be compared.

    Pixels at the end of either grey range do not count: a narrower window takes their detail away.
    """
    inner = (slice(MARGIN, -MARGIN), slice(MARGIN, -MARGIN))
    fixed, telling = a.detail[inner].ravel(), a.telling[inner].ravel()
    down, across = (each[inner] for each in np.gradient(a.detail))
    slopes = np.array([down * _PLACES[:, None], across * _PLACES, down, across]).reshape(4, -1)
    moving_telling = b.telling.astype(np.float64)
    warp, best = _Warp(), 0.0
    for step_number in range(MOST_STEPS):
        rows, columns = warp.resamplers
        moved = (rows @ b.detail @ columns.T).ravel()
        kept = telling & ((rows @ moving_telling @ columns.T).ravel() > 0.5)
        if kept.sum() < FEWEST_PIXELS:
            break
        correlation, step = _step(fixed, moved, slopes, kept)
        best = max(best, correlation)
        if step is None or (step_number >= HOPELESS_AFTER and best < HOPELESS):
            break
        warp = warp.undone(step)
        if warp.too_large or np.abs(step).max() < 1e-4:
            break
    return best


def _interpolation(scale: float, shift: float) -> FloatArray:
    places = np.clip(_PLACES * scale + shift + (SIDE - 1) / 2, 0, SIDE - 1)
    return np.asarray(np.maximum(0.0, 1 - np.abs(places[:, None] - _COLUMNS)), np.float64)


def _step(fixed: FloatArray, moved: FloatArray, slopes: FloatArray, kept: BoolArray) -> tuple[float, FloatArray | None]:
    """The correlation now, and the Gauss-Newton step that brings `moved` closer; None where there is no texture.

    `slopes` (4, pixels): how `fixed` changes with each parameter of the warp.
    """
    target, values, design = fixed[kept], moved[kept], slopes[:, kept]
    target, values = target - target.mean(), values - values.mean()
    lengths = float(np.linalg.norm(target)), float(np.linalg.norm(values))
    if 0.0 in lengths:
        return 0.0, None
    correlation = float(target @ values) / (lengths[0] * lengths[1])
    residual = values * (lengths[0] / lengths[1]) - target
    design = design - design.mean(axis=1, keepdims=True)
    normal = design @ design.T + 1e-9 * np.eye(4)
    return correlation, np.asarray(np.linalg.solve(normal, design @ residual), np.float64)
