"""Low-rank adaptation of a label's towers: learned beside the weights, merged by models/adapt/low_rank.py."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from torch import Tensor
from torch.nn import functional

from radserve.errors import ErrorCode, PackError
from radserve.evaluation.tables import BoolArray, FloatArray
from radserve.models.adapt.heads import Rows
from radserve.models.adapt.learners import Tensors
from radserve.models.adapt.low_rank import Pair, as_tensors, merged, targets
from radserve.models.adapt.manifest import LowRankTable
from radserve.models.pack_types import OutputScoring, PromptScoring
from radserve.models.tuning.context_vectors import balanced
from radserve.models.tuning.torch_graph import TOLERANCE, Edit, TorchGraph, largest_difference

Prepared = Callable[[Rows], npt.NDArray[np.float32]]
"""The tensors (rows, channels, height, width) of images of the data set, as the graph takes them."""


class LowRankChange:
    """B A for every target of a graph: A small random numbers, B zeros, so that nothing is changed to begin with."""

    def __init__(self, model: onnx.ModelProto, table: LowRankTable, generator: torch.Generator) -> None:
        self.factor = table.scale / table.rank
        self.pairs: dict[str, tuple[Tensor, Tensor]] = {}
        for name, (rows, columns) in targets(model).items():
            rank = min(table.rank, rows, columns)
            a = torch.randn(rank, columns, generator=generator) * columns**-0.5
            self.pairs[name] = a.requires_grad_(True), torch.zeros(rows, rank).requires_grad_(True)
        if not self.pairs:
            raise PackError(
                ErrorCode.PACK_INVALID, "low-rank: the graph has no matrix product and no 1 x 1 convolution"
            )

    def parameters(self) -> list[Tensor]:
        return [each for pair in self.pairs.values() for each in pair]

    def edits(self) -> dict[str, Edit]:
        """The weights with their changes, for TorchGraph.run."""
        return {name: self._edit(*pair) for name, pair in self.pairs.items()}

    def _edit(self, a: Tensor, b: Tensor) -> Edit:
        return lambda weight: weight + self.factor * (b @ a).reshape(weight.shape)

    def arrays(self) -> dict[str, Pair]:
        return {name: (a.detach().numpy(), b.detach().numpy()) for name, (a, b) in self.pairs.items()}


@dataclass(frozen=True, slots=True, eq=False)
class Tower:
    """A graph that learns: as it is served, and as PyTorch runs it."""

    name: str
    model: onnx.ModelProto
    graph: TorchGraph


@dataclass(frozen=True, slots=True, eq=False)
class Sides:
    """A label's prompts: the text tower, its tokens (texts, T) of each side, and the direction (E,) they had before.

    `tower` is None where the texts do not learn or were learned as context vectors.
    """

    tower: Tower | None
    tokens: tuple[npt.NDArray[np.int64], ...]
    direction: npt.NDArray[np.float64]

    def learned(self, edits: Mapping[str, Edit]) -> Tensor:
        """The direction with a changed text tower: ensembles of unit vectors, as they are served."""
        if self.tower is None:
            return torch.from_numpy(self.direction.astype(np.float32))
        sides = [self._side(self.tower.graph, tokens, edits) for tokens in self.tokens]
        return sides[0] - sides[1] if len(sides) > 1 else sides[0]

    def _side(self, graph: TorchGraph, tokens: npt.NDArray[np.int64], edits: Mapping[str, Edit]) -> Tensor:
        found = graph.run({graph.inputs[0]: torch.from_numpy(tokens)}, ["embedding"], edits)["embedding"]
        return functional.normalize(functional.normalize(found, dim=1).mean(dim=0), dim=0)


@dataclass(frozen=True, slots=True, eq=False)
class LearnedLowRank:
    """The changes of the towers, merged: what the served graph gives."""

    learner: LowRankLearner
    changes: Mapping[str, Pair]
    text_changes: Mapping[str, Pair]
    direction: npt.NDArray[np.float32] | None
    factor: float
    parity: float

    def logits(self, rows: Rows) -> FloatArray:
        tower = self.learner.tower
        content = merged(tower.model, self.changes, self.factor)
        graph = TorchGraph(content)
        direction = None if self.direction is None else torch.from_numpy(self.direction)
        parts = []
        with torch.inference_mode():
            for start in range(0, len(rows), 64):
                pixels = torch.from_numpy(self.learner.prepared(rows[start : start + 64]))
                parts.append(self.learner.logits_of(graph, pixels, {}, direction).numpy())
        return np.concatenate(parts).astype(np.float64) if parts else np.zeros(0)

    def tensors(self) -> Tensors:
        found: dict[str, npt.NDArray[Any]] = as_tensors(self.changes, "image") | as_tensors(self.text_changes, "text")
        scoring = self.learner.scoring
        if self.direction is not None and isinstance(scoring, PromptScoring):
            found["weight"] = (scoring.logit_scale * self.direction).astype(np.float32)
            found["bias"] = np.array([scoring.logit_bias], dtype=np.float32)
        return found

    def details(self) -> Mapping[str, Any]:
        return {
            "graph": self.learner.tower.name,
            "factor": self.factor,
            "rank": self.learner.table.rank,
            "merged_differs_by": self.parity,
        }


@dataclass(frozen=True, slots=True, eq=False)
class LowRankLearner:
    """Learns low-rank changes of the `tower` that scores a label, and of its text tower when the table names it.

    `prepared` gives the tensors of images, `positive` (N,) their labels; `sides` is None for an output of a classifier.
    """

    tower: Tower
    scoring: PromptScoring | OutputScoring
    sides: Sides | None
    table: LowRankTable
    prepared: Prepared
    positive: BoolArray

    def learn(self, rows: Rows, held: Rows, seed: int) -> LearnedLowRank:
        """Raises PACK_INVALID where the merged graph in ONNX Runtime differs from what has learned (1e-4)."""
        del held
        generator = torch.Generator().manual_seed(seed)
        image = LowRankChange(self.tower.model, self.table, generator)
        texts = self.sides.tower if self.sides and "text" in self.table.towers else None
        text = LowRankChange(texts.model, self.table, generator) if texts else None
        changes = ([image] if "image" in self.table.towers else []) + ([text] if text else [])
        self._fit(rows, image, text, [each for change in changes for each in change.parameters()], generator)
        content = merged(self.tower.model, image.arrays(), image.factor).SerializeToString()
        off = largest_difference(self.tower.graph, content, image.edits())
        if not off <= TOLERANCE:
            message = (
                f"low-rank: the merged graph differs by {off:.2e} from the one that learned, more than {TOLERANCE:g}"
            )
            raise PackError(ErrorCode.PACK_INVALID, message)
        with torch.inference_mode():
            direction = self._direction(text)
        return LearnedLowRank(
            learner=self,
            changes=image.arrays() if "image" in self.table.towers else {},
            text_changes=text.arrays() if text else {},
            direction=None if direction is None else direction.numpy(),
            factor=image.factor,
            parity=off,
        )

    def _fit(
        self,
        rows: Rows,
        image: LowRankChange,
        text: LowRankChange | None,
        parameters: Sequence[Tensor],
        generator: torch.Generator,
    ) -> None:
        truth = torch.from_numpy(self.positive.copy())
        weights = torch.zeros(len(truth))
        weights[rows] = balanced(truth[rows])
        optimiser = torch.optim.Adam(parameters, lr=self.table.rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, self.table.steps)
        for _ in range(self.table.steps):
            batch = rows[torch.randperm(len(rows), generator=generator)[: self.table.batch].numpy()]
            pixels = torch.from_numpy(self.prepared(batch))
            logits = self.logits_of(self.tower.graph, pixels, image.edits(), self._direction(text))
            loss = functional.binary_cross_entropy_with_logits(logits, truth[batch].float(), weights[batch])
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()

    def _direction(self, text: LowRankChange | None) -> Tensor | None:
        return self.sides.learned(text.edits() if text else {}) if self.sides else None

    def logits_of(
        self, graph: TorchGraph, pixels: Tensor, edits: Mapping[str, Edit], direction: Tensor | None
    ) -> Tensor:
        """The served logits (N,): by prompts through `direction` (E,), or an output of a classifier."""
        inputs = {graph.inputs[0]: pixels}
        if isinstance(self.scoring, PromptScoring):
            assert direction is not None  # noqa: S101  # such a label has sides
            embedding = graph.run(inputs, ["embedding"], edits)["embedding"]
            return self.scoring.logit_scale * (embedding @ direction) + self.scoring.logit_bias
        values = graph.run(inputs, [self.scoring.output], edits)[self.scoring.output]
        return output_logits(values, self.scoring)


def output_logits(values: Tensor, scoring: OutputScoring) -> Tensor:
    """The log odds (N,) of one number of a classifier's output (N, K), by its activation."""
    chosen = values[:, scoring.index]
    if scoring.activation == "sigmoid":
        return chosen
    if scoring.activation == "none":
        return chosen.clamp(1e-7, 1 - 1e-7).logit()
    others = [place for place in range(values.shape[1]) if place != scoring.index]
    return chosen - values[:, others].logsumexp(dim=1)
