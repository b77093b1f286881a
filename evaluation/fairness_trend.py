"""Periodic review of fairness: the gaps of each period, their trend, and an alarm with a stated false-alarm rate.

The rule. `planned` reviews are stated beforehand, and each spends alpha / planned: half on the period's own tests (each
group against the others, as in `fairness`, Holm's correction over the period), half on the slope of each attribute's
AUROC gap over the periods so far (Holm over the attributes). By Bonferroni a run in which no group differs and nothing
moves raises any alarm at all with probability alpha at most, and an alarm once raised does not depend on what comes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from radserve.evaluation.fairness import MINIMUM_CLASS, MINIMUM_SIZE, Fairness, Gap, assess_fairness
from radserve.evaluation.fairness_tests import GroupTest
from radserve.evaluation.group_measures import Area
from radserve.evaluation.multiplicity import Correction, adjust
from radserve.evaluation.tables import BoolArray, FloatArray, refusal

LEAST_PERIODS = 3  # that a slope is tested on


@dataclass(frozen=True)
class Period:
    """The cases of one period: (n,) labels, scores, and the group of each by attribute."""

    name: str
    labels: BoolArray
    scores: FloatArray
    attributes: Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Slope:
    """How AUROC of `group` - AUROC of `versus` moves per period: least squares weighted by DeLong's variances, z test.

    The two groups are the extremes of the mean over the periods, which is independent of the slope.
    """

    attribute: str
    group: str
    versus: str
    n_periods: int
    slope: float
    ci: tuple[float, float]
    p: float
    p_adjusted: float = math.nan
    alarm: bool = False


@dataclass(frozen=True)
class Review:
    """One period: its gaps with intervals, its tests, the slopes so far, and whether it raises an alarm."""

    period: str
    n: int
    gaps: tuple[Gap, ...]
    tests: tuple[GroupTest, ...]
    slopes: tuple[Slope, ...]
    alarm: bool
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class FairnessTrend:
    """All reviews, in their order; `first_alarm` is the name of the period that raised the first one."""

    alpha: float
    planned: int
    ci_level: float
    threshold: float
    reviews: tuple[Review, ...]
    alarm: bool
    first_alarm: str | None


def fairness_trend(
    periods: Sequence[Period],
    *,
    threshold: float,
    planned: int | None = None,
    alpha: float = 0.05,
    ci_level: float = 0.95,
    minimum_size: int = MINIMUM_SIZE,
    minimum_class: int = MINIMUM_CLASS,
) -> FairnessTrend:
    """Review the periods, oldest first; `planned` reviews (as many as there are periods unless told) share `alpha`.

    Raises INVALID_ARGUMENT for no period, one name twice, more periods than planned, alpha not between 0 and 1, and as
    `assess_fairness` does, naming the period.
    """
    names = [each.name for each in periods]
    if not names or len(set(names)) < len(names):
        raise refusal(f"periods: got {names}, expected one or more different ones")
    budget = len(names) if planned is None else planned
    if budget < len(names):
        raise refusal(f"planned reviews: got {budget}, expected at least the {len(names)} periods given")
    if not 0 < alpha < 1:
        raise refusal(f"alpha: got {alpha}, expected between 0 and 1")
    share = alpha / budget / 2
    found: list[Fairness] = []
    reviews = []
    for period in periods:
        if len(set(period.labels.tolist())) < 2:
            raise refusal(f"period {period.name!r}: its {len(period.labels)} cases are of one class only")
        report = assess_fairness(
            period.labels,
            period.scores,
            period.attributes,
            threshold=threshold,
            minimum_size=minimum_size,
            minimum_class=minimum_class,
            ci_level=ci_level,
            alpha=share,
            correction=Correction.HOLM,
        )
        found.append(report)
        slopes = _slopes(found, share, ci_level)
        alarm = report.unfair or any(each.alarm for each in slopes)
        reviews.append(
            Review(period.name, len(period.labels), report.gaps, report.tests, slopes, alarm, report.warnings)
        )
    first = next((each.period for each in reviews if each.alarm), None)
    return FairnessTrend(alpha, budget, ci_level, threshold, tuple(reviews), first is not None, first)


def _slopes(reports: Sequence[Fairness], share: float, level: float) -> tuple[Slope, ...]:
    if len(reports) < LEAST_PERIODS:
        return ()
    attributes = dict.fromkeys(each.attribute for each in reports[-1].groups)
    slopes = [slope for name in attributes for slope in _slope(reports, name, level)]
    adjusted = adjust([each.p for each in slopes], Correction.HOLM)
    return tuple(replace(each, p_adjusted=p, alarm=bool(p <= share)) for each, p in zip(slopes, adjusted, strict=True))


def _slope(reports: Sequence[Fairness], attribute: str, level: float) -> Iterator[Slope]:
    """Yield the slope of one attribute, nothing where two groups do not have an AUROC with variance in every period."""
    areas = [_areas(report, attribute) for report in reports]
    common = sorted(set.intersection(*(set(each) for each in areas)))
    if len(common) < 2:
        return
    means = {name: _weighted_mean([each[name] for each in areas]) for name in common}
    high, low = max(common, key=means.__getitem__), min(common, key=means.__getitem__)
    if high == low:
        high, low = common[0], common[1]
    differences = np.array([each[high].value - each[low].value for each in areas])
    weights = 1 / np.array([each[high].variance + each[low].variance for each in areas])
    times = np.arange(len(areas)) - np.average(np.arange(len(areas)), weights=weights)
    information = float(np.sum(weights * times**2))
    slope, se = float(np.sum(weights * times * differences)) / information, 1 / math.sqrt(information)
    half = float(stats.norm.isf((1 - level) / 2)) * se
    p = 2 * float(stats.norm.sf(abs(slope) / se))
    yield Slope(attribute, high, low, len(areas), slope, (slope - half, slope + half), p)


def _areas(report: Fairness, attribute: str) -> dict[str, Area]:
    areas = {each.group: each.auroc for each in report.groups if each.attribute == attribute}
    return {name: area for name, area in areas.items() if area is not None and area.variance > 0}


def _weighted_mean(areas: Sequence[Area]) -> float:
    return float(np.average([each.value for each in areas], weights=[1 / each.variance for each in areas]))
