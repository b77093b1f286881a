"""DeLong's inference on areas under ROC curves, in O(n log n), and Obuchowski's form of it for clustered cases.

E. R. DeLong, D. M. DeLong, D. L. Clarke-Pearson, Biometrics 44 (1988) 837: the covariance of correlated areas.
X. Sun, W. Xu, IEEE Signal Processing Letters 21 (2014) 1389: placements from mid-ranks.
N. A. Obuchowski, Biometrics 53 (1997) 567: several cases of one patient.
Scores of k methods over the same n cases have shape (k, n); a difference of A and B is always A - B.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from radserve._checks import read_only
from radserve.evaluation.roc import checked, tie_groups
from radserve.evaluation.tables import BoolArray, FloatArray, check_same_length


@dataclass(frozen=True)
class Placements:
    """How each case stands among those of the other class, for k methods; not writeable.

    `of_positives` (k, n_positive): share of the negatives below the case, ties one half.
    `of_negatives` (k, n_negative): share of the positives above the case, ties one half.
    """

    auc: FloatArray
    of_positives: FloatArray
    of_negatives: FloatArray


@dataclass(frozen=True)
class AucEstimates:
    """k areas with their covariance, float64; NaN where a class has fewer than two (independent) cases.

    `covariance` (k, k). `difference_variance` (k, k) holds the variance of auc[a] - auc[b], taken from the differences
    of the placements, so that it keeps its digits when two methods differ in one case of a million, and is exactly 0
    when they rank alike.
    """

    auc: FloatArray
    covariance: FloatArray
    difference_variance: FloatArray
    n_positive: int
    n_negative: int

    @property
    def variance(self) -> FloatArray:
        return np.diagonal(self.covariance).copy()


def placements(scores: npt.ArrayLike, positive: npt.ArrayLike, *, names: Sequence[str] = ()) -> Placements:
    """Return the placements of (k, n) or (n,) scores. Raises as `roc.checked` does; `names` stand in its errors."""
    rows = np.atleast_2d(np.asarray(scores, dtype=np.float64))
    titles = list(names) or [f"score {number}" for number in range(1, len(rows) + 1)]
    above, below, areas = [], [], []
    for title, row in zip(titles, rows, strict=True):
        values, labels = checked(row, positive, name=title)
        of_positives, of_negatives, area = _place(values, labels)
        above.append(of_positives)
        below.append(of_negatives)
        areas.append(area)
    return Placements(read_only(np.array(areas)), read_only(np.array(above)), read_only(np.array(below)))


def delong(scores: npt.ArrayLike, positive: npt.ArrayLike, *, names: Sequence[str] = ()) -> AucEstimates:
    """Return the areas of k correlated methods and DeLong's covariance. Time O(k n log n), memory O(k n).

    Raises as `roc.checked` does. With a single positive or negative case the covariance is NaN.
    """
    placed = placements(scores, positive, names=names)
    n_positive, n_negative = placed.of_positives.shape[1], placed.of_negatives.shape[1]
    positives = (placed.of_positives - placed.auc[:, None]) / n_positive
    negatives = (placed.of_negatives - placed.auc[:, None]) / n_negative

    def covariance(x_positive: FloatArray, x_negative: FloatArray) -> FloatArray:
        return np.asarray(
            _inflation(n_positive) * _products(x_positive) + _inflation(n_negative) * _products(x_negative)
        )

    return _estimates(placed.auc, positives, negatives, covariance, n_positive, n_negative)


def clustered_delong(
    scores: npt.ArrayLike, positive: npt.ArrayLike, clusters: npt.ArrayLike, *, names: Sequence[str] = ()
) -> AucEstimates:
    """Return the areas with Obuchowski's (1997) covariance: cases of one cluster (patient), shape (n,), may correlate.

    Equal to `delong` when every case is its own cluster. NaN when a class occurs in fewer than two clusters.
    """
    placed = placements(scores, positive, names=names)
    labels = np.asarray(positive).astype(np.bool_)
    members = np.asarray(clusters)
    check_same_length({"cluster": members, "label": labels})
    _, codes = np.unique(members, return_inverse=True)
    n_clusters = int(codes.max()) + 1
    n_positive, n_negative = placed.of_positives.shape[1], placed.of_negatives.shape[1]
    positives = _sum_by(codes[labels], placed.of_positives - placed.auc[:, None], n_clusters) / n_positive
    negatives = _sum_by(codes[~labels], placed.of_negatives - placed.auc[:, None], n_clusters) / n_negative
    inflate_positives = _inflation(len(np.unique(codes[labels])))
    inflate_negatives = _inflation(len(np.unique(codes[~labels])))

    def covariance(x_positive: FloatArray, x_negative: FloatArray) -> FloatArray:
        cross = np.asarray(x_positive @ x_negative.T)
        return np.asarray(
            inflate_positives * _products(x_positive)
            + inflate_negatives * _products(x_negative)
            + _inflation(n_clusters) * (cross + cross.T)
        )

    return _estimates(placed.auc, positives, negatives, covariance, n_positive, n_negative)


def _place(values: FloatArray, labels: BoolArray) -> tuple[FloatArray, FloatArray, float]:
    """Placements from counts in the groups of ties: the same numbers as differences of mid-ranks, from one sort."""
    groups = tie_groups(values)
    positives = groups.count(labels)
    negatives = groups.count(~labels)
    negatives_below = np.cumsum(negatives) - negatives / 2
    positives_above = positives.sum() - np.cumsum(positives) + positives / 2
    group = groups.group_of_case
    n_positive, n_negative = positives.sum(), negatives.sum()
    area = float(np.dot(positives, negatives_below) / (n_positive * n_negative))
    return negatives_below[group[labels]] / n_negative, positives_above[group[~labels]] / n_positive, area


def _estimates(
    areas: FloatArray,
    positives: FloatArray,
    negatives: FloatArray,
    covariance: Callable[[FloatArray, FloatArray], FloatArray],
    n_positive: int,
    n_negative: int,
) -> AucEstimates:
    k = len(areas)
    differences = np.zeros((k, k))
    for a in range(k):
        for b in range(a + 1, k):
            of_pair = covariance(positives[[a]] - positives[[b]], negatives[[a]] - negatives[[b]])
            differences[a, b] = differences[b, a] = of_pair[0, 0]
    matrix = covariance(positives, negatives)
    return AucEstimates(areas, read_only(matrix), read_only(differences), n_positive, n_negative)


def _products(values: FloatArray) -> FloatArray:
    return np.asarray(values @ values.T)


def _sum_by(codes: npt.NDArray[np.intp], values: FloatArray, n_clusters: int) -> FloatArray:
    return np.array([np.bincount(codes, weights=row, minlength=n_clusters) for row in values])


def _inflation(count: int) -> float:
    """Bessel's correction of a sum over `count` independent units; NaN for a single one."""
    return count / (count - 1) if count > 1 else float("nan")
