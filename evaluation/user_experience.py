"""How people find the system: System Usability Scale, acceptance and edit rates, agreement of raters (ICC)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from radserve.evaluation.rates import Rate, proportion
from radserve.evaluation.tables import refusal
from radserve.evaluation.text_metrics import words

FloatArray = NDArray[np.float64]
SUS_ITEMS = 10


@dataclass(frozen=True)
class MeanInterval:
    """A mean with its t interval; the bounds are None with fewer than two values."""

    mean: float
    low: float | None
    high: float | None
    level: float
    n: int


def sus_scores(answers: NDArray[np.generic]) -> FloatArray:
    """Return the System Usability Scale of each person, 0 to 100, shape (people,).

    `answers` is (people, 10), whole numbers 1 (strongly disagree) to 5: the odd items are worded positively, the even
    ones negatively (Brooke 1996), so the score is 2.5 times the sum of (answer - 1) and (5 - answer).

    Raises RadserveError INVALID_ARGUMENT naming item, row and value for anything else.
    """
    table = np.asarray(answers, dtype=np.float64)
    if table.ndim != 2 or table.shape[1] != SUS_ITEMS or not len(table):
        raise refusal(f"SUS: got shape {table.shape}, expected (people, {SUS_ITEMS})")
    wrong = np.argwhere(~np.isin(table, [1, 2, 3, 4, 5]))
    if len(wrong):
        row, item = wrong[0]
        raise refusal(f"SUS: item {item + 1}, row {row + 1}: got {table[row, item]:g}, expected a whole number 1 to 5")
    return np.asarray(2.5 * ((table[:, 0::2] - 1).sum(axis=1) + (5 - table[:, 1::2]).sum(axis=1)))


def mean_interval(values: NDArray[np.generic], level: float = 0.95) -> MeanInterval:
    """Return the mean of `values` with Student's t interval."""
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.ndim != 1 or not len(numbers):
        raise refusal(f"values: got shape {numbers.shape}, expected (n,) with n of at least 1")
    mean = float(numbers.mean())
    if len(numbers) < 2:
        return MeanInterval(mean, None, None, level, 1)
    reach = float(stats.t.ppf((1 + level) / 2, len(numbers) - 1) * numbers.std(ddof=1) / np.sqrt(len(numbers)))
    return MeanInterval(mean, mean - reach, mean + reach, level, len(numbers))


class Decision(StrEnum):
    """What a reader did with a draft report."""

    ACCEPTED = "accepted"
    EDITED = "edited"
    REJECTED = "rejected"


def decision_rates(decisions: Sequence[str], level: float = 0.95) -> dict[Decision, Rate]:
    """Return the rate of each decision among all, with Wilson's interval.

    Raises RadserveError INVALID_ARGUMENT naming the row of an unknown word.
    """
    if not decisions:
        raise refusal("decisions: got none, expected at least one")
    known = {str(each) for each in Decision}
    for row, word in enumerate(decisions, start=1):
        if word not in known:
            raise refusal(f"decisions, row {row}: got {word!r}, expected one of {', '.join(sorted(known))}")
    counts = Counter(decisions)
    return {each: proportion(counts[str(each)], len(decisions), level) for each in Decision}


def edit_rate(draft: str, final: str) -> float:
    """Return the word edit distance from draft to final report over the longer's words: 0 unchanged, 1 rewritten."""
    before, after = words(draft), words(final)
    longest = max(len(before), len(after))
    if not longest:
        return 0.0
    previous = list(range(len(after) + 1))
    for row, word in enumerate(before, start=1):
        current = [row]
        for column, other in enumerate(after, start=1):
            current.append(min(previous[column] + 1, current[-1] + 1, previous[column - 1] + (word != other)))
        previous = current
    return previous[-1] / longest
