"""Report metrics of other packages, measured beside ours, with the same intervals and paired tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from radserve.plugins import Plugin, Point


@runtime_checkable
class ReportMetric(Protocol):
    """Compares generated reports with their references."""

    def __call__(self, hypotheses: Sequence[str], references: Sequence[Sequence[str]], /) -> Sequence[float]:
        """Return a finite number for each report; `references[i]` are those of `hypotheses[i]`."""
        ...


REPORT_METRICS = Point[ReportMetric](
    "radserve.report_metrics",
    ReportMetric,
    frozenset(
        {"bleu", "rouge_1", "rouge_2", "rouge_l", "meteor_like", "cider"}
        | {"label_f1_micro", "label_f1_macro", "entity_f1", "labels", "heavy"}
    ),
)
"""The name of a plug-in here is the name of the metric in the result."""


def measure_plugin(
    plugin: Plugin[ReportMetric], hypotheses: Sequence[str], references: Sequence[Sequence[str]]
) -> tuple[NDArray[np.float64] | None, str]:
    """Return the values, float64 (reports,), or None and why there are none; the fault of a plug-in raises nothing."""
    if plugin.value is None:
        return None, f"{plugin} cannot be used: {plugin.problem}"
    try:
        values = np.array(plugin.value(hypotheses, references), dtype=np.float64)
    except (Exception, SystemExit) as error:
        return None, plugin.failed(error).client_message
    if values.shape != (len(hypotheses),) or not np.isfinite(values).all():
        return None, f"{plugin} gave values of shape {values.shape}, expected {len(hypotheses)} finite numbers"
    return values, ""
