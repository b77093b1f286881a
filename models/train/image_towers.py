"""The image towers: convolutions to a map of 4 x 4, of which the joint embedding is a plain sum."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from radserve.models.train.imagenet import efficientnet_lite0
from radserve.models.train.model_config import IMAGE_CHANNELS, ModelConfig, Tower
from radserve.models.train.residual import residual_stages

_STAGES = 5  # of the seven of EfficientNet-Lite0: the last that keep a map of a sixteenth of the side


class _Tower(nn.Module):
    """Convolutions to a map (N, C, 4, 4), and the joint embedding as a plain sum over its patches.

    Input (N, 1, H, W) float32, normalised. Output (pooled (N, E), tokens (N, P, C)), patches row by row; at inference
    the means of the image and of its mirror image.
    """

    def __init__(self, learning: nn.Sequential, dropout: float, embedding: int) -> None:
        super().__init__()
        self.learning = learning
        self.dropout = nn.Dropout2d(dropout)
        # A 1 x 1 convolution, not a linear layer: its result for an image does not depend on the rest of the batch.
        self.projection = nn.Conv2d(IMAGE_CHANNELS, embedding, 1, bias=False)

    def seen(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """What the learning stages get: the image and, at inference, its mirror image."""
        return (pixels,) if self.training else (pixels, pixels.flip(3))

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


class ImageTower(_Tower):
    """The first stages of EfficientNet-Lite0, for images of any size: they are resized bilinearly to `image_size`.

    The first layer and `frozen_stages` stages never learn: their filters see edges and textures, and a few hundred
    images would only spoil them.
    """

    def __init__(self, config: ModelConfig, pretrained: bool, embedding: int | None = None) -> None:
        network: Any = efficientnet_lite0(pretrained)
        learning = nn.Sequential(*network.blocks[config.frozen_stages : _STAGES])
        super().__init__(learning, config.image_dropout, embedding or config.embedding_size)
        self.size = config.image_size
        self.frozen: nn.Module = nn.Sequential(network.conv_stem, network.bn1, *network.blocks[: config.frozen_stages])
        self.frozen.requires_grad_(False)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        self.frozen.eval()
        return self

    def seen(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """What the frozen stages make of the image and, at inference, of its mirror image."""
        size = (self.size, self.size)
        enlarged = functional.interpolate(pixels, size=size, mode="bilinear", align_corners=False)
        return tuple(self.frozen(each) for each in super().seen(enlarged))


class ResidualTower(_Tower):
    """The small residual network for images of 28 x 28 pixels."""

    def __init__(self, config: ModelConfig, embedding: int) -> None:
        super().__init__(residual_stages(IMAGE_CHANNELS), config.image_dropout, embedding)


def image_tower(kind: Tower, config: ModelConfig, pretrained: bool) -> ImageTower | ResidualTower:
    """A tower of an input's own, into the space of the joined networks."""
    if kind == "imagenet":
        return ImageTower(config, pretrained, config.joint_size)
    return ResidualTower(config, config.joint_size)


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


class OwnImageTower(nn.Module):
    """Towers of one input, side by side: the embedding is the unit vector of the sum of the members' unit vectors.

    The frozen stages of those from ImageNet run once. `mix` makes the members' maps tokens, as `JointImageTower` does.
    """

    def __init__(self, kinds: Sequence[Tower], config: ModelConfig) -> None:
        super().__init__()
        self.towers = nn.ModuleList(image_tower(kind, config, pretrained=False) for kind in kinds)
        from_imagenet = [tower for tower in self.towers if isinstance(tower, ImageTower)]
        for tower in from_imagenet[1:]:
            tower.frozen = nn.Identity()
        self.mix = nn.Conv2d(len(kinds) * IMAGE_CHANNELS, IMAGE_CHANNELS, 1)

    def maps(self, pixels: Tensor) -> list[Tensor]:
        """The last map (N, C, rows, columns) of every member."""
        shared: tuple[Tensor, ...] = ()
        maps = []
        for tower in self.towers:
            if isinstance(tower, ImageTower):
                shared = shared or tower.seen(pixels)
                maps.append(tower.feature_map(shared))
            else:
                maps.append(tower.feature_map(tower.seen(pixels)))  # type: ignore[operator]
        return maps

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        return self.with_patches(pixels)[:2]

    def with_patches(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As `ImageTower.with_patches`."""
        maps = self.maps(pixels)
        summed = [tower.summed(each) for tower, each in zip(self.towers, maps, strict=True)]  # type: ignore[operator]
        embeddings, patches = (torch.stack(each).sum(dim=0) for each in zip(*summed, strict=True))
        length = embeddings.norm(dim=1, keepdim=True)
        return embeddings / length, _by_patch(self.mix(torch.cat(maps, dim=1))), patches / length.unsqueeze(2)


def _by_patch(features: Tensor) -> Tensor:
    return features.flatten(2).transpose(1, 2)
