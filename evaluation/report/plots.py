"""The plots of a report as SVG text. Every number a plot shows stands in a table of the page too."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from radserve.evaluation.decision_curve import TREAT_ALL, TREAT_NONE
from radserve.evaluation.report.measure import BAND_GRID, FindingReport

# A fixed salt and no date: the same numbers give the same bytes. Text stays text: it can be searched and read out.
STYLE: Any = MappingProxyType(
    {
        "svg.hashsalt": "radserve",
        "svg.fonttype": "none",
        "font.size": 9,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": "#dddddd",
    }
)
BLUE, GREY, RED = "#1f5fa8", "#888888", "#b3391f"


def roc_plot(report: FindingReport) -> str:
    """The empirical ROC curve with its pointwise bootstrap band and the pack's operating point."""

    def draw(axes: Axes) -> None:
        axes.fill_between(1 - BAND_GRID, report.band[0], report.band[1], color=BLUE, alpha=0.15, linewidth=0)
        axes.plot(1 - report.points[:, 2], report.points[:, 1], color=BLUE)
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle="--")
        rates = report.rates
        axes.plot([1 - rates.specificity.value], [rates.sensitivity.value], "o", color=RED)
        axes.set(xlabel="1 - specificity", ylabel="sensitivity", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")

    return _svg(draw)


def reliability_plot(report: FindingReport) -> str:
    """Observed share against mean calibrated probability, bin by bin, with Wilson intervals."""

    def draw(axes: Axes) -> None:
        bins = [each for each in report.calibration.bins if each.n]
        mean, observed = [each.mean_probability for each in bins], [each.observed for each in bins]
        low = [max(each.observed - each.observed_ci[0], 0.0) for each in bins]
        high = [max(each.observed_ci[1] - each.observed, 0.0) for each in bins]
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle="--")
        axes.errorbar(mean, observed, yerr=[low, high], fmt="o-", color=BLUE, capsize=2, linewidth=1)
        axes.set(
            xlabel="mean probability", ylabel="observed share", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal"
        )

    return _svg(draw)


def decision_plot(report: FindingReport) -> str:
    """Net benefit of the model, of treating all and of treating none."""

    def draw(axes: Axes) -> None:
        curve = report.decision
        for name, colour, text in (("model", BLUE, "model"), (TREAT_ALL, GREY, "all"), (TREAT_NONE, "black", "none")):
            axes.plot(curve.thresholds, curve.strategies[name].net_benefit, color=colour, label=text)
        axes.axvline(report.data.threshold, color=RED, linewidth=0.8, linestyle=":")
        axes.set(xlabel="threshold probability", ylabel="net benefit", ylim=(-0.1, curve.prevalence + 0.05))
        axes.legend(frameon=False)

    return _svg(draw)


def confusion_plot(report: FindingReport) -> str:
    """The four counts at the pack's threshold."""

    def draw(axes: Axes) -> None:
        counts = report.rates.confusion
        cells = np.array([[counts.tn, counts.fp], [counts.fn, counts.tp]])
        axes.grid(visible=False)
        axes.imshow(cells, cmap="Blues", vmin=0, vmax=max(int(cells.max()), 1))
        for (row, column), count in np.ndenumerate(cells):
            colour = "white" if count > cells.max() * 0.6 else "black"
            axes.text(column, row, str(count), ha="center", va="center", color=colour, fontsize=13)
        axes.set_xticks([0, 1], ["called negative", "called positive"])
        axes.set_yticks([0, 1], ["negative", "positive"])

    return _svg(draw)


def forest_plot(report: FindingReport) -> str:
    """AUROC with its interval for each group that is large enough."""
    groups = [each for each in report.fairness.groups if each.auroc] if report.fairness else []

    def draw(axes: Axes) -> None:
        for at, each in enumerate(reversed(groups)):
            if each.auroc:
                low, high = each.auroc.ci
                axes.plot([low, high], [at, at], color=BLUE)
                axes.plot([each.auroc.value], [at], "s", color=BLUE)
        axes.axvline(report.auc, color=GREY, linewidth=0.8, linestyle="--")
        axes.set_yticks(range(len(groups)), [f"{g.attribute}: {g.group} (n={g.n})" for g in reversed(groups)])
        axes.set(xlabel="AUROC")

    return _svg(draw, height=1.2 + 0.3 * len(groups)) if groups else ""


def robustness_plot(conditions: list[Mapping[str, Any]]) -> str:
    """AUROC against severity, a line for each corruption."""

    def draw(axes: Axes) -> None:
        axes.set_prop_cycle(color=colormaps["tab20"].colors)  # type: ignore[attr-defined]
        for name in dict.fromkeys(each["corruption"] for each in conditions):
            line = sorted((each["severity"], each["auroc"]) for each in conditions if each["corruption"] == name)
            axes.plot([at for at, _ in line], [auroc for _, auroc in line], marker="o", markersize=3, label=name)
        axes.set(xlabel="severity", ylabel="AUROC", xticks=sorted({each["severity"] for each in conditions}))
        axes.legend(frameon=False, fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))

    return _svg(draw, width=5.6) if conditions else ""


def _svg(draw: Callable[[Axes], None], *, width: float = 3.6, height: float = 3.2) -> str:
    with rc_context(dict(STYLE)):
        figure = Figure(figsize=(width, height), layout="constrained")
        draw(figure.add_subplot())
        stream = io.StringIO()
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    text = stream.getvalue()
    return text[text.index("<svg") :]
