"""A small residual network for images of 28 x 28 pixels (He et al., CVPR 2016), from drawn weights: a recipe that
cross_validation.py compares with the pack's image tower. It looks at the pixels as they are, where that tower looks at
an enlarged image, and the two err differently.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

CHANNELS = 112  # of the last map, as the pack's image tower has


class ResidualTower(nn.Module):
    """Embedding (N, E) of normalised images (N, 1, 28, 28) and the last map (N, C, 4, 4).

    At inference the means of the image and of its mirror image, as ImageTower has them.
    """

    def __init__(self, embedding: int, dropout: float) -> None:
        super().__init__()
        self.learning = _stages(CHANNELS)
        self.dropout = nn.Dropout2d(dropout)
        self.projection = nn.Conv2d(CHANNELS, embedding, 1, bias=False)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        features = self.dropout(self.learning(pixels))
        if not self.training:
            features = (features + self.learning(pixels.flip(3)).flip(3)) / 2
        return self.projection(features).mean(dim=(2, 3)), features


def _stages(channels: int) -> nn.Sequential:
    return nn.Sequential(
        _convolution(1, 24),
        nn.ReLU(),
        Residual(24, 24),
        Residual(24, 48, stride=2),
        Residual(48, 48),
        Residual(48, channels, stride=2),
        Residual(channels, channels),
        Halved(),
    )


class Halved(nn.Module):
    """Means of two by two places, at an odd side's end of what is left there: AvgPool2d with ceil_mode, whose operator
    not every runtime has."""

    def forward(self, x: Tensor) -> Tensor:
        for axis in (2, 3):
            if x.shape[axis] % 2:
                x = torch.cat([x, x.narrow(axis, x.shape[axis] - 1, 1)], dim=axis)
        return functional.avg_pool2d(x, 2)


class Residual(nn.Module):
    """Two convolutions beside a skip, which is a 1 x 1 convolution where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.body = nn.Sequential(_convolution(inputs, outputs, stride), nn.ReLU(), _convolution(outputs, outputs))
        same = inputs == outputs and stride == 1
        self.skip = nn.Identity() if same else _convolution(inputs, outputs, stride, size=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.skip(x) + self.body(x))


def _convolution(inputs: int, outputs: int, stride: int = 1, size: int = 3) -> nn.Sequential:
    layer = nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs))
