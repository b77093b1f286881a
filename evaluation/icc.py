"""Intraclass correlation: the six forms of Shrout and Fleiss (Psychological Bulletin 86:420-428, 1979).

ICC(1,.)  each subject is rated by other raters (one-way random)
ICC(2,.)  the same raters, a sample of all raters: absolute agreement (two-way random)
ICC(3,.)  the same raters, who are all there are: consistency (two-way mixed)
ICC(.,1)  of a single rating;  ICC(.,k)  of the mean of the k ratings
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from radserve.evaluation.tables import refusal


class IccForm(StrEnum):
    """The six forms, as Shrout and Fleiss name them."""

    ONE_SINGLE = "ICC(1,1)"
    TWO_SINGLE = "ICC(2,1)"
    THREE_SINGLE = "ICC(3,1)"
    ONE_MEAN = "ICC(1,k)"
    TWO_MEAN = "ICC(2,k)"
    THREE_MEAN = "ICC(3,k)"


@dataclass(frozen=True)
class Icc:
    """One form with its interval and the F test of "no correlation"; a negative value is given as it is."""

    value: float
    low: float
    high: float
    level: float
    statistic: float
    df1: int
    df2: int
    p: float


@dataclass(frozen=True)
class _Anova:
    n: int
    k: int
    between: float  # mean square of subjects
    within: float
    raters: float
    error: float


def icc(ratings: NDArray[np.generic], level: float = 0.95) -> dict[IccForm, Icc]:
    """Return the six forms for `ratings` of shape (subjects, raters), every cell filled.

    Raises RadserveError INVALID_ARGUMENT for fewer than two subjects or raters, a missing value, or ratings without
    any residual variance (the intervals are then undefined).
    """
    table = np.asarray(ratings, dtype=np.float64)
    if table.ndim != 2 or min(table.shape) < 2:
        raise refusal(f"ratings: got shape {table.shape}, expected (subjects, raters), at least 2 of each")
    if not np.isfinite(table).all():
        row, column = np.argwhere(~np.isfinite(table))[0]
        raise refusal(f"ratings: subject {row + 1}, rater {column + 1}: got {table[row, column]}, expected a number")
    if not 0 < level < 1:
        raise refusal(f"level: got {level}, expected a number between 0 and 1")
    squares = _anova(table)
    if squares.error <= np.finfo(np.float64).eps * max(1.0, squares.between):
        raise refusal("ratings: the raters differ by constants only, so there is no error variance to judge against")
    upper = (1 + level) / 2
    one, one_mean = _one_effect(squares, squares.within, squares.n * (squares.k - 1), upper, level)
    three, three_mean = _one_effect(squares, squares.error, (squares.n - 1) * (squares.k - 1), upper, level)
    two, two_mean = _two_way(squares, upper, level)
    return dict(zip(IccForm, (one, two, three, one_mean, two_mean, three_mean), strict=True))


def _anova(table: NDArray[np.float64]) -> _Anova:
    n, k = table.shape
    grand = table.mean()
    subjects = k * float(((table.mean(axis=1) - grand) ** 2).sum())
    raters = n * float(((table.mean(axis=0) - grand) ** 2).sum())
    residual = table - table.mean(axis=1, keepdims=True) - table.mean(axis=0) + grand
    error = float((residual**2).sum())
    return _Anova(
        n, k, subjects / (n - 1), (raters + error) / (n * (k - 1)), raters / (k - 1), error / ((n - 1) * (k - 1))
    )


def _one_effect(a: _Anova, error: float, df2: int, upper: float, level: float) -> tuple[Icc, Icc]:
    """Return the single and the mean form whose interval is an exact F interval: ICC(1,.) and ICC(3,.)."""
    df1 = a.n - 1
    f = a.between / error
    low, high = float(f / stats.f.ppf(upper, df1, df2)), float(f * stats.f.ppf(upper, df2, df1))
    p = float(stats.f.sf(f, df1, df2))
    single_low, single_high = ((ratio - 1) / (ratio + a.k - 1) for ratio in (low, high))
    return (
        Icc((f - 1) / (f + a.k - 1), single_low, single_high, level, f, df1, df2, p),
        Icc(1 - 1 / f, 1 - 1 / low, 1 - 1 / high, level, f, df1, df2, p),
    )


def _two_way(a: _Anova, upper: float, level: float) -> tuple[Icc, Icc]:
    """Return ICC(2,1) and ICC(2,k): Satterthwaite's degrees of freedom for the interval (Shrout and Fleiss, p. 424)."""
    n, k, df1, df2 = a.n, a.k, a.n - 1, (a.n - 1) * (a.k - 1)
    value = (a.between - a.error) / (a.between + (k - 1) * a.error + k * (a.raters - a.error) / n)
    ratio = a.raters / a.error
    rest = n * (1 + (k - 1) * value) - k * value
    df = df2 * (k * value * ratio + rest) ** 2 / (df1 * (k * value * ratio) ** 2 + rest**2)
    up, down = stats.f.ppf(upper, df1, df), stats.f.ppf(upper, df, df1)
    spread = k * a.raters + (k * n - k - n) * a.error
    low = float(n * (a.between - up * a.error) / (up * spread + n * a.between))
    high = float(n * (down * a.between - a.error) / (spread + n * down * a.between))
    f = a.between / a.error
    p = float(stats.f.sf(f, df1, df2))
    mean = (a.between - a.error) / (a.between + (a.raters - a.error) / n)
    stepped_low, stepped_high = (k * each / (1 + (k - 1) * each) for each in (low, high))
    return (
        Icc(value, low, high, level, f, df1, df2, p),
        Icc(mean, stepped_low, stepped_high, level, f, df1, df2, p),
    )
