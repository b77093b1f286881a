"""The seventeen rows of a report, and the report as a whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np

from radserve.evaluation.decision_curve import TREAT_ALL, decision_curve
from radserve.evaluation.rates import Rate
from radserve.evaluation.report.indicators import INDICATORS, Indicator
from radserve.evaluation.report.measure import FindingReport, findings_of, measure_finding, select
from radserve.evaluation.report.plan import FROM_SCORES, Plan, read_measured
from radserve.evaluation.tables import read_table


@dataclass(frozen=True)
class Value:
    """One measured number of an indicator: for a finding, or for the model ("")."""

    finding: str
    value: float | None
    interval: tuple[float, float] | None
    n: int | None
    note: str = ""


@dataclass(frozen=True)
class Row:
    """One of the seventeen rows: its values, or why there are none."""

    indicator: Indicator
    values: tuple[Value, ...]
    not_measured: str | None


@dataclass(frozen=True)
class EvaluationReport:
    """The whole report. `robustness` is the content of the plan's robustness file, by finding."""

    plan: Plan
    findings: tuple[FindingReport, ...]
    rows: tuple[Row, ...]
    robustness: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def make_report(plan: Plan) -> EvaluationReport:
    """Measure everything the plan allows. Raises INVALID_ARGUMENT naming file, column, row and value."""
    table = read_table(plan.scores)
    names = tuple(dict.fromkeys(findings_of(table)))
    findings = tuple(measure_finding(plan, select(plan, table, name)) for name in names)
    files = {key: read_measured(path) for key, path in plan.measured.items()}
    rows = tuple(_row(indicator, plan, findings, files) for indicator in INDICATORS)
    return EvaluationReport(plan, findings, rows, MappingProxyType(dict(files.get("robustness", {}))))


def _row(
    indicator: Indicator,
    plan: Plan,
    findings: tuple[FindingReport, ...],
    files: Mapping[str, Mapping[str, Mapping[str, Any]]],
) -> Row:
    if indicator.key in FROM_SCORES:
        values = tuple(value for each in findings for value in _FROM_FINDING[indicator.key](each))
    else:
        values = tuple(_stated(name, each) for name, each in files.get(indicator.key, {}).items())
    if values:
        return Row(indicator, values, None)
    reason = plan.not_measured.get(
        indicator.key, _DEFAULT_REASON.get(indicator.key, "the plan names no measurement of it")
    )
    return Row(indicator, (), reason)


_DEFAULT_REASON = {
    "fairness": "the table of scores has no column of groups",
    "language_generation": "no reports were written",
    "resource_use": "the table of scores has no column total_ms",
}


def _stated(finding: str, content: Mapping[str, Any]) -> Value:
    interval = content.get("interval")
    bounds = (float(interval[0]), float(interval[1])) if interval else None
    return Value(finding, float(content["value"]), bounds, content.get("n"), str(content.get("note", "")))


def _of_rate(name: str) -> Callable[[FindingReport], Iterator[Value]]:
    def values(report: FindingReport) -> Iterator[Value]:
        rate: Rate = getattr(report.rates, name)
        yield Value(report.data.name, rate.value, (rate.low, rate.high), rate.of, f"{rate.count} of {rate.of}")

    return values


def _f1(report: FindingReport) -> Iterator[Value]:
    yield Value(report.data.name, report.rates.f1, report.f1_interval, report.rates.confusion.n)


def _auroc(report: FindingReport) -> Iterator[Value]:
    note = f"{int(report.data.labels.sum())} positive, {int((~report.data.labels).sum())} negative"
    yield Value(report.data.name, report.auc, report.auc_interval, len(report.data.labels), note)


def _generation(report: FindingReport) -> Iterator[Value]:
    rate = report.report_agreement
    if rate is not None:
        low, high = 1 + 9 * rate.low, 1 + 9 * rate.high
        withheld = report.data.report_says.count("withheld")
        note = f"{rate.count} of {rate.of} reports assert the true label; {withheld} withheld"
        yield Value(report.data.name, 1 + 9 * rate.value, (low, high), rate.of, note)


def _fairness_gap(report: FindingReport) -> Iterator[Value]:
    if report.fairness is None:
        return
    gaps = [gap for gap in report.fairness.gaps if gap.measure == "auroc"]
    if gaps:
        gap = max(gaps, key=lambda each: each.difference)
        note = f"{gap.attribute}: {gap.highest_group} against {gap.lowest_group}"
        yield Value(report.data.name, gap.difference, gap.difference_ci, len(report.data.labels), note)


def _time(report: FindingReport) -> Iterator[Value]:
    times = report.data.total_ms
    if times is not None:
        low, middle, high = np.quantile(times, [0.05, 0.5, 0.95]).tolist()
        yield Value(report.data.name, middle, (low, high), len(times), "5th to 95th percentile")


def _net_benefit(report: FindingReport) -> Iterator[Value]:
    threshold = np.array([report.data.threshold])
    curve = decision_curve(report.data.labels, {"model": report.data.probabilities}, thresholds=threshold)
    model = float(curve.strategies["model"].net_benefit[0])
    best = max(0.0, float(curve.strategies[TREAT_ALL].net_benefit[0]))
    yield Value(
        report.data.name,
        model - best,
        None,
        len(report.data.labels),
        f"net benefit {model:.4f}, better of all and none {best:.4f}",
    )


_FROM_FINDING: Mapping[str, Callable[[FindingReport], Iterator[Value]]] = MappingProxyType(
    {
        "accuracy": _of_rate("accuracy"),
        "specificity": _of_rate("specificity"),
        "sensitivity": _of_rate("sensitivity"),
        "precision": _of_rate("ppv"),
        "f1": _f1,
        "auroc": _auroc,
        "language_generation": _generation,
        "fairness": _fairness_gap,
        "resource_use": _time,
        "cost_effectiveness": _net_benefit,
    }
)
