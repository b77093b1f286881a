"""Operating points of an ROC curve: at a threshold, by a criterion, at a fixed sensitivity or specificity."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from radserve._checks import check_unit_interval
from radserve.evaluation.roc import RocCurve
from radserve.evaluation.tables import FloatArray, refusal


@dataclass(frozen=True)
class OperatingPoint:
    """One point: cases with a score >= threshold are called positive. `n_ties` points are as good by the criterion."""

    threshold: float
    sensitivity: float
    specificity: float
    index: int
    n_ties: int = 1

    def as_list(self) -> list[float]:
        return [self.threshold, self.sensitivity, self.specificity]


def youden(curve: RocCurve) -> OperatingPoint:
    """Return the point of the largest sensitivity + specificity - 1; among equals the most sensitive."""
    # Over the common denominator n_positive * n_negative the criterion is whole: equals are equal, not nearly.
    return _best(curve, curve.true_positives * curve.n_negative + curve.true_negatives * curve.n_positive)


def closest_topleft(curve: RocCurve) -> OperatingPoint:
    """Return the point nearest to sensitivity 1, specificity 1; among equals the most sensitive."""
    missed = (curve.n_positive - curve.true_positives) * curve.n_negative
    false_alarms = (curve.n_negative - curve.true_negatives) * curve.n_positive
    return _best(curve, -(missed**2 + false_alarms**2))


def at_threshold(curve: RocCurve, threshold: float) -> OperatingPoint:
    """Return sensitivity and specificity when scores >= `threshold` are called positive. Raises for NaN."""
    if np.isnan(threshold):
        raise refusal("threshold: got nan, expected a number")
    index = int(np.searchsorted(curve.scores, threshold, side="left"))
    return _point(curve, index, threshold=float(threshold))


def at_sensitivity(curve: RocCurve, sensitivity: float) -> OperatingPoint:
    """Return the most specific empirical point whose sensitivity is at least the one asked for."""
    check_unit_interval("sensitivity", sensitivity)
    reached = np.flatnonzero(curve.sensitivity >= sensitivity)
    best = reached[curve.true_negatives[reached] == curve.true_negatives[reached[-1]]]
    return _point(curve, int(best[0]), n_ties=len(best))


def at_specificity(curve: RocCurve, specificity: float) -> OperatingPoint:
    """Return the most sensitive empirical point whose specificity is at least the one asked for."""
    check_unit_interval("specificity", specificity)
    reached = np.flatnonzero(curve.specificity >= specificity)
    best = reached[curve.true_positives[reached] == curve.true_positives[reached[0]]]
    return _point(curve, int(best[-1]), n_ties=len(best))


def all_points(curve: RocCurve) -> FloatArray:
    """Return every empirical point as (k + 1, 3): threshold, sensitivity, specificity; thresholds ascend."""
    return np.column_stack((curve.thresholds, curve.sensitivity, curve.specificity))


def _best(curve: RocCurve, merit: FloatArray) -> OperatingPoint:
    equals = np.flatnonzero(merit == merit.max())
    return _point(curve, int(equals[0]), n_ties=len(equals))


def _point(curve: RocCurve, index: int, *, threshold: float | None = None, n_ties: int = 1) -> OperatingPoint:
    shown = float(curve.thresholds[index]) if threshold is None else threshold
    return OperatingPoint(shown, float(curve.sensitivity[index]), float(curve.specificity[index]), index, n_ties)
