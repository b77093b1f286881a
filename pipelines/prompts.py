"""Text embeddings of a prompt set: computed once by the text encoder, then only read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from radserve._checks import read_only
from radserve.models.ontology import built_in_ontology
from radserve.models.pack import TEXT_ENCODER, ModelPack
from radserve.models.prompt_cache import PromptCache
from radserve.models.prompts.lint import refuse_unfit
from radserve.models.prompts.prompt_set import PromptSetFile, prompt_set_of_pack
from radserve.models.prompts.rendering import RenderedPrompts, render
from radserve.models.tokenizer import PackTokenizer
from radserve.ports import ModelRunner
from radserve.results import LabelPromptRecord, PromptRecord, TaskAnswer
from radserve.tensors import InferenceRequest

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class PromptEmbeddings:
    """For each label the vector (E,) float64 that points from its negative to its positive prompts.

    Each side is the mean of its prompts' unit vectors, made a unit vector again (prompt ensembling as CLIP does it);
    the direction is their difference, so that <image, direction> is the difference of the two cosines. A label without
    negative prompts has the positive side alone. `tasks` has a unit vector for each option of a task. `record` names
    the prompt set; `calibrated` says whether the pack's thresholds were set with it.
    """

    directions: Mapping[str, FloatArray]
    tasks: Mapping[str, Mapping[str, FloatArray]] = field(default_factory=dict)
    record: PromptRecord | None = None
    calibrated: bool = True

    def __post_init__(self) -> None:
        frozen = {label: read_only(vector) for label, vector in self.directions.items()}
        object.__setattr__(self, "directions", MappingProxyType(frozen))

    def answer(
        self, series_instance_uid: str, embedding: npt.NDArray[np.float32], logit_scale: float
    ) -> tuple[TaskAnswer, ...]:
        """The tasks' answers for an image's unit vector (E,): the softmax over the scaled cosines to the options."""
        answers = []
        for task, options in self.tasks.items():
            logits = logit_scale * (np.stack(list(options.values())) @ embedding.astype(np.float64))
            weights = np.exp(logits - logits.max())
            scores = tuple(zip(options, (weights / weights.sum()).tolist(), strict=True))
            answers.append(TaskAnswer(task, series_instance_uid, max(scores, key=lambda each: each[1])[0], scores))
        return tuple(answers)


def ensemble(embeddings: npt.NDArray[Any]) -> FloatArray:
    """The unit vector (E,) of the mean of the unit vectors of `embeddings` (prompts, E)."""
    wide = np.asarray(embeddings, dtype=np.float64)
    mean = (wide / np.linalg.norm(wide, axis=1, keepdims=True)).mean(axis=0)
    return np.asarray(mean / np.linalg.norm(mean))


async def embed_prompts(
    pack: ModelPack,
    tokenizer: PackTokenizer | None,
    runner: ModelRunner,
    cache: PromptCache | None = None,
    *,
    prompts: PromptSetFile | None = None,
) -> PromptEmbeddings:
    """Run a prompt set, or the pack's own, through the pack's text encoder; the pack's own may come from the cache.

    Raises ModelError when the model server does not answer, INVALID_ARGUMENT for a set that is not fit for the pack or
    that the linter refuses.
    """
    own = prompt_set_of_pack(pack)
    chosen = prompts or own
    if chosen is None or tokenizer is None:
        return PromptEmbeddings({})
    if prompts:
        refuse_unfit(prompts.texts())

    def knows(text: str) -> bool:
        return tokenizer.unknown_id is None or tokenizer.unknown_id not in tokenizer.encode_words(text)

    rendered = render(chosen, pack, built_in_ontology(), knows)

    async def side(texts: Sequence[str]) -> FloatArray:
        return ensemble(await _encoded(pack, tokenizer, runner, texts))

    if cache and prompts is None and (kept := cache.get(pack)):
        return PromptEmbeddings(kept, record=prompt_record(rendered))
    learned = pack.learned if prompts is None else {}
    directions = {}
    for each in rendered.labels:
        if each.label in learned:
            directions[each.label] = learned[each.label].direction
            continue
        positive = await side((*each.positive, *each.added_positive))
        negative = (*each.negative, *each.added_negative)
        directions[each.label] = positive - await side(negative) if negative else positive
    if cache and prompts is None:
        cache.put(pack, directions)
    tasks = {task: {option: await side(texts) for option, texts in options} for task, options in rendered.tasks}
    return PromptEmbeddings(directions, tasks, prompt_record(rendered), calibrated=prompts is None)


def prompt_record(rendered: RenderedPrompts) -> PromptRecord:
    """What a result says of the prompts: the set, and both lists of each label."""
    source = rendered.source
    labels = tuple(
        LabelPromptRecord(each.label, each.positive, each.negative, each.added_positive, each.added_negative)
        for each in rendered.labels
    )
    version = built_in_ontology().version if source.expand else ""
    return PromptRecord(source.id, source.version, source.sha256, source.language, source.mode, version, labels)


async def _encoded(
    pack: ModelPack, tokenizer: PackTokenizer, runner: ModelRunner, texts: Sequence[str]
) -> npt.NDArray[Any]:
    """The text embeddings (texts, E), in batches the encoder takes."""
    batch = pack.graphs[TEXT_ENCODER].max_batch_size
    tokens = np.stack([tokenizer.encode_prompt(text) for text in texts])
    found = []
    for start in range(0, len(tokens), batch):
        part = {"tokens": tokens[start : start + batch]}
        response = await runner.infer(InferenceRequest(pack.model(TEXT_ENCODER), part))
        found.append(response.outputs["embedding"])
    return np.concatenate(found)
