"""Is one model less fair than another? The gaps of two models over the same patients, and the difference of the gaps.

The gap of a model is its value in the group where it does best minus that where it does worst; these two groups are
chosen for each model on the whole data and stay in all resamples, so intervals hold for the groups so chosen. The same
patients are drawn for both models (paired), whole patients where clusters are given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from radserve._checks import read_only
from radserve.evaluation.bootstrap import Replicates, drawing
from radserve.evaluation.fairness import Fairness, Gap
from radserve.evaluation.group_measures import AUROC, FPR, TPR
from radserve.evaluation.roc import curve_of_counts, tie_groups
from radserve.evaluation.roc_options import DEFAULT_REPLICATES
from radserve.evaluation.tables import BoolArray, FloatArray, check_same_length, refusal

COMPARED = (AUROC, TPR, FPR)
Weighted = Callable[[FloatArray], float]  # how often each case (n,) was drawn -> the measure


@dataclass(frozen=True)
class Model:
    """One model: its score column (n,), its threshold, and the fairness report that chose its extreme groups."""

    name: str
    scores: FloatArray
    threshold: float
    fairness: Fairness


@dataclass(frozen=True)
class ModelGap:
    """The gap of one model: value in `highest_group` - value in `lowest_group`, with its bootstrap interval."""

    score: str
    highest_group: str
    lowest_group: str
    gap: float
    ci: tuple[float, float]


@dataclass(frozen=True)
class GapComparison:
    """The gaps of two models side by side; `difference` is gap A - gap B, above 0 when A is the less fair."""

    attribute: str
    measure: str
    a: ModelGap
    b: ModelGap
    difference: float
    difference_ci: tuple[float, float]
    method: str
    replicates: int
    warnings: tuple[str, ...]


def compare_gaps(
    labels: BoolArray,
    models: Sequence[Model],
    attributes: Mapping[str, Sequence[str]],
    *,
    clusters: Sequence[str] | None = None,
    replicates: int = DEFAULT_REPLICATES,
    seed: int = 0,
    ci_level: float = 0.95,
) -> tuple[GapComparison, ...]:
    """Return the gaps in AUROC, TPR and FPR of every pair of models, by attribute; `attributes` as in the reports.

    Raises INVALID_ARGUMENT for fewer than two models, a repeated one, different lengths, and no replicates.
    """
    names = [each.name for each in models]
    if len(names) < 2 or len(set(names)) < len(names):
        raise refusal(f"gap comparison: got models {names}, expected two or more different ones")
    if replicates < 1:
        raise refusal(f"bootstrap replicates: got {replicates}, expected 1 or more")
    check_same_length({"label": labels, **{each.name: each.scores for each in models}, **attributes})
    chosen = [
        (name, measure, [_gap(model, name, measure) for model in models]) for name in attributes for measure in COMPARED
    ]
    found = [(name, measure, [gap for gap in gaps if gap]) for name, measure, gaps in chosen if all(gaps)]
    statistics = [
        _contrast(labels, model, np.array(attributes[name]), gap)
        for name, _, gaps in found
        for model, gap in zip(models, gaps, strict=True)
    ]
    draws = _resample(statistics, labels, clusters, replicates, seed)
    return tuple(_compare(found, names, draws, ci_level))


def _gap(model: Model, attribute: str, measure: str) -> Gap | None:
    return next(
        (gap for gap in model.fairness.gaps if (gap.attribute, gap.measure) == (attribute, measure)),
        None,
    )


def _resample(
    statistics: Sequence[Weighted], labels: BoolArray, clusters: Sequence[str] | None, replicates: int, seed: int
) -> Replicates:
    draw, method = drawing(labels, clusters)
    generator = np.random.default_rng(seed)
    values = np.empty((replicates, len(statistics)))
    for row in values:
        weights = draw(generator)
        row[:] = [each(weights) for each in statistics]
    return Replicates(read_only(values), 0, method)


def _contrast(labels: BoolArray, model: Model, groups: npt.NDArray[np.str_], gap: Gap) -> Weighted:
    high, low = (_measure(gap.measure, labels, model, groups == name) for name in (gap.highest_group, gap.lowest_group))

    def difference(weights: FloatArray) -> float:
        return high(weights) - low(weights)

    return difference


def _measure(name: str, labels: BoolArray, model: Model, members: BoolArray) -> Weighted:
    rows = np.flatnonzero(members)
    positive, scores = labels[rows], model.scores[rows]
    if name == AUROC:
        ties = tie_groups(scores)

        def area(weights: FloatArray) -> float:
            drawn = weights[rows]
            positives, negatives = ties.count(drawn * positive), ties.count(drawn * ~positive)
            if not positives.any() or not negatives.any():
                return float("nan")
            return curve_of_counts(ties.values, positives, negatives).auc

        return area
    of_class = rows[positive if name == TPR else ~positive]
    called = model.scores[of_class] >= model.threshold

    def rate(weights: FloatArray) -> float:
        drawn = weights[of_class]
        total = drawn.sum()
        return float(drawn[called].sum() / total) if total else float("nan")

    return rate


def _compare(
    found: Sequence[tuple[str, str, Sequence[Gap]]], names: Sequence[str], draws: Replicates, level: float
) -> Iterator[GapComparison]:
    for place, (attribute, measure, gaps) in enumerate(found):
        start = place * len(names)
        intervals = [draws.interval(start + at, level) for at in range(len(names))]
        sides = [
            ModelGap(name, gap.highest_group, gap.lowest_group, gap.difference, (interval.low, interval.high))
            for name, gap, interval in zip(names, gaps, intervals, strict=True)
        ]
        for a, b in combinations(range(len(names)), 2):
            interval = draws.difference_interval(start + a, start + b, level)
            yield GapComparison(
                attribute=attribute,
                measure=measure,
                a=sides[a],
                b=sides[b],
                difference=sides[a].gap - sides[b].gap,
                difference_ci=(interval.low, interval.high),
                method=f"paired {draws.method}",
                replicates=len(draws.values),
                warnings=interval.warnings,
            )
