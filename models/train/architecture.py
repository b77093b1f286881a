"""The network of the default pack: open_clip's CoCa with a small convolutional image tower.

CoCa (Yu et al., 2022, arXiv 2205.01917): an image tower, a causal text tower for the contrastive part, and a
multimodal decoder that cross-attends to the image tokens. Only the image tower is ours.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from open_clip.coca_model import CoCa
from open_clip.transformer import TextTransformer
from torch import Tensor, nn
from torch.nn import functional

_LARGEST_LOG_SCALE = math.log(30.0)
PATCHES = 49  # a 7 x 7 map of a 28 x 28 image


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
    image_channels: tuple[int, int, int] = (32, 64, 112)
    image_dropout: float = 0.1
    end_id: int = 2
    pad_id: int = 0
    normalisation: Normalisation = Normalisation()

    @property
    def cached_layers(self) -> int:
        """Self-attention layers whose keys and values the decoder caches."""
        return self.text_layers + self.multimodal_layers

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def load(cls, path: Path) -> ModelConfig:
        values = json.loads(path.read_text())
        values["normalisation"] = Normalisation(**values["normalisation"])
        values["image_channels"] = tuple(values["image_channels"])
        return cls(**values)


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions with batch normalisation and a shortcut; halves the map when `stride` is 2."""

    def __init__(self, channels_in: int, channels_out: int, stride: int = 1) -> None:
        super().__init__()
        self.conv_1 = nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False)
        self.norm_1 = nn.BatchNorm2d(channels_out)
        self.conv_2 = nn.Conv2d(channels_out, channels_out, 3, 1, 1, bias=False)
        self.norm_2 = nn.BatchNorm2d(channels_out)
        self.shortcut = (
            nn.Identity()
            if stride == 1 and channels_in == channels_out
            else nn.Sequential(
                nn.AvgPool2d(stride), nn.Conv2d(channels_in, channels_out, 1, bias=False), nn.BatchNorm2d(channels_out)
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        inner = functional.relu(self.norm_1(self.conv_1(x)))
        return functional.relu(self.norm_2(self.conv_2(inner)) + self.shortcut(x))


class ImageTower(nn.Module):
    """Convolutional tower whose joint embedding is a plain sum over the patches of its last map.

    Input (N, 1, 28, 28) float32, normalised; output (pooled (N, E), tokens (N, 49, C)), patches row by row.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        first, second, last = config.image_channels
        self.stem = nn.Sequential(nn.Conv2d(1, first, 3, 1, 1, bias=False), nn.BatchNorm2d(first), nn.ReLU())
        self.blocks = nn.Sequential(
            ResidualBlock(first, second, stride=2),
            ResidualBlock(second, last, stride=2),
            ResidualBlock(last, last),
        )
        self.dropout = nn.Dropout2d(config.image_dropout)
        # A 1 x 1 convolution, not a linear layer: its result for an image does not depend on the rest of the batch.
        self.projection = nn.Conv2d(last, config.embedding_size, 1, bias=False)

    def feature_map(self, pixels: Tensor) -> Tensor:
        """The last map (N, C, 7, 7)."""
        return self.dropout(self.blocks(self.stem(pixels)))  # type: ignore[no-any-return]

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        features = self.feature_map(pixels)
        return self.projection(features).mean(dim=(2, 3)), _by_patch(features)

    def with_patches(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Embedding (N, E) of length one, tokens (N, 49, C), and patch embeddings (N, 49, E) that add up to it."""
        features = self.feature_map(pixels)
        patches = self.projection(features)
        total = patches.sum(dim=(2, 3), keepdim=True)
        length = total.norm(dim=1, keepdim=True)
        return (total / length).flatten(1), _by_patch(features), _by_patch(patches / length)


def _by_patch(features: Tensor) -> Tensor:
    return features.flatten(2).transpose(1, 2)


class TextTower(TextTransformer):  # type: ignore[misc]  # open_clip ships no types
    """open_clip's causal text tower, for texts shorter than the context too."""

    def _embeds(self, text: Tensor) -> tuple[Tensor, Tensor]:
        embedded, mask = super()._embeds(text)
        length = text.shape[1]
        return embedded, mask[:length, :length]


class RadCoCa(CoCa):  # type: ignore[misc]  # open_clip ships no types
    """open_clip's CoCa with `ImageTower`, `TextTower`, and a decoder that starts from drawn weights."""

    def __init__(self, config: ModelConfig) -> None:
        text = {
            "context_length": config.context_length,
            "vocab_size": config.vocabulary_size,
            "width": config.text_width,
            "heads": config.text_heads,
            "layers": config.text_layers,
            "pad_id": config.pad_id,
            "eos_id": config.end_id,
            "pool_type": "eos",
            "output_tokens": True,
        }
        multimodal = {
            "context_length": config.context_length,
            "width": config.text_width,
            "heads": config.text_heads,
            "layers": config.multimodal_layers,
        }
        # open_clip always builds a vision transformer; the smallest one stands in until it is replaced below.
        vision = {"image_size": 28, "patch_size": 14, "width": 8, "head_width": 8, "layers": 1, "output_tokens": True}
        super().__init__(config.embedding_size, multimodal, text, vision, pad_id=config.pad_id)
        self.config = config
        self.visual = ImageTower(config)
        self.text = TextTower(**text, output_dim=config.embedding_size)
        self.logit_scale = nn.Parameter(torch.tensor(10.0).log())
        self._initialise_decoder()

    @property
    def scale(self) -> Tensor:
        """The factor from a cosine difference to a logit; bounded, since an unbounded one overfits."""
        return self.logit_scale.clamp(max=_LARGEST_LOG_SCALE).exp()

    def _initialise_decoder(self) -> None:
        # open_clip leaves text_projection as uninitialised memory when a CoCa is built from scratch.
        width, layers = self.config.text_width, self.config.multimodal_layers
        nn.init.normal_(self.text_decoder.text_projection, std=width**-0.5)
        for block in [*self.text_decoder.resblocks, *self.text_decoder.cross_attn]:
            nn.init.normal_(block.attn.in_proj_weight, std=width**-0.5)
            nn.init.normal_(block.attn.out_proj.weight, std=width**-0.5 * (2 * layers) ** -0.5)
            nn.init.normal_(block.mlp.c_fc.weight, std=(2 * width) ** -0.5)
            nn.init.normal_(block.mlp.c_proj.weight, std=width**-0.5 * (2 * layers) ** -0.5)
