"""The scores of a pack's labels by its own graphs, in ONNX Runtime as they are served."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from radserve.errors import ErrorCode, PackError
from radserve.models.compress.samples import Samples, encoder_of
from radserve.models.onnx_graph import OnnxGraph
from radserve.models.pack import TEXT_ENCODER, ModelPack
from radserve.models.pack_types import PromptScoring
from radserve.models.tokenizer import pack_tokenizer

BATCH = 64


@dataclass(frozen=True)
class PackScores:
    """Scores logits of one pack as they are served, exemplars and all: `encoders` by the graph's name; `directions` has
    the vector of every label, (E,)."""

    pack: ModelPack
    encoders: Mapping[str, OnnxGraph]
    directions: Mapping[str, npt.NDArray[np.float64]]

    def embeddings(self, samples: Samples) -> npt.NDArray[np.float64]:
        """Unit vectors (N, E)."""
        pixels, encoder = samples.pixels, self.encoders[encoder_of(self.pack, samples.label)]
        parts = [pixels[start : start + BATCH] for start in range(0, len(pixels), BATCH)]
        found = np.concatenate([encoder.run({"pixels": part})["embedding"] for part in parts])
        return np.asarray(found, np.float64)

    def logits(self, samples: Samples) -> npt.NDArray[np.float64]:
        """The uncalibrated logit of each sample, (N,)."""
        scoring = self.pack.label(samples.label).scoring
        if not isinstance(scoring, PromptScoring):
            raise _unfit(self.pack)
        embeddings, index = self.embeddings(samples), self.pack.exemplars.get(samples.label)
        logits = scoring.logit_scale * (embeddings @ self.directions[samples.label]) + scoring.logit_bias
        return np.asarray(logits + (index.evidence(embeddings) if index else 0))


def pack_scores(pack: ModelPack) -> PackScores:
    """Open a pack. Raises PACK_INVALID for one with a label that is not scored by prompts."""
    tokenizer = pack_tokenizer(pack)
    if pack.prompts is None or tokenizer is None or pack.prompts.labels.keys() != {each.name for each in pack.labels}:
        raise _unfit(pack)
    encoder = OnnxGraph(pack.read(TEXT_ENCODER))

    def side(prompts: Sequence[str]) -> npt.NDArray[np.float64]:
        tokens = np.stack([tokenizer.encode_prompt(prompt) for prompt in prompts])
        vectors = encoder.run({"tokens": tokens})["embedding"].astype(np.float64)
        mean = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).mean(axis=0)
        return np.asarray(mean / np.linalg.norm(mean))

    directions = {
        name: pack.learned[name].direction
        if name in pack.learned
        else side(prompts.positive) - (side(prompts.negative) if prompts.negative else 0)
        for name, prompts in pack.prompts.labels.items()
    }
    names = dict.fromkeys(encoder_of(pack, label) for label in directions)
    return PackScores(pack, {name: OnnxGraph(pack.read(name)) for name in names}, directions)


def _unfit(pack: ModelPack) -> PackError:
    return PackError(ErrorCode.PACK_INVALID, f"pack {pack.name!r}: only packs scored by prompts are compressed")
