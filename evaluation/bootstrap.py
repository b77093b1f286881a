"""Bootstrap of ROC statistics: within the classes (stratified), or over clusters such as patients. Seeded.

The same cases are drawn for all scores, so differences between scores are paired. Percentile intervals use the linear
quantile (R's type 7), as pROC does.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from radserve._checks import read_only
from radserve.evaluation.auc_tests import Interval, check_level
from radserve.evaluation.roc import RocCurve, TieGroups, checked, curve_of_counts, tie_groups
from radserve.evaluation.tables import BoolArray, FloatArray, check_same_length, refusal

Statistic = Callable[[RocCurve], float]
Draw = Callable[[np.random.Generator], FloatArray]


@dataclass(frozen=True)
class Replicates:
    """`values` (replicates, k): the statistic of k scores in each resample that held both classes; not writeable.

    `n_dropped` resamples of clusters held one class only and have no value.
    """

    values: FloatArray
    n_dropped: int
    method: str

    def interval(self, column: int, level: float = 0.95) -> Interval:
        """Return the percentile interval of score `column`."""
        return self._interval(self.values[:, column], level)

    def difference_interval(self, a: int, b: int, level: float = 0.95) -> Interval:
        """Return the percentile interval of statistic A - B."""
        return self._interval(self.values[:, a] - self.values[:, b], level)

    def _interval(self, values: FloatArray, level: float) -> Interval:
        check_level(level)
        warnings = []
        if self.n_dropped:
            warnings.append(
                f"{self.n_dropped} of {self.n_dropped + len(values)} resamples held one class and are left out"
            )
        defined = values[np.isfinite(values)]
        if len(defined) < len(values):
            warnings.append(f"the statistic is undefined in {len(values) - len(defined)} resamples, which are left out")
        if len(defined) == 0:
            warnings.append("no resample has a value: the interval is null")
            return Interval(math.nan, math.nan, level, self.method, tuple(warnings))
        low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
        return Interval(float(low), float(high), level, self.method, tuple(warnings))


def bootstrap(
    scores: npt.ArrayLike,
    positive: npt.ArrayLike,
    *,
    replicates: int,
    seed: int,
    clusters: npt.ArrayLike | None = None,
    statistic: Statistic = lambda curve: curve.auc,
) -> Replicates:
    """Resample the cases `replicates` times and return the statistic (the AUC unless told otherwise) of each score.

    `scores` (k, n) or (n,); `clusters` (n,), when given, are drawn whole, with replacement; otherwise as many positives
    and negatives are drawn as there are. The numbers depend on the seed and the input alone.

    Raises RadserveError INVALID_ARGUMENT as `roc.checked` does, and for fewer than one replicate.
    """
    if replicates < 1:
        raise refusal(f"bootstrap replicates: got {replicates}, expected 1 or more")
    rows = [checked(row, positive) for row in np.atleast_2d(np.asarray(scores, dtype=np.float64))]
    labels = rows[0][1]
    groups = [tie_groups(values) for values, _ in rows]
    draw, method = drawing(labels, clusters)
    generator = np.random.default_rng(seed)
    kept = []
    for _ in range(replicates):
        weights = draw(generator)
        if weights[labels].any() and weights[~labels].any():
            kept.append([_value(each, labels, weights, statistic) for each in groups])
    values = np.array(kept, dtype=np.float64).reshape(len(kept), len(groups))
    return Replicates(read_only(values), replicates - len(kept), method)


def drawing(labels: BoolArray, clusters: npt.ArrayLike | None = None) -> tuple[Draw, str]:
    """Return what draws one resample, as how often each case (n,) is in it, and the name of the method.

    Clusters, when given, are drawn whole; otherwise as many positives and negatives are drawn as there are.
    """
    if clusters is None:
        return _stratified(labels), "bootstrap"
    return _clustered(np.asarray(clusters), labels), "cluster-bootstrap"


def _value(groups: TieGroups, labels: BoolArray, weights: FloatArray, statistic: Statistic) -> float:
    positives, negatives = groups.count(weights * labels), groups.count(weights * ~labels)
    present = positives + negatives > 0  # a score not drawn is no threshold of the resample
    return statistic(curve_of_counts(groups.values[present], positives[present], negatives[present]))


def _stratified(labels: BoolArray) -> Draw:
    classes = (np.flatnonzero(labels), np.flatnonzero(~labels))

    def draw(generator: np.random.Generator) -> FloatArray:
        weights = np.zeros(len(labels))
        for members in classes:
            chosen = generator.integers(0, len(members), len(members))
            weights[members] = np.bincount(chosen, minlength=len(members))
        return weights

    return draw


def _clustered(clusters: npt.NDArray[np.generic], labels: BoolArray) -> Draw:
    check_same_length({"cluster": clusters, "label": labels})
    _, codes = np.unique(clusters, return_inverse=True)
    n_clusters = int(codes.max()) + 1

    def draw(generator: np.random.Generator) -> FloatArray:
        chosen = generator.integers(0, n_clusters, n_clusters)
        return np.bincount(chosen, minlength=n_clusters).astype(np.float64)[codes]

    return draw
