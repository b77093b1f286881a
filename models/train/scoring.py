"""Zero-shot scores and greedy reports in plain PyTorch: what the served path is compared with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

from radserve.models.tokenizer import START, PackTokenizer
from radserve.models.train.architecture import ModelConfig, RadCoCa
from radserve.models.train.prompt_file import Prompts
from radserve.models.train.wordings import WORDINGS

INPUTS = {wording.label: wording.input_name for wording in WORDINGS}
"""The input on which each label is answered."""


def load_model(folder: Path) -> RadCoCa:
    """The network of a pack or checkpoint folder (`model.json`, `model.safetensors`), ready for inference."""
    model = RadCoCa(ModelConfig.load(folder / "model.json"))
    model.load_state_dict(load_file(folder / "model.safetensors"))
    model.eval().requires_grad_(False)
    return model


@torch.inference_mode()
def prompt_embedding(model: RadCoCa, tokenizer: PackTokenizer, prompts: Sequence[str]) -> Tensor:
    """The unit vector (E,) of a prompt set: normalised, averaged, normalised again."""
    tokens = torch.from_numpy(np.stack([tokenizer.encode_prompt(text) for text in prompts]))
    return functional.normalize(model.encode_text(tokens).mean(dim=0), dim=-1)


def prompt_direction(
    model: RadCoCa, tokenizer: PackTokenizer, positive: Sequence[str], negative: Sequence[str]
) -> Tensor:
    """The embedding (E,) of the positive prompts less that of the negative ones."""
    return prompt_embedding(model, tokenizer, positive) - prompt_embedding(model, tokenizer, negative)


def prepared_pixels(model: RadCoCa, images: npt.NDArray[np.uint8]) -> Tensor:
    """Network input (N, 1, 28, 28) float32 from `images` (N, 28, 28) uint8."""
    pixels = torch.from_numpy(np.ascontiguousarray(images)).reshape(-1, 1, *images.shape[-2:]).float() / 255
    return model.config.normalisation.apply(pixels)


@torch.inference_mode()
def score_images(
    model: RadCoCa, tokenizer: PackTokenizer, prompts: Prompts, images: npt.NDArray[np.uint8]
) -> dict[str, npt.NDArray[np.float64]]:
    """Scores in [0, 1], one array (N,) per label: sigmoid(logit_scale * (cos to positive - cos to negative)).

    `images` (N, 28, 28) uint8. The scores are not calibrated: see the temperature in pack.toml.
    """
    logits = image_logits(model, tokenizer, prompts, images)
    return {label: 1 / (1 + np.exp(-values)) for label, values in logits.items()}


@torch.inference_mode()
def image_logits(
    model: RadCoCa, tokenizer: PackTokenizer, prompts: Prompts, images: npt.NDArray[np.uint8]
) -> dict[str, npt.NDArray[np.float64]]:
    """The logits under `score_images`, one float64 array (N,) per label."""
    found: dict[str, npt.NDArray[np.float64]] = {}
    for label, sides in prompts.items():
        input_name = INPUTS[label]
        embeddings = encoded(model, images, input_name)[0]
        found |= logits_of_embeddings(model, tokenizer, {label: sides}, embeddings, input_name)
    return found


@torch.inference_mode()
def encoded(model: RadCoCa, images: npt.NDArray[np.uint8], input_name: str) -> tuple[Tensor, Tensor]:
    """Embeddings (N, E) and tokens (N, P, C) of an input's `images` (N, 28, 28) uint8."""
    parts = [model.encode(part, input_name) for part in torch.split(prepared_pixels(model, images), 128)]
    embeddings, tokens = zip(*parts, strict=True)
    return torch.cat(embeddings), torch.cat(tokens)


@torch.inference_mode()
def logits_of_embeddings(
    model: RadCoCa, tokenizer: PackTokenizer, prompts: Prompts, embeddings: Tensor, input_name: str
) -> dict[str, npt.NDArray[np.float64]]:
    """The logits of an input's images by their embeddings (N, E)."""
    directions = {
        label: prompt_direction(model, tokenizer, positive, negative) for label, (positive, negative) in prompts.items()
    }
    scale = float(model.scale_of(input_name))
    return {label: scale * (embeddings @ each).double().numpy() for label, each in directions.items()}


@torch.inference_mode()
def greedy_reports(
    model: RadCoCa,
    tokenizer: PackTokenizer,
    images: npt.NDArray[np.uint8],
    input_name: str,
    start: str = START,
    max_tokens: int = 48,
) -> list[list[int]]:
    """Token ids of the most likely report of each image of an input, without start and end, by full recomputation.

    Every step runs the whole text through CoCa's own forward: slow, and free of any cache of ours.
    """
    pixels = prepared_pixels(model, images)
    latent, image_tokens = model.encode(pixels, input_name)
    text = torch.full((len(pixels), model.config.context_length), tokenizer.pad_id, dtype=torch.int64)
    text[:, 0] = tokenizer.special_id(start)
    ended = torch.zeros(len(pixels), dtype=torch.bool)
    for step in range(max_tokens):
        said = text[:, : step + 1]
        output = model(pixels, said, image_latent=latent, image_embs=image_tokens, output_labels=False)
        word = output["logits"][:, -1].argmax(dim=-1)
        text[:, step + 1] = torch.where(ended, tokenizer.pad_id, word)
        ended |= word == tokenizer.end_id
        if bool(ended.all()):
            break
    stops = {tokenizer.pad_id, tokenizer.end_id}
    return [[token for token in row[1 : max_tokens + 1] if token not in stops] for row in text.tolist()]
