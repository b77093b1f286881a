"""Tests of one group against the others, and of the whole gap of an attribute by permutation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from radserve.evaluation.auc_tests import unpaired_test
from radserve.evaluation.delong import delong
from radserve.evaluation.group_measures import AUROC, FPR, TPR, GroupMeasures, Measure
from radserve.evaluation.rates import Rate
from radserve.evaluation.tables import BoolArray, FloatArray

Names = npt.NDArray[np.str_]
ALL_GROUPS = "(all groups)"
OTHERS = "(all others)"


@dataclass(frozen=True)
class GroupTest:
    """One test; `difference` is group - versus (for `(all groups)`: the gap). `p_adjusted` is over the whole report."""

    attribute: str
    measure: str
    group: str
    versus: str
    method: str
    difference: float
    p: float
    p_adjusted: float = float("nan")
    rejected: bool = False


def compare_groups(
    measure: Measure,
    attribute: str,
    names: Names,
    groups: Sequence[GroupMeasures],
    *,
    n_permutations: int = 0,
    seed: int = 0,
) -> Iterator[GroupTest]:
    """Yield the tests of one attribute, whose group of each patient is `names` (n,): those with enough cases.

    With two groups in all, the first is tested against the second; with more, each against all other patients.
    """
    sufficient = [each for each in groups if each.sufficient]
    if len(sufficient) < 2:
        return
    for each in sufficient[:1] if len(groups) == 2 else sufficient:
        versus = groups[1].group if len(groups) == 2 else OTHERS
        members = names == each.group
        yield from _test_rates(measure, each, versus, members)
        if each.auroc is not None and _has_both(measure, ~members):
            yield _test_area(measure, each, versus, members)
    with_area = [each.group for each in sufficient if each.auroc is not None]
    if n_permutations and len(with_area) > 1:
        difference, p = permutation_gap(measure.labels, measure.scores, names, with_area, n_permutations, seed)
        yield GroupTest(attribute, AUROC, ALL_GROUPS, ALL_GROUPS, "permutation of the AUROC gap", difference, p)


def permutation_gap(
    labels: BoolArray, scores: FloatArray, names: Names, groups: Sequence[str], n_permutations: int, seed: int
) -> tuple[float, float]:
    """Return the AUROC gap, highest - lowest of `groups`, and its permutation p-value.

    Groups are shuffled among the patients of the same class, so that a group with more disease is not by itself
    different; p = (1 + gaps at least as large) / (1 + permutations).
    """
    kept = np.isin(names, groups)
    positive = labels[kept]
    codes = np.searchsorted(np.sort(groups), names[kept])
    _, ranks = np.unique(scores[kept], return_inverse=True)
    observed = _gap(codes, positive, ranks, len(groups))
    rng = np.random.default_rng(seed)
    as_large = 0
    shuffled = codes.copy()
    for _ in range(n_permutations):
        for of_class in (positive, ~positive):
            shuffled[of_class] = rng.permutation(codes[of_class])
        as_large += _gap(shuffled, positive, ranks, len(groups)) >= observed - 1e-12
    return observed, (1 + as_large) / (1 + n_permutations)


def newcombe(a: Rate, b: Rate) -> tuple[float, float]:
    """Return the interval of a - b of independent rates from their Wilson intervals (Newcombe 1998, method 10)."""
    difference = a.value - b.value
    below = np.hypot(a.value - a.low, b.high - b.value)
    above = np.hypot(a.high - a.value, b.value - b.low)
    return float(difference - below), float(difference + above)


def _test_rates(measure: Measure, group: GroupMeasures, versus: str, members: BoolArray) -> Iterator[GroupTest]:
    for name, of_class in ((TPR, measure.labels), (FPR, ~measure.labels)):
        others = measure.positive_calls[of_class & ~members]
        if group.value(name) is None or len(others) < measure.minimum_class:
            continue
        own = group.rate(name)
        table = [[own.count, own.of - own.count], [int(others.sum()), int((~others).sum())]]
        p = float(stats.fisher_exact(table).pvalue)
        difference = own.value - float(others.mean())
        yield GroupTest(group.attribute, name, group.group, versus, "Fisher's exact test", difference, p)


def _test_area(measure: Measure, group: GroupMeasures, versus: str, members: BoolArray) -> GroupTest:
    own = group.area()
    rest = delong(measure.scores[~members], measure.labels[~members])
    n_rest = int((~members).sum())
    test = unpaired_test(own.value, own.variance, group.n, float(rest.auc[0]), float(rest.variance[0]), n_rest)
    p = test.p_two_sided
    return GroupTest(group.attribute, AUROC, group.group, versus, "DeLong, unpaired", test.difference, p)


def _has_both(measure: Measure, members: BoolArray) -> bool:
    n_positive = int(measure.labels[members].sum())
    return min(n_positive, int(members.sum()) - n_positive) >= measure.minimum_class


def _gap(codes: npt.NDArray[np.intp], positive: BoolArray, ranks: npt.NDArray[np.intp], n_groups: int) -> float:
    areas = [_area(positive[codes == each], ranks[codes == each]) for each in range(n_groups)]
    return max(areas) - min(areas)


def _area(positive: BoolArray, ranks: npt.NDArray[np.intp]) -> float:
    size = int(ranks.max()) + 1
    positives = np.bincount(ranks[positive], minlength=size)
    negatives = np.bincount(ranks[~positive], minlength=size)
    below = np.cumsum(negatives) - negatives / 2
    return float(positives @ below / (positives.sum() * negatives.sum()))
