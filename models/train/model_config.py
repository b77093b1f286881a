"""The sizes of the default pack's network, as `model.json` states them beside the weights."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

IMAGE_CHANNELS = 112  # of the last map of an image tower
Tower = Literal["imagenet", "residual"]
_STRIDE = 16


@dataclass(frozen=True)
class Normalisation:
    """How [0, 1] pixels become network input: fixed numbers, or each image's own mean and deviation.

    The same as MONAI's NormalizeIntensity with, or without, `subtrahend` and `divisor`.
    """

    per_image: bool = False
    subtrahend: float = 0.5
    divisor: float = 0.25

    def apply(self, pixels: Tensor) -> Tensor:
        """`pixels` (N, 1, 28, 28) float32 in [0, 1]."""
        if not self.per_image:
            return (pixels - self.subtrahend) / self.divisor
        mean = pixels.mean(dim=(1, 2, 3), keepdim=True)
        deviation = pixels.std(dim=(1, 2, 3), keepdim=True, correction=0)
        return (pixels - mean) / torch.where(deviation == 0, 1.0, deviation)


@dataclass(frozen=True)
class ModelConfig:
    """Sizes of the network; written to `model.json` beside the weights."""

    vocabulary_size: int
    context_length: int = 64
    embedding_size: int = 128
    text_width: int = 112
    text_heads: int = 4
    text_layers: int = 2
    multimodal_layers: int = 2
    image_size: int = 56  # pixels of a side; images of 28 are enlarged to it inside the tower
    frozen_stages: int = 2
    members: int = 1  # networks, each trained by itself, whose scores are averaged
    image_dropout: float = 0.1
    end_id: int = 2
    pad_id: int = 0
    normalisation: Normalisation = Normalisation()
    own_towers: Mapping[str, tuple[Tower, ...]] = field(default_factory=dict)  # by input; the others share the rest

    @property
    def joint_size(self) -> int:
        """Numbers of an embedding in the space that texts and images share."""
        return self.members * self.embedding_size

    @property
    def cached_layers(self) -> int:
        """Self-attention layers whose keys and values the decoder caches."""
        return self.text_layers + self.multimodal_layers

    @property
    def patches(self) -> int:
        """Cells of the image tower's last map."""
        return math.ceil(self.image_size / _STRIDE) ** 2

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def load(cls, path: Path) -> ModelConfig:
        values = json.loads(path.read_text())
        values["normalisation"] = Normalisation(**values["normalisation"])
        values["own_towers"] = {name: tuple(kinds) for name, kinds in values.get("own_towers", {}).items()}
        return cls(**values)
