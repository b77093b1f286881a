"""Puts together the learners of methods that are no linear head: from pack and manifest to what they learn with."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from radserve.models.adapt.dataset import LabelledImages
from radserve.models.adapt.exemplars import ExemplarLearner
from radserve.models.adapt.heads import Rows
from radserve.models.adapt.learners import Learner
from radserve.models.adapt.manifest import Manifest
from radserve.models.onnx_runner import OnnxRunner
from radserve.models.pack import TEXT_ENCODER, ModelPack, graph_of
from radserve.models.pack_files import invalid
from radserve.models.pack_types import MaskScoring, PackLabel, PromptScoring
from radserve.models.tokenizer import PackTokenizer, pack_tokenizer
from radserve.pipelines.embedding import Embedded, prepare_images
from radserve.pipelines.prompts import embed_prompts

if TYPE_CHECKING:
    from radserve.models.tuning.low_rank import Sides, Tower


def learner_of(base: ModelPack, manifest: Manifest, data: LabelledImages, embedded: Embedded) -> Learner | None:
    """The learner of the manifest's method, None for a linear head. The task has been checked (check_task)."""
    match manifest.task.method:
        case "exemplars":
            ids = tuple(f"{manifest.card.name}/{row}" for row in data.rows)
            shown = manifest.task.exemplars.shown
            return ExemplarLearner(embedded.embeddings, data.positive, embedded.logits, ids, shown)
        case "context-vectors":
            return _context_learner(base, manifest, data, embedded)
        case "low-rank":
            return _low_rank_learner(base, manifest, data)
        case _:
            return None


def _context_learner(base: ModelPack, manifest: Manifest, data: LabelledImages, embedded: Embedded) -> Learner:
    from radserve.models.tuning.context_vectors import ContextLearner
    from radserve.models.tuning.torch_graph import read_torch_graph

    task = manifest.task
    known = next((each for each in base.labels if each.name == task.label), None)
    scoring = _prompt_scoring(base, known)
    stated = base.prompts.labels.get(task.label) if base.prompts else None
    positive = task.context.positive or (stated.positive[0] if stated else "")
    negative = task.context.negative or (stated.negative[0] if stated and stated.negative else "")
    texts = (positive, negative) if scoring.contrast == "pair" else (positive,)
    if not all(texts) or (task.label in base.learned and not task.context.positive):
        raise invalid("task.context: the label has no written wordings: state positive, and negative for a pair")
    graph = read_torch_graph(base, TEXT_ENCODER)
    return ContextLearner(graph, _tokenizer(base), texts, scoring, task.context, embedded.embeddings, data.positive)


def _prompt_scoring(base: ModelPack, label: PackLabel | None) -> PromptScoring:
    """How the label is scored, or for a new one how the others are."""
    found = [each.scoring for each in ([label] if label else base.labels) if isinstance(each.scoring, PromptScoring)]
    if not found:
        raise invalid(f"pack {base.name!r} scores no label by prompts: the scale of its texts is not known")
    return found[0]


def _low_rank_learner(base: ModelPack, manifest: Manifest, data: LabelledImages) -> Learner:
    from radserve.models.tuning.low_rank import LowRankLearner

    task = manifest.task
    label, use = base.label(task.label), base.input(task.input)
    assert not isinstance(label.scoring, MaskScoring)  # noqa: S101  # check_task
    by_prompts = isinstance(label.scoring, PromptScoring)
    if "text" in task.low_rank.towers and (not by_prompts or task.label in base.learned):
        raise invalid("task.low_rank.towers: the label has no written prompts for the text tower")
    tower = _tower(base, graph_of(label, use))
    sides = _sides(base, label, learns="text" in task.low_rank.towers) if by_prompts else None

    def prepared(rows: Rows) -> npt.NDArray[np.float32]:
        return tensors[rows]

    tensors = prepare_images(base, use, data.images)
    return LowRankLearner(tower, label.scoring, sides, task.low_rank, prepared, data.positive)


def _sides(base: ModelPack, label: PackLabel, *, learns: bool) -> Sides:
    from radserve.models.tuning.low_rank import Sides

    tokenizer = _tokenizer(base)
    embedded = asyncio.run(embed_prompts(base, tokenizer, OnnxRunner([base])))
    assert base.prompts is not None  # noqa: S101  # a label of it is scored by prompts
    stated = base.prompts.labels[label.name]
    tokens = [
        np.stack([tokenizer.encode_prompt(text) for text in side])
        for side in (stated.positive, stated.negative)
        if side
    ]
    return Sides(_tower(base, TEXT_ENCODER) if learns else None, tuple(tokens), embedded.directions[label.name])


def _tower(base: ModelPack, graph: str) -> Tower:
    import onnx

    from radserve.models.tuning.low_rank import Tower
    from radserve.models.tuning.torch_graph import read_torch_graph

    return Tower(graph, onnx.load_model_from_string(base.read(graph)), read_torch_graph(base, graph))


def _tokenizer(base: ModelPack) -> PackTokenizer:
    tokenizer = pack_tokenizer(base)
    if tokenizer is None:
        raise invalid(f"pack {base.name!r} has no tokenizer")
    return tokenizer
