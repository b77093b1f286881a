"""Labelled examples as a cache beside the score: what looks like a positive example speaks for the label.

Tip-Adapter (Zhang et al., ECCV 2022, arXiv 2111.03930) for a label that is present or absent: its cache adds
alpha x sum over examples of exp(-beta (1 - cosine)) for the positive ones, less the same for the negative ones, to the
logit that the base gives.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from radserve.evaluation.roc import auc
from radserve.evaluation.tables import BoolArray, FloatArray
from radserve.models.adapt.heads import Rows
from radserve.models.adapt.learners import Tensors
from radserve.models.exemplars import ExemplarIndex

ALPHAS = (0.0, *np.geomspace(0.003, 100, 16).tolist())  # 0: the examples add nothing
BETAS = (1.0, 3.0, 5.5, 10.0, 30.0, 100.0)


@dataclass(frozen=True, slots=True, eq=False)
class LearnedExemplars:
    """An index with its alpha and beta, over all embeddings (N, E) and base logits (N,)."""

    index: ExemplarIndex
    embeddings: FloatArray
    base_logits: FloatArray
    shown: int

    def logits(self, rows: Rows) -> FloatArray:
        return np.asarray(self.base_logits[rows] + self.index.evidence(self.embeddings[rows]))

    def tensors(self) -> Tensors:
        return self.index.tensors()

    def details(self) -> Mapping[str, Any]:
        return {"alpha": self.index.alpha, "beta": self.index.beta, "shown": self.shown}


@dataclass(frozen=True, slots=True, eq=False)
class ExemplarLearner:
    """Keeps the learning rows as examples; alpha and beta are those of the largest AUROC on the rows held out.

    `ids` (N,) name the examples in results and hold nothing of a patient.
    """

    embeddings: FloatArray
    positive: BoolArray
    base_logits: FloatArray
    ids: tuple[str, ...]
    shown: int = 3

    def learn(self, rows: Rows, held: Rows, seed: int) -> LearnedExemplars:
        del seed
        best = (-1.0, 0.0, BETAS[0])
        for beta in BETAS:
            evidence = self._index(rows, 1.0, beta).evidence(self.embeddings[held])
            for alpha in ALPHAS:
                area = auc(self.base_logits[held] + alpha * evidence, self.positive[held])
                if area > best[0]:  # of equal ones the first: the smaller alpha
                    best = (area, alpha, beta)
        return LearnedExemplars(self._index(rows, best[1], best[2]), self.embeddings, self.base_logits, self.shown)

    def _index(self, rows: Rows, alpha: float, beta: float) -> ExemplarIndex:
        ids = tuple(self.ids[row] for row in rows.tolist())
        return ExemplarIndex(self.embeddings[rows].astype(np.float32), self.positive[rows], ids, alpha, beta)
