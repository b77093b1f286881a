"""Learned context vectors: word vectors that no word has, before the words of a label's positive and negative side.

CoOp (Zhou et al., IJCV 2022, arXiv 2109.01134) for a label that is present or absent: both encoders stay as they are,
the vectors alone learn. The pack keeps what the text encoder made of them, so that serving needs neither them nor it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from radserve.evaluation.tables import BoolArray, FloatArray
from radserve.models.adapt.heads import Rows
from radserve.models.adapt.learners import Tensors
from radserve.models.adapt.manifest import ContextTable
from radserve.models.learned_prompts import NEGATIVE, POSITIVE
from radserve.models.pack_files import invalid
from radserve.models.pack_types import PromptScoring
from radserve.models.tokenizer import PackTokenizer
from radserve.models.tuning.torch_graph import Edit, TorchGraph

_SPREAD = 0.02  # of vectors that begin at random, as CoOp has them
_BATCH = 256


class TextSides:
    """The sides of a label as the text encoder reads them, with a place for `length` context vectors in each.

    `graph` is the text encoder: `tokens` (N, T) int64 -> `embedding` (N, E). Raises PACK_INVALID where the words of a
    side leave no room or the graph has no table of word vectors.
    """

    def __init__(self, graph: TorchGraph, tokenizer: PackTokenizer, sides: Sequence[str], length: int) -> None:
        self.graph, self.length = graph, length
        self.lookups = [
            (node.outputs[0], node.inputs[0])
            for node in graph.nodes
            if node.operator == "Gather" and node.inputs[1] == graph.inputs[0] and node.inputs[0] in graph.weights
        ]
        if not self.lookups:
            raise invalid("context vectors: the text encoder has no table of word vectors that its tokens index")
        self.first = len(tokenizer.encode_prompt("")) - int((tokenizer.encode_prompt("") == tokenizer.pad_id).sum()) - 1
        self.tokens = torch.from_numpy(np.stack([self._row(tokenizer, side) for side in sides]))
        self.widths = [graph.weights[table].shape[1] for _, table in self.lookups]

    def _row(self, tokenizer: PackTokenizer, side: str) -> npt.NDArray[np.int64]:
        words = tokenizer.encode_words(side)
        room = tokenizer.context_length - self.first - 1
        if not words or len(words) + self.length > room:
            got = f"{self.length} vectors and {len(words)} tokens"
            raise invalid(f"context vectors: a side has {got}, expected at least one token and at most {room} together")
        row = tokenizer.encode_prompt(side)
        ids = [*row[: self.first], *[words[0]] * self.length, *words, tokenizer.end_id]  # any word holds the place
        whole = np.full_like(row, tokenizer.pad_id)
        whole[: len(ids)] = ids
        return whole

    def words(self, ids: Sequence[int]) -> Tensor:
        """The vectors (len(ids), W) of words; W counts all tables of word vectors one after the other."""
        rows = torch.tensor(list(ids))
        return torch.cat([self.graph.weights[table][rows] for _, table in self.lookups], dim=1)

    def encode(self, context: Tensor) -> Tensor:
        """Unit vectors (sides, E) with the `context` (1 or sides, length, W) in its place."""
        whole = context.expand(len(self.tokens), -1, -1)
        edits: dict[str, Edit] = {}
        for (output, _), part in zip(self.lookups, torch.split(whole, self.widths, dim=2), strict=True):
            edits[output] = self._with(part)
        found = self.graph.run({self.graph.inputs[0]: self.tokens}, ["embedding"], edits)["embedding"]
        return functional.normalize(found, dim=1)

    def _with(self, part: Tensor) -> Edit:
        return lambda vectors: torch.cat(
            [vectors[:, : self.first], part, vectors[:, self.first + self.length :]], dim=1
        )


@dataclass(frozen=True, slots=True, eq=False)
class LearnedContext:
    """Context vectors (1 or sides, n, W) with the sides' unit vectors (sides, E), for embeddings (N, E)."""

    context: npt.NDArray[np.float32]
    sides: npt.NDArray[np.float32]
    scoring: PromptScoring
    texts: tuple[str, ...]
    embeddings: FloatArray

    def logits(self, rows: Rows) -> FloatArray:
        wide = self.sides.astype(np.float64)
        direction = wide[0] - wide[1] if len(wide) > 1 else wide[0]
        return np.asarray(self.scoring.logit_scale * (self.embeddings[rows] @ direction) + self.scoring.logit_bias)

    def tensors(self) -> Tensors:
        named = dict(zip((POSITIVE, NEGATIVE), self.sides, strict=False))
        return {"context": self.context, **named}

    def details(self) -> Mapping[str, Any]:
        known = hashlib.sha256(self.context.tobytes() + self.sides.tobytes()).hexdigest()[:12]
        said = [f"[{self.context.shape[1]} learned vectors {known}] {text}" for text in self.texts]
        names = ("kind", "logit_scale", "logit_bias", "contrast")
        return {
            "scoring": {name: getattr(self.scoring, name) for name in names},
            "prompts": {"positive": said[:1], "negative": said[1:]},
        }


@dataclass(frozen=True, slots=True, eq=False)
class ContextLearner:
    """Learns context vectors on the embeddings (N, E) of images with the labels `positive` (N,).

    `texts` are the words of the positive and, for a pair, of the negative side. The loss is the cross-entropy of the
    served logit, both classes with equal weight.
    """

    graph: TorchGraph
    tokenizer: PackTokenizer
    texts: tuple[str, ...]
    scoring: PromptScoring
    table: ContextTable
    embeddings: FloatArray
    positive: BoolArray

    def learn(self, rows: Rows, held: Rows, seed: int) -> LearnedContext:
        del held
        start = self.tokenizer.encode_words(self.table.start) if self.table.start else []
        sides = TextSides(self.graph, self.tokenizer, self.texts, len(start) or self.table.length)
        generator = torch.Generator().manual_seed(seed)
        count = len(self.texts) if self.table.variant == "class-specific" else 1
        shape = (count, sides.length, sum(sides.widths))
        began = sides.words(start).expand(shape) if start else _SPREAD * torch.randn(shape, generator=generator)
        context = began.clone().requires_grad_(True)
        images = torch.from_numpy(self.embeddings[rows].astype(np.float32))
        truth = torch.from_numpy(self.positive[rows])
        weights = balanced(truth)
        optimiser = torch.optim.Adam([context], lr=self.table.rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, self.table.steps)
        for _ in range(self.table.steps):
            batch = torch.randperm(len(rows), generator=generator)[:_BATCH]
            logits = self._logits(images[batch], sides.encode(context))
            loss = functional.binary_cross_entropy_with_logits(logits, truth[batch].float(), weights[batch])
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
        with torch.inference_mode():
            encoded = sides.encode(context)
        return LearnedContext(context.detach().numpy(), encoded.numpy(), self.scoring, self.texts, self.embeddings)

    def _logits(self, images: Tensor, sides: Tensor) -> Tensor:
        direction = sides[0] - sides[1] if len(sides) > 1 else sides[0]
        return self.scoring.logit_scale * (images @ direction) + self.scoring.logit_bias


def balanced(truth: Tensor) -> Tensor:
    """Weights (N,) by which both classes of `truth` (N,) bool weigh the same, of mean 1."""
    share = truth.float().mean()
    return torch.where(truth, 0.5 / share, 0.5 / (1 - share))
