"""The report as one self-contained HTML page: plots inside, nothing fetched, no scripts."""

from __future__ import annotations

from importlib import resources
from typing import Any

from jinja2 import Environment, StrictUndefined

from radserve.evaluation.report import plots
from radserve.evaluation.report.indicators import Capability, Task
from radserve.evaluation.report.json_form import coverage
from radserve.evaluation.report.measure import BAND_GRID, FindingReport
from radserve.evaluation.report.rows import EvaluationReport


def report_page(report: EvaluationReport) -> str:
    """Return the page; the same report gives the same text."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string((resources.files(__package__) / "page.html").read_text(encoding="utf-8"))
    return template.render(
        report=report,
        findings=[_finding(report, each) for each in report.findings],
        cells={(cell["capability"], cell["task"]): cell for cell in coverage(report)},
        capabilities=[each.value for each in Capability],
        tasks=[each.value for each in Task],
        grid=BAND_GRID,
    )


def _finding(report: EvaluationReport, each: FindingReport) -> dict[str, Any]:
    conditions = list(report.robustness.get(each.data.name, {}).get("conditions", []))
    return {
        "report": each,
        "conditions": conditions,
        "roc": plots.roc_plot(each),
        "reliability": plots.reliability_plot(each),
        "decision": plots.decision_plot(each),
        "confusion": plots.confusion_plot(each),
        "forest": plots.forest_plot(each),
        "robustness": plots.robustness_plot(conditions),
    }
