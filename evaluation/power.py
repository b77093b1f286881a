"""Power and sample size of studies that measure areas under ROC curves.

N. A. Obuchowski, D. K. McClish, Statistics in Medicine 16 (1997) 1529; N. A. Obuchowski, Clinical Chemistry 50 (2004)
1118: the formulas behind pROC's `power.roc.test`. `ratio` is negatives per positive. Sample sizes are not rounded.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy import optimize, stats

from radserve.evaluation.delong import AucEstimates
from radserve.evaluation.tables import refusal

NULL_VARIANCE = 0.0792  # of an area of 0.5, per case and with ratio 1: Obuchowski 2004


@dataclass(frozen=True)
class StudySize:
    """Cases a study needs, before rounding up."""

    n_positive: float
    n_negative: float


def power_of_one(
    auc: float, n_positive: float, n_negative: float, *, alpha: float = 0.05, two_sided: bool = True
) -> float:
    """Return the power of testing that one area is 0.5."""
    _check(auc=auc, alpha=alpha)
    ratio = n_negative / n_positive
    reach = math.sqrt(n_positive) * abs(auc - 0.5) - _critical(alpha, two_sided) * _null_sd(ratio)
    return float(stats.norm.cdf(reach / _alternative_sd(auc, ratio)))


def size_for_one(
    auc: float, *, power: float, alpha: float = 0.05, ratio: float = 1.0, two_sided: bool = True
) -> StudySize:
    """Return the cases needed to tell one area from 0.5 with this power."""
    _check(auc=auc, alpha=alpha, power=power)
    if auc == 0.5 or ratio <= 0:
        raise refusal(f"sample size: got auc {auc!r}, ratio {ratio!r}, expected an auc other than 0.5, a ratio above 0")
    spread = _critical(alpha, two_sided) * _null_sd(ratio) + float(stats.norm.ppf(power)) * _alternative_sd(auc, ratio)
    n_positive = (spread / (auc - 0.5)) ** 2
    return StudySize(n_positive, ratio * n_positive)


def detectable_auc(
    n_positive: float, n_negative: float, *, power: float, alpha: float = 0.05, two_sided: bool = True
) -> float:
    """Return the smallest area above 0.5 that a study of this size tells from 0.5 with this power."""
    _check(alpha=alpha, power=power)

    def shortfall(auc: float) -> float:
        return power_of_one(auc, n_positive, n_negative, alpha=alpha, two_sided=two_sided) - power

    if shortfall(1 - 1e-9) < 0:
        raise refusal(f"no area reaches power {power} with {n_positive} positive and {n_negative} negative cases")
    return float(optimize.brentq(shortfall, 0.5 + 1e-9, 1 - 1e-9, xtol=1e-12))


def power_of_two(estimates: AucEstimates, a: int, b: int, *, alpha: float = 0.05, two_sided: bool = True) -> float:
    """Return the power of the paired test of two areas at the size of the pilot study `estimates` come from.

    Not symmetric: the variance under the null hypothesis is that of method `a`, as in pROC.
    """
    _check(alpha=alpha)
    difference, null_sd, alternative_sd = _two(estimates, a, b)
    reach = math.sqrt(estimates.n_positive) * difference - _critical(alpha, two_sided) * null_sd
    return float(stats.norm.cdf(reach / alternative_sd))


def size_for_two(
    estimates: AucEstimates, a: int, b: int, *, power: float, alpha: float = 0.05, two_sided: bool = True
) -> StudySize:
    """Return the cases, in the pilot's ratio of classes, that tell two areas apart by the paired test."""
    _check(alpha=alpha, power=power)
    difference, null_sd, alternative_sd = _two(estimates, a, b)
    spread = _critical(alpha, two_sided) * null_sd + float(stats.norm.ppf(power)) * alternative_sd
    n_positive = (spread / difference) ** 2
    return StudySize(n_positive, n_positive * estimates.n_negative / estimates.n_positive)


def _two(estimates: AucEstimates, a: int, b: int) -> tuple[float, float, float]:
    """Difference and the standard deviations, for one positive case, under the null and the alternative."""
    difference = abs(float(estimates.auc[a] - estimates.auc[b]))
    null = 2 * (estimates.covariance[a, a] - estimates.covariance[a, b]) * estimates.n_positive
    alternative = estimates.difference_variance[a, b] * estimates.n_positive
    if difference == 0 or not (null > 0 and alternative > 0):
        raise refusal("power: the two areas must differ, and the variance of their difference must be above 0")
    return difference, math.sqrt(null), math.sqrt(alternative)


def _null_sd(ratio: float) -> float:
    return math.sqrt(NULL_VARIANCE * (1 + 1 / ratio))


def _alternative_sd(auc: float, ratio: float) -> float:
    """Obuchowski 2004, formula 3, with its constants as printed."""
    a = float(stats.norm.ppf(auc)) * 1.414
    return math.sqrt(0.0099 * math.exp(-(a**2) / 2) * ((5 * a**2 + 8) + (a**2 + 8) / ratio))


def _critical(alpha: float, two_sided: bool) -> float:
    return float(stats.norm.isf(alpha / 2 if two_sided else alpha))


def _check(**shares: float) -> None:
    for name, value in shares.items():
        if not 0.0 < value < 1.0:
            raise refusal(f"{name}: got {value!r}, expected a number between 0 and 1")
