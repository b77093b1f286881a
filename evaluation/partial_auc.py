"""Partial areas under the ROC curve over a range of specificity or sensitivity, raw and standardised.

Bounds inside a segment of the curve are interpolated linearly, as pROC does.
D. K. McClish, Medical Decision Making 9 (1989) 190: the standardisation to 0.5 (no skill) .. 1 (perfect).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from radserve._checks import check_one_of
from radserve.evaluation.roc import RocCurve
from radserve.evaluation.tables import refusal

Focus = Literal["specificity", "sensitivity"]


@dataclass(frozen=True)
class PartialAuc:
    """Area between two values of the focus axis. `corrected` is NaN where the area lies below that of chance."""

    raw: float
    corrected: float
    low: float
    high: float
    focus: Focus
    warnings: tuple[str, ...] = ()


def partial_auc(curve: RocCurve, bounds: tuple[float, float], focus: Focus = "specificity") -> PartialAuc:
    """Return the partial area of `curve` between the two bounds (in either order, each from 0 to 1).

    Raises RadserveError INVALID_ARGUMENT for bounds outside [0, 1], equal bounds or another focus.
    """
    check_one_of("focus", focus, ("specificity", "sensitivity"))
    low, high = min(bounds), max(bounds)
    if not (0.0 <= low < high <= 1.0):
        raise refusal(
            f"partial AUC bounds: got {bounds[0]!r} and {bounds[1]!r}, expected two different numbers in [0, 1]"
        )
    raw = partial_area(curve, low, high, focus)
    width = high - low
    chance = width * ((1 - low) + (1 - high)) / 2
    if raw < chance * (1 - 1e-12):
        reason = f"the partial AUC {raw:.6g} is below that of chance, {chance:.6g}: McClish's correction is null"
        return PartialAuc(raw, math.nan, low, high, focus, (reason,))
    return PartialAuc(raw, (1 + (raw - chance) / (width - chance)) / 2, low, high, focus)


def partial_area(curve: RocCurve, low: float, high: float, focus: Focus) -> float:
    """Return the raw area for low < high: each segment of the curve, cut to the range, gives a trapezium."""
    x, y = curve.specificity, curve.sensitivity
    if focus == "sensitivity":
        x, y = y[::-1], x[::-1]
    x0, x1, y0, y1 = x[:-1], x[1:], y[:-1], y[1:]
    start, stop = np.maximum(x0, low), np.minimum(x1, high)
    inside = stop > start
    x0, x1, y0, y1, start, stop = (each[inside] for each in (x0, x1, y0, y1, start, stop))
    slope = (y1 - y0) / (x1 - x0)
    middle = y0 + slope * ((start + stop) / 2 - x0)
    return float(np.dot(stop - start, middle))
