"""How common each finding is in the data, and what the predictive values become where it is more or less common.

Sensitivity and specificity are taken to stay as measured while the prevalence moves (label shift); PPV and NPV then
follow from Bayes' formula, with logit intervals (N. D. Mercaldo, K. F. Lau, X. H. Zhou, Statistics in Medicine 26
(2007) 2170). A seeded simulation says how far the share seen in so many studies may lie from them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats
from scipy.special import expit

from radserve.evaluation.rates import Confusion, Rate, confusion_at, npv_at, ppv_at, proportion, rates
from radserve.evaluation.tables import BoolArray, FloatArray, IntArray, check_same_length, refusal

GRID = (0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5)  # from screening to a referral clinic
ALL_ROWS = "(all)"


@dataclass(frozen=True)
class Support:
    """How much data one label has in one group: rows with a label, positives, and the prevalence (Wilson interval)."""

    label: str
    group: str
    n: int
    n_missing: int
    n_positive: int
    n_negative: int
    prevalence: Rate


@dataclass(frozen=True)
class Simulated:
    """Predictive values seen in simulated cohorts: their mean and central `ci_level` range; NaN when never defined."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class AtPrevalence:
    """Predictive values at one prevalence; intervals are NaN where a rate is 0 or 1, `warnings` of the shift say so."""

    prevalence: float
    ppv: float
    ppv_ci: tuple[float, float]
    npv: float
    npv_ci: tuple[float, float]
    simulated_ppv: Simulated
    simulated_npv: Simulated


@dataclass(frozen=True)
class PrevalenceShift:
    """One score at one threshold over a grid of prevalences, each simulated in `draws` cohorts of `studies`."""

    threshold: float
    sensitivity: Rate
    specificity: Rate
    observed_prevalence: float
    studies: int
    draws: int
    seed: int
    grid: tuple[AtPrevalence, ...]
    warnings: tuple[str, ...]


def support(
    labels: Mapping[str, tuple[BoolArray, BoolArray]],
    groups: Sequence[str] | None = None,
    ci_level: float = 0.95,
) -> tuple[Support, ...]:
    """Return the table of support by label, over all rows "(all)" and by group.

    `labels` holds, by name, which rows are positive and which are known at all, both (n,) bool.
    """
    rows = []
    for name, (positive, known) in labels.items():
        check_same_length({name: positive, "known": known} | ({} if groups is None else {"group": groups}))
        members = {ALL_ROWS: np.ones(len(positive), np.bool_)}
        if groups is not None:
            texts = np.array(groups)
            members |= {group: texts == group for group in sorted(set(groups))}
        for group, chosen in members.items():
            n, n_positive = int((chosen & known).sum()), int((chosen & known & positive).sum())
            missing = int(chosen.sum()) - n
            share = proportion(n_positive, n, ci_level)
            rows.append(Support(name, group, n, missing, n_positive, n - n_positive, share))
    return tuple(rows)


def prevalence_shift(
    labels: BoolArray,
    scores: FloatArray,
    *,
    threshold: float,
    grid: Sequence[float] = GRID,
    ci_level: float = 0.95,
    studies: int = 1000,
    draws: int = 1000,
    seed: int = 0,
) -> PrevalenceShift:
    """Return PPV and NPV of scores >= `threshold` over a grid of prevalences, each above 0 and below 1.

    Raises INVALID_ARGUMENT for a grid without such values, and as `roc.checked` does.
    """
    outside = [each for each in grid if not 0 < each < 1]
    if outside or not grid:
        raise refusal(f"prevalence grid: got {list(grid)}, expected numbers above 0 and below 1")
    if studies < 1 or draws < 1:
        raise refusal(f"simulation: got {studies} studies in {draws} draws, expected at least 1 of each")
    counts = confusion_at(scores, labels, threshold)
    measured = rates(counts, ci_level)
    generator = np.random.default_rng(seed)
    warnings = [
        f"{name} is {rate.value:g}: the logit intervals of PPV and NPV are null"
        for name, rate in (("sensitivity", measured.sensitivity), ("specificity", measured.specificity))
        if rate.value in (0.0, 1.0)
    ]
    if counts.tp + counts.fp == 0:
        warnings.append("no case is called positive: PPV is null")
    if counts.tn + counts.fn == 0:
        warnings.append("no case is called negative: NPV is null")
    return PrevalenceShift(
        threshold=threshold,
        sensitivity=measured.sensitivity,
        specificity=measured.specificity,
        observed_prevalence=(counts.tp + counts.fn) / counts.n,
        studies=studies,
        draws=draws,
        seed=seed,
        grid=tuple(_at(counts, each, ci_level, studies, draws, generator) for each in grid),
        warnings=tuple(warnings),
    )


def _at(
    counts: Confusion, prevalence: float, level: float, studies: int, draws: int, generator: np.random.Generator
) -> AtPrevalence:
    positives, negatives = counts.tp + counts.fn, counts.tn + counts.fp
    sensitivity, specificity = counts.tp / positives, counts.tn / negatives
    diseased = generator.binomial(studies, prevalence, draws)
    tp = generator.binomial(diseased, sensitivity)
    tn = generator.binomial(studies - diseased, specificity)
    return AtPrevalence(
        prevalence=prevalence,
        ppv=ppv_at(sensitivity, specificity, prevalence),
        ppv_ci=_logit_interval(sensitivity, positives, specificity, negatives, prevalence, level),
        npv=npv_at(sensitivity, specificity, prevalence),
        # The NPV is the PPV of the healthy: both rates change places.
        npv_ci=_logit_interval(specificity, negatives, sensitivity, positives, 1 - prevalence, level),
        simulated_ppv=_simulated(tp, tp + (studies - diseased - tn), level),
        simulated_npv=_simulated(tn, tn + (diseased - tp), level),
    )


def _logit_interval(
    hit: float, n_hit: int, rejection: float, n_rejection: int, prevalence: float, level: float
) -> tuple[float, float]:
    if hit in (0.0, 1.0) or rejection in (0.0, 1.0):
        return math.nan, math.nan
    centre = math.log(hit * prevalence / ((1 - rejection) * (1 - prevalence)))
    variance = (1 - hit) / (hit * n_hit) + rejection / ((1 - rejection) * n_rejection)
    half = float(stats.norm.isf((1 - level) / 2)) * math.sqrt(variance)
    return float(expit(centre - half)), float(expit(centre + half))


def _simulated(right: IntArray, called: IntArray, level: float) -> Simulated:
    shares = right[called > 0] / called[called > 0]
    if len(shares) == 0:
        return Simulated(math.nan, math.nan, math.nan)
    low, high = np.quantile(shares, [(1 - level) / 2, (1 + level) / 2])
    return Simulated(float(shares.mean()), float(low), float(high))
