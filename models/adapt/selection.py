"""Which cases to label next: those the model is unsure of, and not all of one kind.

Diverse mini-batches (Zhdanov, arXiv 1901.05954, 2019): the most uncertain cases are kept, several for each wanted one,
and k-means weighted by the uncertainty picks among them, the case nearest to each centre.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from radserve._checks import read_only
from radserve.errors import ErrorCode, RadserveError
from radserve.evaluation.calibration import check_probabilities
from radserve.evaluation.tables import FloatArray, IntArray, read_table

BREADTH = 5  # uncertain cases looked at for each one chosen
EMBEDDING = "embedding_"


@dataclass(frozen=True, slots=True, eq=False)
class Pool:
    """Unlabelled cases: their names, `probabilities` (N,) and `embeddings` (N, E)."""

    cases: tuple[str, ...]
    probabilities: FloatArray
    embeddings: FloatArray

    def __post_init__(self) -> None:
        if not len(self.cases) == len(self.probabilities) == len(self.embeddings):
            got = f"{len(self.cases)} cases, {len(self.probabilities)} scores, {len(self.embeddings)} embeddings"
            raise RadserveError(ErrorCode.INVALID_ARGUMENT, f"pool: got {got}, expected as many of each")
        check_probabilities("probability", self.probabilities)
        for name in ("probabilities", "embeddings"):
            object.__setattr__(self, name, read_only(getattr(self, name)))


def read_pool(path: Path) -> Pool:
    """Read a table with columns `case`, `probability`, `embedding_0`, `embedding_1` ... Raises INVALID_ARGUMENT."""
    table = read_table(path)
    columns = [name for name in table.columns if name.startswith(EMBEDDING)]
    if not columns:
        raise RadserveError(ErrorCode.INVALID_ARGUMENT, f"{path.name!r} has no columns {EMBEDDING}0, {EMBEDDING}1 ...")
    embeddings = np.column_stack([table.numbers(name) for name in columns])
    return Pool(table.categories("case"), table.numbers("probability"), embeddings)


def uncertainty(probabilities: FloatArray) -> FloatArray:
    """1 at even odds, 0 at certainty: one less the margin between the two classes."""
    return np.asarray(1 - np.abs(2 * probabilities - 1))


def choose(pool: Pool, count: int, *, seed: int = 0, breadth: int = BREADTH) -> IntArray:
    """The rows of `count` cases to label, the most uncertain first. Raises INVALID_ARGUMENT for more than there are."""
    if not 1 <= count <= len(pool.cases):
        message = f"count: got {count}, expected 1 to {len(pool.cases)}, the cases of the pool"
        raise RadserveError(ErrorCode.INVALID_ARGUMENT, message)
    from sklearn.cluster import KMeans  # of the train extra

    unsure = uncertainty(pool.probabilities)
    near = np.argsort(-unsure, kind="stable")[: count * breadth]
    weights = np.maximum(unsure[near], 1e-6)
    centres = KMeans(count, n_init=3, random_state=seed).fit(pool.embeddings[near], sample_weight=weights)
    distances = centres.transform(pool.embeddings[near])
    chosen: list[int] = []
    for centre in range(count):
        free = [row for row in np.argsort(distances[:, centre], kind="stable").tolist() if row not in chosen]
        chosen.append(free[0])  # two centres may share their nearest case: the second takes its next
    return np.asarray(near[np.sort(chosen)], dtype=np.int64)  # `near` is in order of uncertainty
