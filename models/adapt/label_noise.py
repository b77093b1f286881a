"""Which labels to look at again: those that a model, learned without them, contradicts with confidence.

Out-of-fold probabilities as in confident learning (Northcutt et al., JAIR 70, 2021): a ranking for a person to check,
never a correction.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from radserve.errors import ErrorCode, RadserveError
from radserve.evaluation.tables import BoolArray, FloatArray
from radserve.models.adapt.heads import fit_head

FOLDS, REPEATS = 5, 3


def suspicion(
    embeddings: FloatArray, positive: BoolArray, patients: npt.NDArray[np.str_], *, strength: float = 1.0, seed: int = 0
) -> FloatArray:
    """One less the probability of each given label, (N,): near 1 where it is contradicted.

    The mean over three divisions into five folds; no patient is on both sides. Raises INVALID_ARGUMENT where a fold
    leaves examples of one class only.
    """
    people, which = np.unique(patients, return_inverse=True)
    if len(people) < FOLDS:
        message = f"label check: got {len(people)} patients, expected at least {FOLDS}"
        raise RadserveError(ErrorCode.INVALID_ARGUMENT, message)
    rng = np.random.default_rng(seed)
    contradicted = np.zeros(len(positive))
    for _ in range(REPEATS):
        fold = (rng.permutation(len(people)) % FOLDS)[which]
        for number in range(FOLDS):
            kept, asked = fold != number, fold == number
            head = fit_head("logistic", embeddings[kept], positive[kept], strength)
            margin = head.logits(embeddings[asked]) * np.where(positive[asked], 1.0, -1.0)
            contradicted[asked] += 0.5 * (1 - np.tanh(margin / 2))
    return np.asarray(contradicted / REPEATS)
