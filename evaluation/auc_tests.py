"""Intervals and tests on areas under ROC curves: one area, two areas (paired or not), k areas at once.

Intervals are never clipped: one that passes 0 or 1 is given as computed, with a warning.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy import stats

from radserve._checks import check_one_of
from radserve.evaluation.delong import AucEstimates
from radserve.evaluation.tables import FloatArray, refusal

Scale = Literal["symmetric", "logit"]


@dataclass(frozen=True)
class Interval:
    """A confidence interval; NaN bounds where it is undefined, with the reason in `warnings`."""

    low: float
    high: float
    level: float
    method: str
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class AucTest:
    """Test of auc_a = auc_b. `difference` is A - B; `p_greater` speaks for A > B, `p_less` for A < B.

    `df` are the degrees of freedom of the t statistic of unpaired curves; NaN for paired ones, whose statistic is a z.
    """

    auc_a: float
    auc_b: float
    paired: bool
    statistic: float
    df: float
    p_two_sided: float
    p_greater: float
    p_less: float
    difference: float
    se: float
    interval: Interval
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class ChiSquareTest:
    """A chi-square statistic, its degrees of freedom and the p value."""

    statistic: float
    df: int
    p: float


def check_level(level: float) -> None:
    """Raise INVALID_ARGUMENT unless 0 < level < 1."""
    if not 0.0 < level < 1.0:
        raise refusal(f"confidence level: got {level!r}, expected a number between 0 and 1, such as 0.95")


def auc_interval(
    auc: float, variance: float, level: float = 0.95, *, scale: Scale = "symmetric", method: str = "delong"
) -> Interval:
    """Return the interval of one area from its variance.

    `symmetric`: auc -/+ z se. `logit`: the same on log(auc / (1 - auc)), turned back; it stays inside (0, 1).
    At variance 0 (perfect separation) the symmetric interval is the point and says so; the logit one is undefined.
    """
    check_level(level)
    check_one_of("interval scale", scale, ("symmetric", "logit"))
    title = method if scale == "symmetric" else f"{method}-logit"
    if math.isnan(variance):
        reason = "no variance: each class needs two cases (from two clusters) at least; the interval is null"
        return Interval(math.nan, math.nan, level, title, (reason,))
    z = float(stats.norm.isf((1 - level) / 2))
    se = math.sqrt(variance)
    if scale == "logit":
        if auc in (0.0, 1.0):
            reason = f"the AUC is {auc:g}, where the logit has no value: the interval is null"
            return Interval(math.nan, math.nan, level, title, (reason,))
        centre, width = math.log(auc / (1 - auc)), z * se / (auc * (1 - auc))
        return Interval(_expit(centre - width), _expit(centre + width), level, title)
    low, high = auc - z * se, auc + z * se
    return Interval(low, high, level, title, _interval_warnings(auc, variance, low, high))


def separation_bound(n_positive: int, n_negative: int, level: float = 0.95) -> float:
    """Return the lower Clopper-Pearson bound of an AUC of 1, from min(n_positive, n_negative) disjoint pairs.

    Disjoint positive-negative pairs are independent trials whose chance of success is the AUC; all m of them succeeded.
    """
    check_level(level)
    return float(((1 - level) / 2) ** (1 / min(n_positive, n_negative)))


def paired_test(estimates: AucEstimates, a: int, b: int, level: float = 0.95) -> AucTest:
    """Test two areas over the same cases (DeLong 1988): z = (A - B) / sd of the difference."""
    check_level(level)
    difference = float(estimates.auc[a] - estimates.auc[b])
    variance = float(estimates.difference_variance[a, b])
    return _test(float(estimates.auc[a]), float(estimates.auc[b]), difference, variance, math.nan, level)


def unpaired_test(
    auc_a: float, variance_a: float, n_a: int, auc_b: float, variance_b: float, n_b: int, level: float = 0.95
) -> AucTest:
    """Test two areas over different cases: t = (A - B) / sqrt(va + vb) with Welch's degrees of freedom, as pROC does.

    `n_a` and `n_b` are all cases (both classes) behind each area.
    """
    check_level(level)
    variance = variance_a + variance_b
    denominator = variance_a**2 / (n_a - 1) + variance_b**2 / (n_b - 1)
    df = variance**2 / denominator if denominator > 0 else math.inf
    return _test(auc_a, auc_b, auc_a - auc_b, variance, df, level)


def overall_test(estimates: AucEstimates) -> ChiSquareTest:
    """Test that k correlated areas are equal (DeLong 1988): chi-square of all differences from the first.

    The degrees of freedom are the rank of the differences' covariance (k - 1 unless some methods rank alike).
    Raises INVALID_ARGUMENT for fewer than two areas.
    """
    k = len(estimates.auc)
    if k < 2:
        raise refusal(f"overall test: got {k} score, expected two or more")
    contrast = np.hstack((np.ones((k - 1, 1)), -np.eye(k - 1)))
    differences = contrast @ estimates.auc
    covariance = contrast @ estimates.covariance @ contrast.T
    if not np.isfinite(covariance).all():
        return ChiSquareTest(math.nan, k - 1, math.nan)
    return _wald(differences, covariance)


def holm(p_values: FloatArray) -> FloatArray:
    """Return Holm's (1979) step-down adjusted p values, (m,), in the order given; NaN stays and does not count."""
    p = np.asarray(p_values, dtype=np.float64)
    defined = np.flatnonzero(~np.isnan(p))
    order = defined[np.argsort(p[defined], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    adjusted = np.full(p.shape, np.nan)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * factors), 1.0)
    return adjusted


