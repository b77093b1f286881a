"""How much a model loses when its images get worse: AUROC drop, prediction flips, relative error, by severity.

The model stays outside: a scoring callable (images -> scores), or scores that somebody made and wrote to a table.
Errors relative to a baseline model follow MedMNIST-C (Di Salvo, Doerrich and Ledig, 2024), with the balanced error:
a model that is the baseline itself has exactly 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from radserve.evaluation.auc_tests import paired_test
from radserve.evaluation.corruptions import SEVERITIES, AnyFloat, corrupt
from radserve.evaluation.delong import delong
from radserve.evaluation.rates import proportion
from radserve.evaluation.tables import BoolArray, FloatArray, check_same_length, refusal

Condition = tuple[str, int]  # corruption, severity
Scoring = Callable[[list[AnyFloat]], FloatArray]

NO_BASELINE = "no baseline: corruption_error and relative_error are null"


@dataclass(frozen=True)
class ConditionResult:
    """One corruption at one severity against the clean images.

    `auroc_drop` is clean - corrupted with DeLong's paired interval and two-sided p-value. `flip_rate` is the fraction
    of predictions that change side of the threshold, with Wilson's interval. `balanced_error` is the mean of false
    negative and false positive rate; `mean_score_change` the mean absolute change of the score.
    """

    corruption: str
    severity: int
    n: int
    auroc: float
    auroc_drop: float
    auroc_drop_ci: tuple[float, float]
    auroc_drop_p: float
    flip_rate: float
    flip_rate_ci: tuple[float, float]
    balanced_error: float
    mean_score_change: float


@dataclass(frozen=True)
class CorruptionSummary:
    """One corruption over its severities, relative to a baseline model; null where there is none or it has no error.

    With e(s) the balanced error at severity s: `corruption_error` is sum e(s) / sum e_baseline(s); `relative_error` is
    sum (e(s) - e(0)) / sum (e_baseline(s) - e_baseline(0)).
    """

    corruption: str
    mean_auroc_drop: float
    mean_flip_rate: float
    corruption_error: float | None
    relative_error: float | None


@dataclass(frozen=True)
class Robustness:
    """All conditions, and the mean over corruptions; nulls have their reason in `warnings`."""

    n: int
    threshold: float
    clean_auroc: float
    clean_balanced_error: float
    conditions: tuple[ConditionResult, ...]
    corruptions: tuple[CorruptionSummary, ...]
    mean_auroc_drop: float
    mean_flip_rate: float
    mean_corruption_error: float | None
    mean_relative_error: float | None
    warnings: tuple[str, ...]


def corrupted_scores(
    score: Scoring,
    images: Sequence[AnyFloat],
    corruptions: Iterable[str],
    *,
    severities: Sequence[int] = SEVERITIES,
    seed: int,
) -> dict[Condition, FloatArray]:
    """Return the scores (n,) of a model under every corruption and severity; image i has noise of its own.

    `score` gets the images of a condition, (rows, columns) each, in their order. Raises INVALID_ARGUMENT as `corrupt`
    does, and when `score` returns another number of scores.
    """
    result: dict[Condition, FloatArray] = {}
    for name in corruptions:
        for severity in severities:
            changed = [corrupt(image, name, severity, seed=seed, index=index) for index, image in enumerate(images)]
            scores = np.asarray(score(changed), np.float64)
            if scores.shape != (len(images),):
                raise refusal(f"scoring: got scores of shape {scores.shape}, expected ({len(images)},)")
            result[name, severity] = scores
    return result


def assess_robustness(
    labels: BoolArray,
    clean: FloatArray,
    corrupted: Mapping[Condition, FloatArray],
    *,
    threshold: float,
    ci_level: float = 0.95,
    baseline_clean: FloatArray | None = None,
    baseline: Mapping[Condition, FloatArray] | None = None,
    baseline_threshold: float | None = None,
) -> Robustness:
    """Compare `corrupted` scores (n,) by condition with the `clean` ones (n,); positive is score >= `threshold`.

    With `baseline` and `baseline_clean`, the scores of a baseline model under the same conditions, errors are also
    given relative to it. Raises INVALID_ARGUMENT for different lengths or conditions and for labels of one class.
    """
    if not corrupted:
        raise refusal("robustness: got no corrupted scores, expected at least one condition")
    check_same_length({"labels": labels, "clean": clean, **{f"{c}@{s}": each for (c, s), each in corrupted.items()}})
    if (baseline is None) != (baseline_clean is None) or (baseline is not None and set(baseline) != set(corrupted)):
        raise refusal("baseline: expected clean scores and the same corruptions and severities as the model")
    order = sorted(corrupted)
    warnings: list[str] = []
    conditions = tuple(
        _condition(labels, clean, each, corrupted[each], threshold, ci_level, warnings) for each in order
    )
    clean_error = balanced_error(labels, clean, threshold)
    other: dict[Condition, float] = {}
    other_clean = 0.0
    if baseline is not None and baseline_clean is not None:
        cut = threshold if baseline_threshold is None else baseline_threshold
        other = {each: balanced_error(labels, baseline[each], cut) for each in order}
        other_clean = balanced_error(labels, baseline_clean, cut)
    names = list(dict.fromkeys(name for name, _ in order))
    summaries = tuple(_summary(name, conditions, clean_error, other, other_clean, warnings) for name in names)
    return Robustness(
        n=len(labels),
        threshold=threshold,
        clean_auroc=float(delong(clean, labels).auc[0]),
        clean_balanced_error=clean_error,
        conditions=conditions,
        corruptions=summaries,
        mean_auroc_drop=float(np.mean([each.mean_auroc_drop for each in summaries])),
        mean_flip_rate=float(np.mean([each.mean_flip_rate for each in summaries])),
        mean_corruption_error=_mean([each.corruption_error for each in summaries]),
        mean_relative_error=_mean([each.relative_error for each in summaries]),
        warnings=tuple(warnings if other else [*warnings, NO_BASELINE]),
    )


def balanced_error(labels: BoolArray, scores: FloatArray, threshold: float) -> float:
    """Return the mean of false negative and false positive rate. Both classes must be there."""
    calls = scores >= threshold
    return float((np.mean(~calls[labels]) + np.mean(calls[~labels])) / 2)


def flip_rate(clean: FloatArray, changed: FloatArray, threshold: float) -> float:
    """Return the fraction of predictions that change side of the threshold."""
    return float(np.mean((clean >= threshold) != (changed >= threshold)))


def _condition(
    labels: BoolArray,
    clean: FloatArray,
    condition: Condition,
    scores: FloatArray,
    threshold: float,
    ci_level: float,
    warnings: list[str],
) -> ConditionResult:
    title = f"{condition[0]}@{condition[1]}"
    test = paired_test(delong([clean, scores], labels, names=["clean", title]), 0, 1, ci_level)
    warnings.extend(f"{title}: auroc_drop: {reason}" for reason in test.warnings)
    flips = int(np.sum((clean >= threshold) != (scores >= threshold)))
    rate = proportion(flips, len(labels), ci_level)
    return ConditionResult(
        corruption=condition[0],
        severity=condition[1],
        n=len(labels),
        auroc=test.auc_b,
        auroc_drop=test.difference,
        auroc_drop_ci=(test.interval.low, test.interval.high),
        auroc_drop_p=test.p_two_sided,
        flip_rate=rate.value,
        flip_rate_ci=(rate.low, rate.high),
        balanced_error=balanced_error(labels, scores, threshold),
        mean_score_change=float(np.mean(np.abs(scores - clean))),
    )


def _summary(
    name: str,
    conditions: Sequence[ConditionResult],
    clean_error: float,
    baseline: Mapping[Condition, float],
    baseline_clean: float,
    warnings: list[str],
) -> CorruptionSummary:
    own = [each for each in conditions if each.corruption == name]
    corruption_error = relative_error = None
    if baseline:
        errors = np.array([each.balanced_error for each in own])
        others = np.array([baseline[name, each.severity] for each in own])
        corruption_error = _ratio(errors.sum(), others.sum(), f"{name}: corruption_error", warnings)
        gained, others_gained = (errors - clean_error).sum(), (others - baseline_clean).sum()
        relative_error = _ratio(gained, others_gained, f"{name}: relative_error", warnings)
    return CorruptionSummary(
        corruption=name,
        mean_auroc_drop=float(np.mean([each.auroc_drop for each in own])),
        mean_flip_rate=float(np.mean([each.flip_rate for each in own])),
        corruption_error=corruption_error,
        relative_error=relative_error,
    )


def _ratio(part: float, whole: float, what: str, warnings: list[str]) -> float | None:
    if whole == 0:
        warnings.append(f"{what} is undefined: the baseline's error does not change")
        return None
    return float(part / whole)


def _mean(values: Sequence[float | None]) -> float | None:
    defined = [each for each in values if each is not None]
    return float(np.mean(defined)) if defined else None
