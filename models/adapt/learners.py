"""What every way of adapting a label has in common: rows to learn from, rows to tune on, and logits for any row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from radserve.evaluation.tables import BoolArray, FloatArray
from radserve.models.adapt.heads import Head, LinearHead, Rows, fit_head

Tensors = Mapping[str, npt.NDArray[Any]]


class LearnedModel(Protocol):
    """A label as it was learned."""

    def logits(self, rows: Rows) -> FloatArray:
        """Uncalibrated logits (rows,) of images of the data set."""
        ...

    def tensors(self) -> Tensors:
        """What was learned, as an adapter file holds it."""
        ...

    def details(self) -> Mapping[str, Any]:
        """What is needed besides the tensors, as JSON types."""
        ...


class Learner(Protocol):
    """A way to learn a label. The same rows and seed give the same model."""

    def learn(self, rows: Rows, held: Rows, seed: int) -> LearnedModel:
        """Learn from the images `rows`; `held` are training images too, kept for choosing what is not learned."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class LearnedHead:
    """A linear head behind the embeddings (N, E) of all images."""

    head: LinearHead
    embeddings: FloatArray

    def logits(self, rows: Rows) -> FloatArray:
        return self.head.logits(self.embeddings[rows])

    def tensors(self) -> Tensors:
        return {"weight": self.head.weight.astype(np.float32), "bias": np.array([self.head.bias], dtype=np.float32)}

    def details(self) -> Mapping[str, Any]:
        return {}


@dataclass(frozen=True, slots=True, eq=False)
class HeadLearner:
    """Learns a linear head of one kind on the embeddings (N, E) of images with the labels `positive` (N,)."""

    kind: Head
    embeddings: FloatArray
    positive: BoolArray
    strength: float = 1.0

    def learn(self, rows: Rows, held: Rows, seed: int) -> LearnedHead:
        del held, seed
        return LearnedHead(
            fit_head(self.kind, self.embeddings[rows], self.positive[rows], self.strength), self.embeddings
        )
