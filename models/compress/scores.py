"""The scores of a pack's labels by its own graphs, in ONNX Runtime as they are served."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from radserve.errors import ErrorCode, PackError
from radserve.models.compress.samples import FloatArray, Samples
from radserve.models.log_odds import logits_of
from radserve.models.onnx_graph import OnnxGraph
from radserve.models.pack import TEXT_ENCODER, ModelPack
from radserve.models.pack_types import LabelPrompts, MaskScoring, OutputScoring, PromptScoring
from radserve.models.tokenizer import pack_tokenizer

BATCH = 64
Float64Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class PackScores:
    """Scores logits of one pack as they are served, exemplars and all: `graphs` are those that take images, by name,
    `directions` has the vector of every label that is scored by prompts, (E,)."""

    pack: ModelPack
    graphs: Mapping[str, OnnxGraph]
    directions: Mapping[str, Float64Array]

    def embeddings(self, samples: Samples) -> Float64Array:
        """Unit vectors (N, E)."""
        return self._run(samples.use.image_encoder, "embedding", samples.pixels)

    def logits(self, samples: Samples) -> Float64Array:
        """The uncalibrated logit of each sample, (N,). Raises PACK_INVALID for a label that is scored by a mask."""
        match self.pack.label(samples.label).scoring:
            case PromptScoring() as scoring:
                cosines = self.embeddings(samples) @ self.directions[samples.label]
                logits = scoring.logit_scale * cosines + scoring.logit_bias
            case OutputScoring() as scoring:
                values = self._run(scoring.graph, scoring.output, samples.pixels)
                logits = logits_of(values.T, scoring.index, scoring.activation)
            case MaskScoring():
                message = (
                    f"pack {self.pack.name!r}: {samples.label!r} is scored by a mask, which the gate does not know"
                )
                raise PackError(ErrorCode.PACK_INVALID, message)
        index = self.pack.exemplars.get(samples.label)
        return np.asarray(logits + (index.evidence(self.embeddings(samples)) if index else 0))

    def _run(self, graph: str, output: str, pixels: FloatArray) -> Float64Array:
        entry = self.pack.graphs[graph].inputs[0].name
        parts = [pixels[start : start + BATCH] for start in range(0, len(pixels), BATCH)]
        return np.asarray(np.concatenate([self.graphs[graph].run({entry: part})[output] for part in parts]), np.float64)


def pack_scores(pack: ModelPack) -> PackScores:
    """Open the graphs of a pack that take images, and embed its prompts."""
    names = dict.fromkeys(name for use in pack.inputs for name in pack.graphs_of(use, embeds=True))
    return PackScores(pack, {name: OnnxGraph(pack.read(name)) for name in names}, _directions(pack))


def _directions(pack: ModelPack) -> dict[str, Float64Array]:
    names = [each.name for each in pack.labels if isinstance(each.scoring, PromptScoring)]
    tokenizer = pack_tokenizer(pack)
    if pack.prompts is None or tokenizer is None or not names:
        return {}
    encoder = OnnxGraph(pack.read(TEXT_ENCODER))

    def side(prompts: Sequence[str]) -> Float64Array:
        tokens = np.stack([tokenizer.encode_prompt(prompt) for prompt in prompts])
        vectors = encoder.run({"tokens": tokens})["embedding"].astype(np.float64)
        mean = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).mean(axis=0)
        return np.asarray(mean / np.linalg.norm(mean))

    def direction(name: str, prompts: LabelPrompts) -> Float64Array:
        if name in pack.learned:
            return pack.learned[name].direction
        return side(prompts.positive) - (side(prompts.negative) if prompts.negative else 0)

    return {name: direction(name, pack.prompts.labels[name]) for name in names}
