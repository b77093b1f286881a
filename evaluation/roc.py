"""The empirical ROC curve: all its points with pROC's midpoint thresholds, the area under it, average precision.

Everywhere: `scores` has shape (n,), float64, a higher score is more likely positive; `positive` has shape (n,), bool.
A case counts as called positive at threshold t when its score is >= t.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from radserve._checks import read_only
from radserve.evaluation.tables import BoolArray, FloatArray, IntArray, bad_cell, check_same_length, refusal


@dataclass(frozen=True)
class TieGroups:
    """Cases of equal score put together, in ascending order of score: k groups over n cases.

    `values` (k,) are the distinct scores; `group_of_case` (n,) the group of each case, in the order of the input.
    """

    values: FloatArray
    group_of_case: npt.NDArray[np.intp]

    def count(self, weights: npt.NDArray[np.generic]) -> FloatArray:
        """Return the sum of `weights` (n,) in each group, shape (k,), float64."""
        return np.bincount(self.group_of_case, weights, len(self.values)).astype(np.float64, copy=False)


@dataclass(frozen=True)
class RocCurve:
    """Every empirical operating point, from "all positive" (threshold -inf) to "none positive" (+inf).

    `scores` (k,) are the distinct scores, ascending; the other arrays have shape (k + 1,); none is writeable.
    `thresholds` ascend: -inf, the midpoints between neighbouring scores, +inf. At point i the scores from `scores[i]`
    on are called positive.
    """

    scores: FloatArray
    thresholds: FloatArray
    true_positives: FloatArray
    true_negatives: FloatArray

    @property
    def n_positive(self) -> float:
        return float(self.true_positives[0])

    @property
    def n_negative(self) -> float:
        return float(self.true_negatives[-1])

    @property
    def sensitivity(self) -> FloatArray:
        return self.true_positives / self.n_positive

    @property
    def specificity(self) -> FloatArray:
        return self.true_negatives / self.n_negative

    @property
    def auc(self) -> float:
        """Trapezoidal area; ties count one half, so it is the Mann-Whitney statistic (exact counts, one division)."""
        heights = self.true_positives[1:] + self.true_positives[:-1]
        return float(np.dot(np.diff(self.true_negatives), heights) / 2 / (self.n_positive * self.n_negative))


def checked(
    scores: npt.ArrayLike, positive: npt.ArrayLike, *, name: str = "score", label: str = "label"
) -> tuple[FloatArray, BoolArray]:
    """Return scores and labels as float64 and bool arrays of one length.

    Raises RadserveError INVALID_ARGUMENT naming column, row and value for a score that is not finite, a label that is
    not binary, columns of different lengths, no rows, or one class only.
    """
    values = np.asarray(scores, dtype=np.float64)
    labels = np.asarray(positive)
    if values.ndim != 1 or labels.ndim != 1:
        raise refusal(f"{name} and {label}: got shapes {values.shape} and {labels.shape}, expected (n,) for both")
    check_same_length({name: values, label: labels})
    finite = np.isfinite(values)
    if not finite.all():
        row = int(np.argmin(finite))
        raise bad_cell(name, row + 1, float(values[row]), "a finite number")
    if labels.dtype != np.bool_:
        binary = (labels == 0) | (labels == 1)
        if not binary.all():
            row = int(np.argmin(binary))
            raise bad_cell(label, row + 1, labels[row].item(), "0 or 1")
        labels = labels.astype(np.bool_)
    if labels.all() or not labels.any():
        raise refusal(f"column {label!r} has one class only, {int(labels[0])}, in all {len(labels)} rows")
    return values, labels


def tie_groups(scores: FloatArray) -> TieGroups:
    """Group equal scores; scores that differ in the last bit of float64 differ. O(n log n)."""
    order = np.argsort(scores, kind="stable")
    ascending = scores[order]
    starts = np.empty(len(scores), dtype=np.bool_)
    starts[0] = True
    np.not_equal(ascending[1:], ascending[:-1], out=starts[1:])
    group_of_case = np.empty(len(scores), dtype=np.intp)
    group_of_case[order] = np.cumsum(starts) - 1
    return TieGroups(ascending[starts], group_of_case)


def roc_curve(scores: npt.ArrayLike, positive: npt.ArrayLike, *, name: str = "score") -> RocCurve:
    """Return the empirical curve of checked input (see `checked`, which raises)."""
    values, labels = checked(scores, positive, name=name)
    groups = tie_groups(values)
    positives = groups.count(labels)
    return curve_of_counts(groups.values, positives, groups.count(np.ones(len(values))) - positives)


def curve_of_counts(values: FloatArray, positives: FloatArray, negatives: FloatArray) -> RocCurve:
    """Return the curve of k ascending scores held by so many positives and negatives; all arrays (k,)."""
    below = values[:-1] / 2 + values[1:] / 2  # halves first: the sum of two large scores could overflow
    # Between neighbours of float64 the midpoint rounds to one of them: the upper one parts them as >= does.
    midpoints = np.where(below <= values[:-1], values[1:], below)
    thresholds = np.concatenate(([-np.inf], midpoints, [np.inf]))
    called = positives.sum() - np.concatenate(([0.0], np.cumsum(positives)))
    passed = np.concatenate(([0.0], np.cumsum(negatives)))
    return RocCurve(read_only(values), read_only(thresholds), read_only(called), read_only(passed))


def auc(scores: npt.ArrayLike, positive: npt.ArrayLike) -> float:
    """Return the area under the empirical curve: P(positive scores higher) + P(tie) / 2. Never turned round."""
    return roc_curve(scores, positive).auc


def average_precision(scores: npt.ArrayLike, positive: npt.ArrayLike) -> float:
    """Return sum of (recall step x precision) over the thresholds from high to low, without interpolation.

    The same definition as scikit-learn's `average_precision_score`.
    """
    return average_precision_of(roc_curve(scores, positive))


def average_precision_of(curve: RocCurve) -> float:
    """Return the average precision of a curve; see `average_precision`."""
    called_positive = curve.true_positives[:-1]  # without the +inf point, where nobody is called
    false_positives = curve.n_negative - curve.true_negatives[:-1]
    precision = called_positive / (called_positive + false_positives)
    return float(np.dot(-np.diff(curve.sensitivity), precision))


def counts_at(curve: RocCurve, index: int) -> IntArray:
    """Return (true positives, false positives, true negatives, false negatives) at one point, int64."""
    called, passed = curve.true_positives[index], curve.true_negatives[index]
    counts = [called, curve.n_negative - passed, passed, curve.n_positive - called]
    return np.array(counts).round().astype(np.int64)
