"""The network of the default pack: open_clip's CoCa with a small convolutional image tower.

CoCa (Yu et al., 2022, arXiv 2205.01917): an image tower, a causal text tower for the contrastive part, and a
multimodal decoder that cross-attends to the image tokens. Only the image tower is ours: the first stages of
EfficientNet-Lite0.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import torch
from open_clip.coca_model import CoCa
from open_clip.transformer import TextTransformer
from torch import Tensor, nn
from torch.nn import functional

from radserve.models.train.imagenet import efficientnet_lite0

_LARGEST_LOG_SCALE = math.log(30.0)
_STAGES = 5  # of the seven of EfficientNet-Lite0: the last that keep a map of a sixteenth of the side
_STRIDE = 16
IMAGE_CHANNELS = 112  # of the last map


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
        return cls(**values)


class ImageTower(nn.Module):
    """Convolutional tower whose joint embedding is a plain sum over the patches of its last map.

    Input (N, 1, H, W) float32, normalised, of any size: it is resized bilinearly to `image_size`. Output (pooled
    (N, E), tokens (N, P, C)), patches row by row. The first layer and `frozen_stages` stages never learn: their
    filters see edges and textures, and a few hundred images would only spoil them.
    """

    def __init__(self, config: ModelConfig, pretrained: bool) -> None:
        super().__init__()
        network: Any = efficientnet_lite0(pretrained)
        self.size = config.image_size
        self.frozen = nn.Sequential(network.conv_stem, network.bn1, *network.blocks[: config.frozen_stages])
        self.learning = nn.Sequential(*network.blocks[config.frozen_stages : _STAGES])
        self.frozen.requires_grad_(False)
        self.dropout = nn.Dropout2d(config.image_dropout)
        # A 1 x 1 convolution, not a linear layer: its result for an image does not depend on the rest of the batch.
        self.projection = nn.Conv2d(IMAGE_CHANNELS, config.embedding_size, 1, bias=False)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        self.frozen.eval()
        return self

    def seen(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """What the frozen stages make of the image and, at inference, of its mirror image."""
        size = (self.size, self.size)
        enlarged = functional.interpolate(pixels, size=size, mode="bilinear", align_corners=False)
        return tuple(self.frozen(each) for each in ((enlarged,) if self.training else (enlarged, enlarged.flip(3))))

    def feature_map(self, seen: Sequence[Tensor]) -> Tensor:
        """The last map (N, C, rows, columns); of two looks the mean, the second mirrored back place by place."""
        maps = [self.learning(each) for each in seen]
        return self.dropout(maps[0]) if len(maps) == 1 else (maps[0] + maps[1].flip(3)) / 2  # type: ignore[no-any-return]

    def summed(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Embedding (N, E) of length one and the patch embeddings (N, P, E) that add up to it."""
        patches = self.projection(features)
        total = patches.sum(dim=(2, 3), keepdim=True)
        length = total.norm(dim=1, keepdim=True)
        return (total / length).flatten(1), _by_patch(patches / length)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        features = self.feature_map(self.seen(pixels))
        return self.projection(features).mean(dim=(2, 3)), _by_patch(features)

    def with_patches(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Embedding (N, E) of length one, tokens (N, P, C), and patch embeddings (N, P, E) that add up to it."""
        features = self.feature_map(self.seen(pixels))
        embedding, patches = self.summed(features)
        return embedding, _by_patch(features), patches


class JointImageTower(nn.Module):
    """Image towers side by side: a cosine of the joint embeddings is the mean of the members' cosines.

    The frozen stages are the same in all and run once. `mix` makes the members' maps the tokens that a report is
    written from.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.towers = nn.ModuleList(ImageTower(config, pretrained=False) for _ in range(config.members))
        for tower in self.towers[1:]:
            tower.frozen = nn.Identity()
        self.mix = nn.Conv2d(config.members * IMAGE_CHANNELS, IMAGE_CHANNELS, 1)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        return self.with_patches(pixels)[:2]

    def with_patches(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As `ImageTower.with_patches`, embeddings of all members one after the other."""
        seen = self.towers[0].seen(pixels)  # type: ignore[operator]
        maps = [tower.feature_map(seen) for tower in self.towers]  # type: ignore[operator]
        summed = [tower.summed(each) for tower, each in zip(self.towers, maps, strict=True)]  # type: ignore[operator]
        embeddings, patches = zip(*summed, strict=True)
        share = len(maps) ** -0.5
        tokens = _by_patch(self.mix(torch.cat(maps, dim=1)))
        return torch.cat(embeddings, dim=1) * share, tokens, torch.cat(patches, dim=2) * share


def _by_patch(features: Tensor) -> Tensor:
    return features.flatten(2).transpose(1, 2)


class TextTower(TextTransformer):  # type: ignore[misc]  # open_clip ships no types
    """open_clip's causal text tower, for texts shorter than the context too."""

    def _embeds(self, text: Tensor) -> tuple[Tensor, Tensor]:
        embedded, mask = super()._embeds(text)
        length = text.shape[1]
        return embedded, mask[:length, :length]


class JointTextTower(nn.Module):
    """Text towers side by side, as `JointImageTower`; the report decoder reads the words of the first."""

    def __init__(self, towers: Sequence[TextTower]) -> None:
        super().__init__()
        self.towers = nn.ModuleList(towers)

    def forward(self, text: Tensor) -> tuple[Tensor, Tensor]:
        found = [tower(text) for tower in self.towers]
        pooled = [functional.normalize(each, dim=-1) for each, _ in found]
        return torch.cat(pooled, dim=1) * len(found) ** -0.5, found[0][1]


class RadCoCa(CoCa):  # type: ignore[misc]  # open_clip ships no types
    """open_clip's CoCa with `ImageTower`, `TextTower`, and a decoder that starts from drawn weights."""

    def __init__(self, config: ModelConfig, pretrained: bool = False) -> None:
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
        towers = [TextTower(**text, output_dim=config.embedding_size) for _ in range(config.members)]
        joint = config.members > 1
        self.visual: Any = JointImageTower(config) if joint else ImageTower(config, pretrained)
        self.text: Any = JointTextTower(towers) if joint else towers[0]
        self.logit_scale = nn.Parameter(torch.tensor(10.0).log())
        self._initialise_decoder()

    @property
    def word_tower(self) -> TextTower:
        """The text tower whose tokens the report decoder reads."""
        return self.text.towers[0] if self.config.members > 1 else self.text  # type: ignore[no-any-return]

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
