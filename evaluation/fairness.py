"""Does the model serve all groups alike? Measures by group and by intersection, their gaps, and corrected tests.

Groups come as columns of text: sex, age band, site, scanner, anything. The underdiagnosis rate is the false positive
rate of "no finding" among patients who have one (Seyyed-Kalantari et al., Nature Medicine 2021; 27:2176), which is the
false negative rate where the label is a finding and the false positive rate where the label itself is "no finding".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from radserve.evaluation.auc_tests import unpaired_test
from radserve.evaluation.fairness_tests import GroupTest, compare_groups, newcombe
from radserve.evaluation.group_measures import AUROC, RATES, GroupMeasures, Measure, UnderdiagnosisOf, measure_group
from radserve.evaluation.multiplicity import Correction, adjust
from radserve.evaluation.tables import BoolArray, FloatArray, check_same_length, refusal

MINIMUM_SIZE = 30  # patients in a group
MINIMUM_CLASS = 5  # of the class a measure is about
MISSING_GROUP = "(missing)"
AGE_EDGES = (18, 40, 60, 80)  # years
JOIN = " x "


@dataclass(frozen=True)
class Gap:
    """The largest difference of one measure between the groups of one attribute, among groups large enough.

    `ratio` is lowest / highest, as fairlearn's; null when the highest is 0. `difference_ci` is of the difference of
    these two groups (AUROC: DeLong, unpaired; rates: Newcombe's hybrid score) and does not know that they were chosen
    as extremes: judge by the tests.
    """

    attribute: str
    measure: str
    highest_group: str
    lowest_group: str
    difference: float
    difference_ci: tuple[float, float]
    ratio: float | None


@dataclass(frozen=True)
class Fairness:
    """Everything by group; null values and groups left out have their reason in `warnings`."""

    threshold: float
    minimum_size: int
    ci_level: float
    alpha: float
    correction: str
    overall: GroupMeasures
    groups: tuple[GroupMeasures, ...]
    gaps: tuple[Gap, ...]
    tests: tuple[GroupTest, ...]
    unfair: bool
    warnings: tuple[str, ...]


def age_bands(ages: Sequence[float | None], edges: Sequence[int] = AGE_EDGES) -> tuple[str, ...]:
    """Return the band of each age in years: "0-17", "18-39" ... "80+"; "(missing)" for None and NaN.

    Raises INVALID_ARGUMENT for an age outside 0 to 150 and for edges that do not rise.
    """
    if list(edges) != sorted({edge for edge in edges if edge > 0}):
        raise refusal(f"age edges: got {list(edges)}, expected rising numbers above 0")
    starts = (0, *edges)
    names = [*(f"{low}-{high - 1}" for low, high in zip(starts, edges, strict=False)), f"{starts[-1]}+"]
    return tuple(_band(row, age, edges, names) for row, age in enumerate(ages, start=1))


def with_intersections(attributes: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """Return the attributes and every pair of them: "sex x site" with groups such as "F x north"."""
    result = {name: tuple(groups) for name, groups in attributes.items()}
    for first, second in combinations(attributes, 2):
        pairs = zip(attributes[first], attributes[second], strict=True)
        result[f"{first}{JOIN}{second}"] = tuple(f"{a}{JOIN}{b}" for a, b in pairs)
    return result


def assess_fairness(
    labels: BoolArray,
    scores: FloatArray,
    attributes: Mapping[str, Sequence[str]],
    *,
    threshold: float,
    minimum_size: int = MINIMUM_SIZE,
    minimum_class: int = MINIMUM_CLASS,
    ci_level: float = 0.95,
    alpha: float = 0.05,
    correction: Correction = Correction.HOLM,
    underdiagnosis_of: UnderdiagnosisOf = UnderdiagnosisOf.FINDING,
    n_permutations: int = 0,
    seed: int = 0,
) -> Fairness:
    """Measure every group of every attribute, (n,) texts each; a case is positive when its score >= `threshold`.

    Tests: each group against all others (once only where there are two groups) on AUROC (DeLong, unpaired), TPR and FPR
    (Fisher); with `n_permutations` also the AUROC gap of each attribute, the group shuffled within each class. All
    p-values of the report are corrected together; `unfair` says that one is at most `alpha` after that.

    Raises INVALID_ARGUMENT for different lengths, no attribute, labels of one class and scores that are not finite.
    """
    check_same_length({"labels": labels, "scores": scores, **attributes})
    if not attributes:
        raise refusal("fairness: got no group column, expected at least one")
    if minimum_size < 2 or minimum_class < 2:
        raise refusal(f"minimum size: got {minimum_size} and {minimum_class}, expected at least 2")
    measure = Measure(labels, scores, threshold, ci_level, minimum_size, minimum_class, underdiagnosis_of)
    groups: list[GroupMeasures] = []
    gaps: list[Gap] = []
    tests: list[GroupTest] = []
    warnings: list[str] = []
    for attribute, members in attributes.items():
        names = np.array([each.strip() or MISSING_GROUP for each in members])
        found = [measure_group(measure, attribute, name, names == name) for name in sorted(set(names.tolist()))]
        groups += found
        gaps += _gaps(attribute, found, ci_level)
        tests += compare_groups(measure, attribute, names, found, n_permutations=n_permutations, seed=seed)
        if sum(each.sufficient for each in found) < 2:
            warnings.append(f"{attribute}: fewer than two groups of at least {minimum_size}: no gap and no test")
    tests = _corrected(tests, correction, alpha)
    warnings += [*_undefined(tests, gaps), *(note for each in groups for note in each.warnings)]
    overall = measure_group(measure, "", "", np.ones(len(labels), np.bool_))
    return Fairness(
        threshold=threshold,
        minimum_size=minimum_size,
        ci_level=ci_level,
        alpha=alpha,
        correction=correction.value,
        overall=overall,
        groups=tuple(groups),
        gaps=tuple(gaps),
        tests=tuple(tests),
        unfair=any(each.rejected for each in tests),
        warnings=tuple(warnings),
    )


def _undefined(tests: Sequence[GroupTest], gaps: Sequence[Gap]) -> Iterator[str]:
    for test in tests:
        if np.isnan(test.p):
            yield f"{test.attribute} {test.group}: the {test.measure} test is undefined, its difference has variance 0"
    for gap in gaps:
        if gap.ratio is None:
            yield f"{gap.attribute}: the {gap.measure} ratio is null, its highest value is 0"


def _band(row: int, age: float | None, edges: Sequence[int], names: Sequence[str]) -> str:
    if age is None or np.isnan(age):
        return MISSING_GROUP
    if not 0 <= age <= 150:
        raise refusal(f"age, row {row}: got {age!r}, expected 0 to 150 years")
    return names[int(np.searchsorted(edges, age, side="right"))]


def _corrected(tests: Sequence[GroupTest], correction: Correction, alpha: float) -> list[GroupTest]:
    adjusted = adjust([each.p for each in tests], correction)
    return [replace(test, p_adjusted=p, rejected=p <= alpha) for test, p in zip(tests, adjusted, strict=True)]


def _gaps(attribute: str, groups: Sequence[GroupMeasures], ci_level: float) -> Iterator[Gap]:
    for name in (AUROC, *RATES):
        measured = [each for each in groups if each.value(name) is not None]
        if len(measured) < 2:
            continue
        highest = max(measured, key=lambda each: each.value(name) or 0.0)
        lowest = min(measured, key=lambda each: each.value(name) or 0.0)
        high, low = highest.value(name) or 0.0, lowest.value(name) or 0.0
        yield Gap(
            attribute=attribute,
            measure=name,
            highest_group=highest.group,
            lowest_group=lowest.group,
            difference=high - low,
            difference_ci=_difference_ci(name, highest, lowest, ci_level),
            ratio=low / high if high else None,
        )


def _difference_ci(name: str, a: GroupMeasures, b: GroupMeasures, level: float) -> tuple[float, float]:
    if name != AUROC:
        rate_a, rate_b = a.rate(name), b.rate(name)
        return newcombe(rate_a, rate_b)
    area_a, area_b = a.area(), b.area()
    test = unpaired_test(area_a.value, area_a.variance, a.n, area_b.value, area_b.variance, b.n, level)
    return test.interval.low, test.interval.high
