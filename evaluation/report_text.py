"""Generated reports against reference reports: every text metric, with intervals and paired tests between systems."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radserve.evaluation.auc_tests import holm
from radserve.evaluation.heavy_metrics import Scorer, measure_all
from radserve.evaluation.labeller import Labeller
from radserve.evaluation.labeller_scores import F1, entity_counts, f1_from_counts, label_f1
from radserve.evaluation.report_metrics import ReportMetric, measure_plugin
from radserve.evaluation.tables import refusal
from radserve.evaluation.text_cider import cider
from radserve.evaluation.text_metrics import (
    bleu_of,
    bleu_statistics,
    check_reports,
    meteor_like,
    rouge_l,
    rouge_n,
    words,
)
from radserve.evaluation.text_significance import (
    FloatArray,
    Score,
    approximate_randomisation,
    bootstrap_interval,
    mean_score,
)
from radserve.plugins import Plugin


@dataclass(frozen=True)
class TextOptions:
    """How to resample: `bootstrap` samples for intervals (0: none), `randomisation` for paired tests; the seed."""

    level: float = 0.95
    bootstrap: int = 1000
    randomisation: int = 10_000
    seed: int = 0
    uncertain_is_positive: bool = False
    scorers: Mapping[str, Scorer] = field(default_factory=dict)
    plugins: Mapping[str, Plugin[ReportMetric]] = field(default_factory=dict)


@dataclass(frozen=True)
class Metric:
    """One metric of one system: statistics per report (reports, k) and the corpus score of their sum."""

    statistics: NDArray[np.generic]
    score: Score

    @property
    def value(self) -> float:
        """The corpus score; NaN where it is undefined."""
        columns = np.asarray(self.statistics, dtype=np.float64).reshape(len(self.statistics), -1)
        return self.score(columns.sum(axis=0), len(columns))


def evaluate_reports(
    references: Sequence[Sequence[str]],
    systems: Mapping[str, Sequence[str]],
    labeller: Labeller,
    options: TextOptions | None = None,
) -> dict[str, Any]:
    """Return the result of `radserve evaluate report-text` in the types of JSON (its form stands in the command).

    `references[i]` are the references of report i, the first of them the one whose findings count; `systems` gives for
    each system its generated reports in the same order.

    Raises RadserveError INVALID_ARGUMENT for no system, no report, or lists of different length.
    """
    options = options or TextOptions()
    if not systems:
        raise refusal("systems: got none, expected at least one column of generated reports")
    warnings = [] if options.bootstrap else ["the intervals are null: no bootstrap samples were asked for"]
    metrics, results = {}, {}
    for name, texts in systems.items():
        check_reports(texts, references)
        empty = sum(not words(each) for each in texts)
        if empty:
            warnings.append(f"{name}: {empty} generated reports have no word")
        metrics[name], details = _metrics(references, texts, labeller, options, warnings)
        metrics[name] |= _plugin_metrics(name, references, texts, options, warnings)
        results[name] = _with_intervals(name, metrics[name], options, warnings) | details
        warnings.extend(_undefined_labels(name, details["labels"]))
        results[name]["heavy"] = _heavy(references, texts, options)
    return {
        "n": len(references),
        "labeller_version": labeller.version,
        "settings": {
            "ci_level": options.level,
            "bootstrap": options.bootstrap,
            "randomisation": options.randomisation,
            "seed": options.seed,
            "uncertain_is_positive": options.uncertain_is_positive,
        },
        "hypotheses": results,
        "comparisons": _comparisons(metrics, options, warnings),
        "warnings": warnings,
    }


def _metrics(
    references: Sequence[Sequence[str]],
    texts: Sequence[str],
    labeller: Labeller,
    options: TextOptions,
    warnings: list[str],
) -> tuple[dict[str, Metric], dict[str, Any]]:
    metrics = {
        "bleu": Metric(bleu_statistics(texts, references), _bleu_score),
        "rouge_1": Metric(rouge_n(texts, references, 1).f1, mean_score),
        "rouge_2": Metric(rouge_n(texts, references, 2).f1, mean_score),
        "rouge_l": Metric(rouge_l(texts, references).f1, mean_score),
        "meteor_like": Metric(meteor_like(texts, references), mean_score),
    }
    if len(texts) > 1:
        metrics["cider"] = Metric(cider(texts, references), mean_score)
    else:
        warnings.append("cider is left out: it needs at least 2 reports")
    truth = [labeller.label(each[0]) for each in references]
    said = [labeller.label(each) for each in texts]
    labels = label_f1(
        [each.status for each in truth],
        [each.status for each in said],
        uncertain_is_positive=options.uncertain_is_positive,
    )
    metrics["label_f1_micro"] = Metric(labels.counts, _f1_score)
    metrics["label_f1_macro"] = Metric(labels.counts, _macro_f1_score)
    entities = entity_counts([each.entities() for each in truth], [each.entities() for each in said])
    metrics["entity_f1"] = Metric(entities, _f1_score)
    return metrics, {"labels": {name: _label(each) for name, each in labels.per_label.items()}}


def _plugin_metrics(
    system: str,
    references: Sequence[Sequence[str]],
    texts: Sequence[str],
    options: TextOptions,
    warnings: list[str],
) -> dict[str, Metric]:
    found: dict[str, Metric] = {}
    for name, plugin in options.plugins.items():
        values, problem = measure_plugin(plugin, texts, references)
        if values is None:
            warnings.append(f"{system}: {problem}")
        else:
            found[name] = Metric(values, mean_score)
    return found


def _undefined_labels(name: str, labels: Mapping[str, Mapping[str, Any]]) -> list[str]:
    reasons = {"precision": "the text never has it", "recall": "the reference never has it", "f1": "neither has it"}
    undefined = {key: [label for label, each in labels.items() if each[key] is None] for key in reasons}
    return [f"{name}: {key} is null, {reasons[key]}: {', '.join(found)}" for key, found in undefined.items() if found]


def _with_intervals(
    name: str, metrics: Mapping[str, Metric], options: TextOptions, warnings: list[str]
) -> dict[str, Any]:
    results: dict[str, Any] = {}
    for key, metric in metrics.items():
        value, interval = metric.value, None
        if np.isnan(value):
            warnings.append(f"{name}: {key} is null: no report has a positive finding, said or true")
        elif options.bootstrap:
            drawn = bootstrap_interval(
                metric.statistics, metric.score, level=options.level, samples=options.bootstrap, seed=options.seed
            )
            interval = [drawn.low, drawn.high]
            if drawn.undefined:
                warnings.append(f"{name}: {key}: {drawn.undefined} bootstrap samples were undefined and left out")
        results[key] = {"value": value, "ci": interval}
    return results


def _comparisons(
    metrics: Mapping[str, Mapping[str, Metric]], options: TextOptions, warnings: list[str]
) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for a, b in combinations(metrics, 2):
        for key, left in metrics[a].items():
            if key not in metrics[b]:  # a plug-in that failed there, as a warning says
                continue
            right = metrics[b][key]
            if np.isnan(left.value - right.value):
                warnings.append(f"{a} and {b}: {key} is not compared: undefined for one of them")
                continue
            test = approximate_randomisation(
                left.statistics, right.statistics, left.score, samples=options.randomisation, seed=options.seed
            )
            found.append(
                {
                    "a": a,
                    "b": b,
                    "metric": key,
                    "difference": test.difference,
                    "p_two_sided": test.p_two_sided,
                    "p_greater": test.p_greater,
                    "p_less": test.p_less,
                }
            )
    corrected = holm(np.array([each["p_two_sided"] for each in found], dtype=np.float64)).tolist()
    return [each | {"p_holm": p} for each, p in zip(found, corrected, strict=True)]


def _heavy(references: Sequence[Sequence[str]], texts: Sequence[str], options: TextOptions) -> dict[str, Any]:
    return {
        name: {"value": each.mean, "status": each.status, "reason": each.reason}
        for name, each in measure_all(texts, references, options.scorers).items()
    }


def _label(each: F1) -> dict[str, Any]:
    return {"support": each.support, "precision": each.precision, "recall": each.recall, "f1": each.f1}


def _bleu_score(total: FloatArray, _: int) -> float:
    return bleu_of(np.rint(total).astype(np.int64)).score


def _f1_score(total: FloatArray, _: int) -> float:
    return f1_from_counts(np.rint(total).astype(np.int64))


def _macro_f1_score(total: FloatArray, _: int) -> float:
    counts = np.rint(total).astype(np.int64).reshape(-1, 3)
    doubled = 2 * counts[:, 0]
    whole = doubled + counts[:, 1] + counts[:, 2]
    defined = whole > 0
    return float((doubled[defined] / whole[defined]).mean()) if defined.any() else float("nan")
