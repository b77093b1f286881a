"""Measures what a report shows of each finding."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from radserve.evaluation.auc_tests import auc_interval
from radserve.evaluation.bootstrap import bootstrap
from radserve.evaluation.calibration import Calibration, assess_calibration, check_probabilities
from radserve.evaluation.decision_curve import DecisionCurve, decision_curve
from radserve.evaluation.delong import clustered_delong, delong
from radserve.evaluation.fairness import Fairness, assess_fairness
from radserve.evaluation.operating_points import all_points
from radserve.evaluation.rates import Rate, Rates, confusion_at, proportion, rates
from radserve.evaluation.report.plan import Plan
from radserve.evaluation.roc import RocCurve, roc_curve
from radserve.evaluation.tables import BoolArray, FloatArray, Table, refusal


@dataclass(frozen=True)
class FindingData:
    """The rows of one finding: labels, scores, probabilities, threshold, and what else is known of them.

    `total_ms` is None where no time was measured.
    """

    name: str
    labels: BoolArray
    scores: FloatArray
    probabilities: FloatArray
    threshold: float
    report_says: tuple[str, ...]
    total_ms: FloatArray | None
    groups: Mapping[str, tuple[str, ...]]
    clusters: tuple[str, ...]


@dataclass(frozen=True)
class FindingReport:
    """Everything measured of one finding: what the plots and their tables show."""

    data: FindingData
    curve: RocCurve
    points: FloatArray
    auc: float
    auc_interval: tuple[float, float]
    band: FloatArray
    rates: Rates
    f1_interval: tuple[float, float]
    calibration: Calibration
    decision: DecisionCurve
    fairness: Fairness | None
    report_agreement: Rate | None
    warnings: tuple[str, ...]


NO_REPORT = "no report"  # as `collect` writes it
ONLY_FINDING = "finding"
BAND_GRID = np.linspace(0.0, 1.0, 101)
"""Specificities at which the band of the ROC curve is drawn."""


def findings_of(table: Table) -> tuple[str, ...]:
    """The finding of each row; a table without that column is of one finding."""
    return table.categories("finding") if "finding" in table.columns else (ONLY_FINDING,) * table.n_rows


def select(plan: Plan, table: Table, name: str) -> FindingData:
    """The rows of one finding. Raises INVALID_ARGUMENT naming column, row and value."""
    chosen = table.take(np.flatnonzero([each == name for each in findings_of(table)]))
    given = chosen.columns
    thresholds = set(chosen.numbers("threshold").tolist()) if "threshold" in given else {plan.threshold}
    if len(thresholds) != 1:
        raise refusal(f"finding {name!r}: got thresholds {sorted(thresholds)}, expected one: was the pack changed?")
    probability = "probability" if "probability" in given else "score"
    return FindingData(
        name=name,
        labels=chosen.labels("label", plan.positive),
        scores=chosen.numbers("score"),
        probabilities=check_probabilities(probability, chosen.numbers(probability)),
        threshold=thresholds.pop(),
        report_says=chosen.text("report_says") if "report_says" in given else (NO_REPORT,) * chosen.n_rows,
        total_ms=chosen.numbers("total_ms") if "total_ms" in given else None,
        groups={column: chosen.categories(column) for column in plan.groups},
        clusters=chosen.categories(plan.cluster) if plan.cluster else (),
    )


def measure_finding(plan: Plan, data: FindingData) -> FindingReport:
    """Measure one finding. Raises INVALID_ARGUMENT for labels of one class and the like."""
    curve = roc_curve(data.scores, data.labels, name=data.name)
    clusters = np.array(data.clusters) if data.clusters else None
    estimates = (
        delong(data.scores, data.labels) if clusters is None else clustered_delong(data.scores, data.labels, clusters)
    )
    area = auc_interval(float(estimates.auc[0]), float(estimates.covariance[0, 0]), plan.level)
    at_threshold = rates(confusion_at(data.probabilities, data.labels, data.threshold), plan.level)
    return FindingReport(
        data=data,
        curve=curve,
        points=all_points(curve),
        auc=float(estimates.auc[0]),
        auc_interval=(area.low, area.high),
        band=_band(plan, data, clusters),
        rates=at_threshold,
        f1_interval=_f1_interval(plan, data),
        calibration=assess_calibration(data.labels, data.probabilities, n_bins=plan.bins, ci_level=plan.level),
        decision=decision_curve(data.labels, {"model": data.probabilities}),
        fairness=_fairness(plan, data),
        report_agreement=_agreement(plan, data),
        warnings=(*area.warnings, *at_threshold.warnings),
    )


def _band(plan: Plan, data: FindingData, clusters: Any) -> FloatArray:
    """Pointwise percentile band (2, 101) of the sensitivity at each specificity of BAND_GRID."""
    curves = []

    def keep(curve: RocCurve) -> float:
        curves.append(_sensitivity_at(curve))
        return curve.auc

    bootstrap(data.scores, data.labels, replicates=plan.bootstrap, seed=plan.seed, clusters=clusters, statistic=keep)
    low, high = (1 - plan.level) / 2, (1 + plan.level) / 2
    return np.asarray(np.quantile(np.array(curves), [low, high], axis=0))


def _sensitivity_at(curve: RocCurve) -> FloatArray:
    """The greatest sensitivity with at least each specificity of BAND_GRID (the empirical step curve)."""
    points = all_points(curve)
    order = np.argsort(points[:, 2], kind="stable")
    specificity, sensitivity = points[order, 2], points[order, 1]
    best_from = np.maximum.accumulate(sensitivity[::-1])[::-1]
    return np.asarray(best_from[np.minimum(np.searchsorted(specificity, BAND_GRID), len(best_from) - 1)])


def _f1_interval(plan: Plan, data: FindingData) -> tuple[float, float]:
    """Percentile bootstrap of F1, cases drawn with replacement."""
    generator = np.random.default_rng(plan.seed)
    called = data.probabilities >= data.threshold
    drawn = generator.integers(0, len(called), (plan.bootstrap, len(called)))
    both = (called & data.labels)[drawn].sum(axis=1)
    either = called[drawn].sum(axis=1) + data.labels[drawn].sum(axis=1)
    values = (2 * both / either)[either > 0]
    low, high = np.quantile(values, [(1 - plan.level) / 2, (1 + plan.level) / 2])
    return float(low), float(high)


def _fairness(plan: Plan, data: FindingData) -> Fairness | None:
    if not plan.groups:
        return None
    threshold = data.threshold
    return assess_fairness(data.labels, data.probabilities, data.groups, threshold=threshold, ci_level=plan.level)


def _agreement(plan: Plan, data: FindingData) -> Rate | None:
    """How often the delivered text asserts the true label; withheld, silent and contradictory text counts as wrong."""
    if set(data.report_says) == {NO_REPORT}:
        return None
    right = [
        says == ("present" if label else "absent") for says, label in zip(data.report_says, data.labels, strict=True)
    ]
    return proportion(sum(right), len(right), plan.level)
