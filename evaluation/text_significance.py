"""Is one system's report text better than another's? Paired approximate randomisation, and intervals by resampling.

Both work on statistics per report whose sum over reports determines the score: per-report values for a mean, n-gram
counts for corpus BLEU, true and false positives for F1. So the corpus score is recomputed, never averaged wrongly.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from radserve.evaluation.tables import refusal

FloatArray = NDArray[np.float64]
Score = Callable[[FloatArray, int], float]
_CELLS_AT_ONCE = 4_000_000  # of the (samples, reports) matrix of one step
_SAME = 1e-12  # sums taken in another order differ in the last bits: such differences count as equal


@dataclass(frozen=True)
class PairedTest:
    """The test of score(A) - score(B) = 0. p values are (1 + extreme samples) / (1 + samples), so never 0."""

    difference: float
    p_two_sided: float
    p_greater: float
    p_less: float
    n_reports: int
    samples: int
    seed: int


@dataclass(frozen=True)
class Interval:
    """A percentile bootstrap interval; `undefined` counts the samples left out because their score was undefined."""

    value: float
    low: float
    high: float
    level: float
    samples: int
    undefined: int


def mean_score(total: FloatArray, n_reports: int) -> float:
    """Return the mean of a statistic of one column from its sum."""
    return float(total[0]) / n_reports


def approximate_randomisation(
    a: NDArray[np.generic], b: NDArray[np.generic], score: Score = mean_score, *, samples: int = 10_000, seed: int = 0
) -> PairedTest:
    """Test whether systems A and B score alike on the same reports, by swapping their outputs report by report.

    `a` and `b` are statistics of shape (reports,) or (reports, k), the same reports in the same order; `score` makes
    the corpus score of their sum, shape (k,), and the number of reports. The sign is A - B. Noreen, Computer-Intensive
    Methods for Testing Hypotheses, 1989; for text: Riezler and Maxwell, ACL workshop 2005.

    Raises RadserveError INVALID_ARGUMENT when shapes differ, there is no report, or the score of A or B is undefined.
    """
    left, right = _columns(a, "a"), _columns(b, "b")
    if left.shape != right.shape:
        raise refusal(f"statistics: got shape {right.shape} for B, expected {left.shape} as for A")
    _check_samples(samples)
    n = len(left)
    total, gap = left.sum(axis=0), right - left
    both = total + right.sum(axis=0)
    difference = score(total, n) - score(right.sum(axis=0), n)
    if not math.isfinite(difference):
        raise refusal("score: undefined for A or B, so there is no difference to test")
    drawn = np.concatenate(
        [
            [score(each, n) - score(both - each, n) for each in total + swap @ gap]
            for swap in _swaps(np.random.default_rng(seed), samples, n)
        ]
    )
    drawn = np.where(np.isnan(drawn), np.inf, drawn)  # an undefined sample counts as extreme: the careful side
    near = _SAME * max(1.0, abs(difference))
    return PairedTest(
        difference,
        _p_value(np.abs(drawn) >= abs(difference) - near),
        _p_value(drawn >= difference - near),
        _p_value((drawn <= difference + near) | np.isinf(drawn)),
        n,
        samples,
        seed,
    )


def bootstrap_interval(
    statistics: NDArray[np.generic],
    score: Score = mean_score,
    *,
    level: float = 0.95,
    samples: int = 1_000,
    seed: int = 0,
) -> Interval:
    """Return the percentile bootstrap interval of a corpus score, resampling whole reports.

    Raises RadserveError INVALID_ARGUMENT when there is no report or the score itself is undefined.
    """
    columns = _columns(statistics, "statistics")
    _check_samples(samples)
    if not 0 < level < 1:
        raise refusal(f"level: got {level}, expected a number between 0 and 1")
    n = len(columns)
    value = score(columns.sum(axis=0), n)
    if not math.isfinite(value):
        raise refusal("score: undefined on these reports, so it has no interval")
    rng = np.random.default_rng(seed)
    drawn = np.array([score(columns[rng.integers(0, n, n)].sum(axis=0), n) for _ in range(samples)], dtype=np.float64)
    defined = drawn[np.isfinite(drawn)]
    tail = (1 - level) / 2
    low, high = (float(each) for each in np.quantile(defined, [tail, 1 - tail]))
    return Interval(value, low, high, level, samples, samples - len(defined))


def _swaps(rng: np.random.Generator, samples: int, reports: int) -> Iterator[FloatArray]:
    """Yield 0/1 matrices of shape (some samples, reports), few enough rows at a time to stay small in memory."""
    step = max(1, _CELLS_AT_ONCE // reports)
    for start in range(0, samples, step):
        yield rng.integers(0, 2, size=(min(step, samples - start), reports)).astype(np.float64)


def _columns(statistics: NDArray[np.generic], name: str) -> FloatArray:
    columns = np.asarray(statistics, dtype=np.float64)
    columns = columns.reshape(len(columns), -1) if columns.ndim else columns
    if columns.ndim != 2 or not len(columns):
        raise refusal(
            f"{name}: got shape {columns.shape}, expected (reports,) or (reports, k) with at least one report"
        )
    if not np.isfinite(columns).all():
        raise refusal(
            f"{name}: got a NaN or an infinity for report {int(np.argwhere(~np.isfinite(columns))[0][0]) + 1}"
        )
    return columns


def _check_samples(samples: int) -> None:
    if samples < 1:
        raise refusal(f"samples: got {samples}, expected at least 1")


def _p_value(extreme: NDArray[np.bool_]) -> float:
    return float(1 + np.count_nonzero(extreme)) / float(1 + len(extreme))
