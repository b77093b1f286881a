"""CIDEr-D: do generated reports use the words that are telling of their study?

n-grams weigh the more the fewer studies' references have them, so that "no pneumothorax", which nearly every report
says, counts little (Vedantam et al., CVPR 2015).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from radserve.evaluation.tables import refusal
from radserve.evaluation.text_metrics import check_reports, ngrams, words

ORDERS = (1, 2, 3, 4)
SIGMA = 6.0  # of the penalty for a difference of length, in words
Weights = Mapping[tuple[str, ...], float]


def cider(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> NDArray[np.float64]:
    """Return the CIDEr-D of each report, float64 of shape (reports,), 0 to 10; its mean is the corpus value.

    Document frequencies come from the references given here, so values of different test sets do not compare. Words
    are those of `text_metrics.words`, unstemmed.

    Raises RadserveError INVALID_ARGUMENT with fewer than two reports: no word could then be more telling than another.
    """
    check_reports(hypotheses, references)
    if len(hypotheses) < 2:
        raise refusal("reports: got 1, expected at least 2 for CIDEr, which weighs words by how many reports have them")
    said = [_counts(each) for each in hypotheses]
    truths = [[_counts(each) for each in group] for group in references]
    frequency = Counter(gram for group in truths for gram in {gram for counts in group for gram in counts})
    rarity = {gram: math.log(len(truths)) - math.log(count) for gram, count in frequency.items()}
    unseen = math.log(len(truths))
    return np.array(
        [_score(each, group, rarity, unseen) for each, group in zip(said, truths, strict=True)], dtype=np.float64
    )


def _counts(text: str) -> Counter[tuple[str, ...]]:
    tokens = words(text)
    return sum((ngrams(tokens, order) for order in ORDERS), Counter())


def _score(
    said: Counter[tuple[str, ...]], truths: Sequence[Counter[tuple[str, ...]]], rarity: Weights, unseen: float
) -> float:
    mine = {gram: count * rarity.get(gram, unseen) for gram, count in said.items()}
    length = sum(count for gram, count in said.items() if len(gram) == 1)
    total = 0.0
    for truth in truths:
        theirs = {gram: count * rarity[gram] for gram, count in truth.items()}
        apart = length - sum(count for gram, count in truth.items() if len(gram) == 1)
        penalty = math.exp(-(apart**2) / (2 * SIGMA**2))
        total += penalty * sum(_cosine(mine, theirs, order) for order in ORDERS) / len(ORDERS)
    return 10.0 * total / len(truths)


def _cosine(mine: Weights, theirs: Weights, order: int) -> float:
    """Return the cosine of two weighted counts of one order; no n-gram earns more than the reference gives it."""
    left = {gram: weight for gram, weight in mine.items() if len(gram) == order}
    right = {gram: weight for gram, weight in theirs.items() if len(gram) == order}
    norm = math.sqrt(sum(each**2 for each in left.values())) * math.sqrt(sum(each**2 for each in right.values()))
    dot = sum(min(weight, right[gram]) * right[gram] for gram, weight in left.items() if gram in right)
    return dot / norm if norm else 0.0
