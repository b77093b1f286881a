"""Rates of a binary decision: the confusion matrix, its rates with intervals, F1, McNemar's test.

A rate with an empty denominator is NaN (null in JSON); `Rates.warnings` says why.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import stats

from radserve._checks import check_one_of, check_unit_interval
from radserve.evaluation.auc_tests import check_level
from radserve.evaluation.roc import checked
from radserve.evaluation.tables import BoolArray, check_same_length, refusal

Method = Literal["wilson", "clopper-pearson"]


@dataclass(frozen=True)
class Confusion:
    """Counts of a binary decision against the truth."""

    tp: int
    fp: int
    tn: int
    fn: int

    def __post_init__(self) -> None:
        if min(self.tp, self.fp, self.tn, self.fn) < 0:
            raise refusal(f"confusion matrix: got {self}, expected no negative count")

    @property
    def n(self) -> int:
        return self.tp + self.fp + self.tn + self.fn


@dataclass(frozen=True)
class Rate:
    """A share `count / of` with its interval; NaN when `of` is 0."""

    value: float
    low: float
    high: float
    count: int
    of: int


@dataclass(frozen=True)
class Rates:
    """All rates of one confusion matrix; `f1` is NaN when there is no positive, called or true."""

    confusion: Confusion
    accuracy: Rate
    sensitivity: Rate
    specificity: Rate
    ppv: Rate
    npv: Rate
    f1: float
    level: float
    method: Method
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class McNemar:
    """Test of two decisions on the same cases. `only_a` cases are right by A alone; difference in accuracy is A - B."""

    only_a: int
    only_b: int
    statistic: float
    p_exact: float
    p_chi_square: float
    difference: float


def confusion(called: npt.ArrayLike, positive: npt.ArrayLike) -> Confusion:
    """Count decisions (n,) bool against labels (n,) bool; one class alone is allowed here."""
    calls, labels = np.asarray(called, dtype=np.bool_), np.asarray(positive, dtype=np.bool_)
    check_same_length({"call": calls, "label": labels})
    tp, called_n, positive_n = int((calls & labels).sum()), int(calls.sum()), int(labels.sum())
    return Confusion(tp, called_n - tp, len(labels) - called_n - positive_n + tp, positive_n - tp)


def confusion_at(scores: npt.ArrayLike, positive: npt.ArrayLike, threshold: float) -> Confusion:
    """Count with every score >= threshold called positive. Raises as `roc.checked` does."""
    values, labels = checked(scores, positive)
    return confusion(values >= threshold, labels)


def rates(counts: Confusion, level: float = 0.95, method: Method = "wilson") -> Rates:
    """Return all rates of a confusion matrix with their intervals."""
    shares = {
        "accuracy": (counts.tp + counts.tn, counts.n),
        "sensitivity": (counts.tp, counts.tp + counts.fn),
        "specificity": (counts.tn, counts.tn + counts.fp),
        "ppv": (counts.tp, counts.tp + counts.fp),
        "npv": (counts.tn, counts.tn + counts.fn),
    }
    warnings = [f"{name} is null: no case in its denominator" for name, (_, of) in shares.items() if of == 0]
    f1 = f1_score(counts)
    if math.isnan(f1):
        warnings.append("f1 is null: no case is positive, called or true")
    each = {name: proportion(count, of, level, method) for name, (count, of) in shares.items()}
    return Rates(counts, **each, f1=f1, level=level, method=method, warnings=tuple(warnings))


def proportion(count: int, of: int, level: float = 0.95, method: Method = "wilson") -> Rate:
    """Return `count / of` with Wilson's (1927) score interval or Clopper and Pearson's (1934) exact one."""
    check_level(level)
    check_one_of("interval method", method, ("wilson", "clopper-pearson"))
    if not 0 <= count <= of:
        raise refusal(f"proportion: got {count} of {of}, expected 0 <= count <= of")
    if of == 0:
        return Rate(math.nan, math.nan, math.nan, count, of)
    low, high = (wilson_interval if method == "wilson" else clopper_pearson_interval)(count, of, level)
    return Rate(count / of, low, high, count, of)


def f1_score(counts: Confusion) -> float:
    """Return 2 TP / (2 TP + FP + FN); NaN when nothing is positive, called or true."""
    denominator = 2 * counts.tp + counts.fp + counts.fn
    return 2 * counts.tp / denominator if denominator else math.nan


def multilabel_f1(called: npt.ArrayLike, positive: npt.ArrayLike) -> tuple[list[float], float, float]:
    """Return F1 of each of k labels, their macro mean over the labels that have one, and the micro F1.

    `called` and `positive` have shape (n, k). A label without a positive, called or true, is NaN and not in the mean.
    """
    calls, labels = np.asarray(called, dtype=np.bool_), np.asarray(positive, dtype=np.bool_)
    if calls.shape != labels.shape or calls.ndim != 2:
        raise refusal(f"multi-label F1: got shapes {calls.shape} and {labels.shape}, expected one shape (n, k)")
    each = [f1_score(confusion(calls[:, k], labels[:, k])) for k in range(labels.shape[1])]
    defined = [value for value in each if not math.isnan(value)]
    macro = float(np.mean(defined)) if defined else math.nan
    return each, macro, f1_score(confusion(calls.ravel(), labels.ravel()))


def ppv_at(sensitivity: float, specificity: float, prevalence: float) -> float:
    """Return the positive predictive value at a stated prevalence (Bayes); NaN when nobody is called positive."""
    for name, value in (("sensitivity", sensitivity), ("specificity", specificity), ("prevalence", prevalence)):
        check_unit_interval(name, value)
    true, false = sensitivity * prevalence, (1 - specificity) * (1 - prevalence)
    return true / (true + false) if true + false > 0 else math.nan


def npv_at(sensitivity: float, specificity: float, prevalence: float) -> float:
    """Return the negative predictive value at a stated prevalence (Bayes); NaN when nobody is called negative."""
    return ppv_at(specificity, sensitivity, 1 - prevalence)


def mcnemar(called_a: npt.ArrayLike, called_b: npt.ArrayLike, positive: npt.ArrayLike) -> McNemar:
    """Compare two decisions on the same cases by those that one alone gets right (McNemar 1947).

    `p_exact` is the two-sided binomial test, `p_chi_square` the chi-square test without continuity correction.
    """
    a, b, labels = (np.asarray(each, dtype=np.bool_) for each in (called_a, called_b, positive))
    check_same_length({"call A": a, "call B": b, "label": labels})
    right_a: BoolArray = a == labels
    right_b: BoolArray = b == labels
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    discordant, difference = only_a + only_b, (only_a - only_b) / len(labels)
    if discordant == 0:
        return McNemar(0, 0, 0.0, 1.0, 1.0, difference)
    statistic = (only_a - only_b) ** 2 / discordant
    exact = float(stats.binomtest(only_a, discordant, 0.5).pvalue)
    return McNemar(only_a, only_b, statistic, exact, float(stats.chi2.sf(statistic, 1)), difference)


def wilson_interval(count: int, of: int, level: float = 0.95) -> tuple[float, float]:
    """Return Wilson's score interval of `count / of`; `of` must be above 0."""
    z = float(stats.norm.isf((1 - level) / 2))
    share, scale = count / of, 1 + z * z / of
    centre = (share + z * z / (2 * of)) / scale
    half = z / scale * math.sqrt(share * (1 - share) / of + z * z / (4 * of * of))
    # At the ends the score interval reaches 0 or 1 exactly; the subtraction would leave a last-bit rest.
    return (0.0 if count == 0 else centre - half), (1.0 if count == of else centre + half)


def clopper_pearson_interval(count: int, of: int, level: float = 0.95) -> tuple[float, float]:
    """Return Clopper and Pearson's exact interval of `count / of`; `of` must be above 0."""
    tail = (1 - level) / 2
    low = 0.0 if count == 0 else float(stats.beta.ppf(tail, count, of - count + 1))
    high = 1.0 if count == of else float(stats.beta.isf(tail, count + 1, of - count))
    return low, high
