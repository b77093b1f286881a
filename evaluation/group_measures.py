"""AUROC and rates of one group of patients, with intervals, or the reason why they are not given."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import cast

import numpy as np

from radserve.evaluation.auc_tests import auc_interval
from radserve.evaluation.delong import delong
from radserve.evaluation.rates import Rate, proportion
from radserve.evaluation.tables import BoolArray, FloatArray

AUROC = "auroc"
TPR, FPR = "tpr", "fpr"
RATES = (TPR, FPR, "selection_rate", "underdiagnosis_rate")


class UnderdiagnosisOf(StrEnum):
    """What the positive label means: a finding, or that there is none."""

    FINDING = "finding"
    NO_FINDING = "no-finding"


@dataclass(frozen=True)
class Measure:
    """What every group is measured by; `labels` and `scores` (n,) are of all patients."""

    labels: BoolArray
    scores: FloatArray
    threshold: float
    ci_level: float
    minimum_size: int
    minimum_class: int
    underdiagnosis_of: UnderdiagnosisOf

    @property
    def positive_calls(self) -> BoolArray:
        return self.scores >= self.threshold


@dataclass(frozen=True)
class Area:
    """An AUROC with DeLong's variance and interval (not clipped; null at variance NaN)."""

    value: float
    variance: float
    ci: tuple[float, float]


@dataclass(frozen=True)
class GroupMeasures:
    """One group; rates have Wilson's intervals.

    All measures are None in a group below the minimum size, whose status is "insufficient".
    """

    attribute: str
    group: str
    status: str
    n: int
    n_positive: int
    n_negative: int
    auroc: Area | None
    tpr: Rate | None
    fpr: Rate | None
    selection_rate: Rate | None
    underdiagnosis_rate: Rate | None
    warnings: tuple[str, ...]

    @property
    def sufficient(self) -> bool:
        return self.status == "sufficient"

    def value(self, name: str) -> float | None:
        """Return the point value of a measure by its name."""
        measured = cast("Area | Rate | None", getattr(self, name))
        return None if measured is None else measured.value

    def rate(self, name: str) -> Rate:
        """Return a rate that is known to be there."""
        return cast(Rate, getattr(self, name))

    def area(self) -> Area:
        """Return the AUROC that is known to be there."""
        return cast(Area, self.auroc)


def measure_group(measure: Measure, attribute: str, group: str, members: BoolArray) -> GroupMeasures:
    """Return the measures of the patients marked in `members` (n,)."""
    labels, calls = measure.labels[members], measure.positive_calls[members]
    n, n_positive = len(labels), int(np.sum(labels))
    n_negative = n - n_positive
    title = f"{attribute} {group}".strip() or "all"
    if n < measure.minimum_size:
        note = f"{title}: insufficient, {n} patients are fewer than {measure.minimum_size}"
        return GroupMeasures(
            attribute, group, "insufficient", n, n_positive, n_negative, None, None, None, None, None, (note,)
        )
    warnings: list[str] = []
    enough_positive, enough_negative = n_positive >= measure.minimum_class, n_negative >= measure.minimum_class
    for count, enough, kind, lost in (
        (n_positive, enough_positive, "positives", "AUROC and TPR"),
        (n_negative, enough_negative, "negatives", "AUROC and FPR"),
    ):
        if not enough:
            warnings.append(f"{title}: {lost} are null, {count} {kind} are fewer than {measure.minimum_class}")
    true_positives, false_positives = int(np.sum(calls & labels)), int(np.sum(calls & ~labels))
    tpr = _rate(true_positives, n_positive, measure) if enough_positive else None
    fpr = _rate(false_positives, n_negative, measure) if enough_negative else None
    missed = _rate(n_positive - true_positives, n_positive, measure) if enough_positive else None
    return GroupMeasures(
        attribute=attribute,
        group=group,
        status="sufficient",
        n=n,
        n_positive=n_positive,
        n_negative=n_negative,
        auroc=_area(measure, members) if enough_positive and enough_negative else None,
        tpr=tpr,
        fpr=fpr,
        selection_rate=_rate(true_positives + false_positives, n, measure),
        underdiagnosis_rate=missed if measure.underdiagnosis_of is UnderdiagnosisOf.FINDING else fpr,
        warnings=tuple(warnings),
    )


def _area(measure: Measure, members: BoolArray) -> Area:
    estimate = delong(measure.scores[members], measure.labels[members])
    value, variance = float(estimate.auc[0]), float(estimate.variance[0])
    interval = auc_interval(value, variance, measure.ci_level)
    return Area(value, variance, (interval.low, interval.high))


def _rate(count: int, n: int, measure: Measure) -> Rate:
    return proportion(count, n, measure.ci_level)
