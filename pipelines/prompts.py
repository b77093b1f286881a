"""Text embeddings of a pack's prompt pairs: computed once by the text encoder, then only read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from radserve._checks import read_only
from radserve.models.pack import TEXT_ENCODER, ModelPack
from radserve.models.prompt_cache import PromptCache
from radserve.models.tokenizer import PackTokenizer
from radserve.ports import ModelRunner
from radserve.tensors import InferenceRequest

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class PromptEmbeddings:
    """For each label the vector (E,) float64 that points from its negative to its positive prompts.

    Each side is the mean of its prompts' unit vectors, made a unit vector again (prompt ensembling as CLIP does it);
    the direction is their difference, so that <image, direction> is the difference of the two cosines. A label without
    negative prompts has the positive side alone.
    """

    directions: Mapping[str, FloatArray]

    def __post_init__(self) -> None:
        frozen = {label: read_only(vector) for label, vector in self.directions.items()}
        object.__setattr__(self, "directions", MappingProxyType(frozen))


def ensemble(embeddings: npt.NDArray[Any]) -> FloatArray:
    """The unit vector (E,) of the mean of the unit vectors of `embeddings` (prompts, E)."""
    wide = np.asarray(embeddings, dtype=np.float64)
    mean = (wide / np.linalg.norm(wide, axis=1, keepdims=True)).mean(axis=0)
    return np.asarray(mean / np.linalg.norm(mean))


async def embed_prompts(
    pack: ModelPack, tokenizer: PackTokenizer | None, runner: ModelRunner, cache: PromptCache | None = None
) -> PromptEmbeddings:
    """Run the pack's prompts through its text encoder, or take them from the cache.

    Raises ModelError when the model server does not answer.
    """
    if pack.prompts is None or tokenizer is None:
        return PromptEmbeddings({})
    if cache and (kept := cache.get(pack)):
        return PromptEmbeddings(kept)
    batch = pack.graphs[TEXT_ENCODER].max_batch_size

    async def side(prompts: Sequence[str]) -> FloatArray:
        tokens = np.stack([tokenizer.encode_prompt(prompt) for prompt in prompts])
        found = []
        for start in range(0, len(tokens), batch):
            part = {"tokens": tokens[start : start + batch]}
            response = await runner.infer(InferenceRequest(pack.model(TEXT_ENCODER), part))
            found.append(response.outputs["embedding"])
        return ensemble(np.concatenate(found))

    directions = {}
    for name, prompts in pack.prompts.labels.items():
        positive = await side(prompts.positive)
        directions[name] = positive - await side(prompts.negative) if prompts.negative else positive
    if cache:
        cache.put(pack, directions)
    return PromptEmbeddings(directions)
