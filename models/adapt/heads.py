"""Linear heads on the frozen image encoder: nearest class mean, or logistic regression, from few or many examples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from radserve._checks import read_only
from radserve.errors import ErrorCode, RadserveError
from radserve.evaluation.tables import BoolArray, FloatArray

Rows = npt.NDArray[np.intp]
Head = Literal["prototype", "logistic"]
HEADS: tuple[Head, ...] = ("prototype", "logistic")


@dataclass(frozen=True, slots=True, eq=False)
class LinearHead:
    """logit = embedding @ `weight` (E,) + `bias`."""

    weight: FloatArray
    bias: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "weight", read_only(self.weight))

    def logits(self, embeddings: FloatArray) -> FloatArray:
        """(N,) for `embeddings` (N, E)."""
        return np.asarray(embeddings @ self.weight + self.bias)


def fit_head(kind: Head, embeddings: FloatArray, positive: BoolArray, strength: float = 1.0) -> LinearHead:
    """Fit a head on `embeddings` (N, E). Raises INVALID_ARGUMENT for examples of one class.

    `prototype`: the side of the nearer class mean (Snell et al., NeurIPS 2017). `logistic`: L2-regularised regression
    on embeddings that are centred and brought to unit spread, both classes with equal weight.
    """
    if positive.all() or not positive.any():
        raise RadserveError(ErrorCode.INVALID_ARGUMENT, "a head needs examples of both classes")
    if kind == "prototype":
        present, absent = embeddings[positive].mean(axis=0), embeddings[~positive].mean(axis=0)
        return LinearHead(2 * (present - absent), float(absent @ absent - present @ present))
    from sklearn.linear_model import LogisticRegression  # of the train extra

    centre = embeddings.mean(axis=0)
    spread = float(np.sqrt(((embeddings - centre) ** 2).mean())) or 1.0
    model = LogisticRegression(C=strength, class_weight="balanced", max_iter=2000)
    model.fit((embeddings - centre) / spread, positive)
    weight = model.coef_[0] / spread
    return LinearHead(weight, float(model.intercept_[0] - centre @ weight))


def hold_out(positive: BoolArray, patients: npt.NDArray[np.str_], share: float, seed: int) -> tuple[Rows, Rows]:
    """Rows to learn from and rows to calibrate on: `share` of the patients of each class, no patient in both.

    A patient with a positive image counts as positive.
    """
    rng = np.random.default_rng(seed)
    people, which = np.unique(patients, return_inverse=True)
    of_class = np.bincount(which, weights=positive) > 0
    held = np.zeros(len(people), dtype=np.bool_)
    for state in (False, True):
        members = rng.permutation(np.flatnonzero(of_class == state))
        held[members[: max(1, round(share * len(members)))]] = True
    return np.flatnonzero(~held[which]), np.flatnonzero(held[which])


def draw_shots(rows: Rows, positive: BoolArray, shots: int | Literal["all"], seed: int) -> Rows:
    """`shots` of the `rows` of each class, drawn without replacement; the draws of one seed hold each other.

    Raises INVALID_ARGUMENT when a class has fewer.
    """
    if shots == "all":
        return rows
    rng = np.random.default_rng(seed)
    drawn = []
    for state in (False, True):
        members = rows[positive[rows] == state]
        if len(members) < shots:
            what = "positive" if state else "negative"
            message = f"shots: got {shots}, but only {len(members)} {what} training images are left to learn from"
            raise RadserveError(ErrorCode.INVALID_ARGUMENT, message)
        drawn.append(rng.permutation(members)[:shots])
    return np.concatenate(drawn)
