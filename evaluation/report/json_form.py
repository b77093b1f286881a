"""The report as JSON (docs/evaluation-report.schema.json): full precision, the same inputs giving the same bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from radserve.evaluation.report.indicators import INDICATORS, Capability, Task
from radserve.evaluation.report.measure import BAND_GRID, FindingReport
from radserve.evaluation.report.rows import EvaluationReport, Row, Value
from radserve.evaluation.tables import refusal

SCHEMA_VERSION = "1.0"


def report_to_json(report: EvaluationReport) -> dict[str, Any]:
    """Return the report in the types of JSON; undefined numbers are turned into null when it is written."""
    plan = report.plan
    return {
        "schema_version": SCHEMA_VERSION,
        "title": plan.title,
        "model": plan.model,
        "data": plan.data,
        "scores_sha256": hashlib.sha256(plan.scores.read_bytes()).hexdigest(),
        "interval_level": plan.level,
        "bootstrap": {"replicates": plan.bootstrap, "seed": plan.seed},
        "indicators": [_row(row) for row in report.rows],
        "coverage": coverage(report),
        "findings": [_finding(each) for each in report.findings],
        "robustness": {name: dict(content) for name, content in report.robustness.items()},
    }


def coverage(report: EvaluationReport) -> list[dict[str, Any]]:
    """The matrix of capability and task: how many indicators stand in each cell and how many of them were measured."""
    measured = {row.indicator.key for row in report.rows if row.not_measured is None}
    cells = []
    for capability in Capability:
        for task in Task:
            keys = [each.key for each in INDICATORS if each.capability is capability and each.task is task]
            cells.append(
                {
                    "capability": capability.value,
                    "task": task.value,
                    "metrics": keys,
                    "measured": [key for key in keys if key in measured],
                }
            )
    return cells


def by_axes(
    indicators: Sequence[Mapping[str, Any]],
    *,
    capability: str | None = None,
    task: str | None = None,
    metric: str | None = None,
) -> list[Mapping[str, Any]]:
    """Return the `indicators` of a report that stand at these places of the three axes; None takes all of an axis.

    Raises RadserveError INVALID_ARGUMENT for a place that no axis has, which would otherwise look like "none found".
    """
    axes: dict[str, tuple[str | None, list[str]]] = {
        "capability": (capability, [each.value for each in Capability]),
        "task": (task, [each.value for each in Task]),
        "metric": (metric, [each.key for each in INDICATORS]),
    }
    wanted = {axis: place for axis, (place, _) in axes.items() if place is not None}
    for axis, place in wanted.items():
        if place not in axes[axis][1]:
            raise refusal(f"{axis}: got {place!r}, expected one of {', '.join(axes[axis][1])}")
    return [row for row in indicators if all(row[axis] == place for axis, place in wanted.items())]


def _row(row: Row) -> dict[str, Any]:
    each = row.indicator
    return {
        "key": each.key,
        "name": each.name,
        "capability": each.capability.value,
        "task": each.task.value,
        "metric": each.key,
        "test_method": each.test_method,
        "scoring_rule": each.scoring_rule,
        "values": [_value(value) for value in row.values],
        "not_measured": row.not_measured,
    }


def _value(value: Value) -> dict[str, Any]:
    return {
        "finding": value.finding,
        "value": value.value,
        "interval": value.interval,
        "n": value.n,
        "note": value.note,
    }


def _finding(report: FindingReport) -> dict[str, Any]:
    data, counts = report.data, report.rates.confusion
    return {
        "finding": data.name,
        "n": len(data.labels),
        "n_positive": int(data.labels.sum()),
        "threshold": data.threshold,
        "auroc": {"value": report.auc, "interval": report.auc_interval},
        "roc_points": report.points,
        "roc_band": {"specificity": BAND_GRID, "low": report.band[0], "high": report.band[1]},
        "confusion": {"tp": counts.tp, "fp": counts.fp, "tn": counts.tn, "fn": counts.fn},
        "calibration": report.calibration,
        "decision_curve": {
            "thresholds": report.decision.thresholds,
            "net_benefit": {name: each.net_benefit for name, each in report.decision.strategies.items()},
        },
        "fairness": report.fairness,
        "warnings": report.warnings,
    }