def _wald(differences: FloatArray, covariance: FloatArray) -> ChiSquareTest:
    eigenvalues, vectors = np.linalg.eigh(covariance)
    kept = eigenvalues > 1e-12 * max(float(eigenvalues.max()), float(np.finfo(np.float64).tiny))
    rank = int(kept.sum())
    if rank == 0:
        same = bool(np.all(differences == 0))
        return ChiSquareTest(0.0 if same else math.nan, 0, 1.0 if same else math.nan)
    statistic = float(((vectors.T @ differences)[kept] ** 2 / eigenvalues[kept]).sum())
    return ChiSquareTest(statistic, rank, float(stats.chi2.sf(statistic, rank)))


def _test(auc_a: float, auc_b: float, difference: float, variance: float, df: float, level: float) -> AucTest:
    paired = math.isnan(df)
    warnings: tuple[str, ...] = ()
    if math.isnan(variance):
        statistic = math.nan
        warnings = ("no variance: each class needs two cases (from two clusters) at least; the test is null",)
    elif variance == 0.0:
        statistic = 0.0 if difference == 0.0 else math.nan
        if difference != 0.0:
            warnings = ("the areas differ and their difference has variance 0: DeLong gives no test; it is null",)
    else:
        statistic = difference / math.sqrt(variance)
    law: Any = stats.norm if paired or math.isinf(df) else stats.t(df)
    greater, less = float(law.sf(statistic)), float(law.cdf(statistic))
    two_sided = 1.0 if statistic == 0.0 else 2 * float(law.sf(abs(statistic)))
    se = math.sqrt(variance)
    half = float(law.isf((1 - level) / 2)) * se
    interval = Interval(difference - half, difference + half, level, "delong")
    return AucTest(auc_a, auc_b, paired, statistic, df, two_sided, greater, less, difference, se, interval, warnings)


def _interval_warnings(auc: float, variance: float, low: float, high: float) -> tuple[str, ...]:
    if variance == 0.0:
        return (
            f"the AUC is {auc:g} with variance 0: DeLong gives no interval there, [{low:g}, {high:g}] is the point",
        )
    texts = []
    if low < 0.0:
        texts.append(f"the interval passes 0 ({low:.6g}): given as computed, not clipped")
    if high > 1.0:
        texts.append(f"the interval passes 1 ({high:.6g}): given as computed, not clipped")
    return tuple(texts)


def _expit(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))
