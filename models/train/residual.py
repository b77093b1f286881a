"""A small residual network for images of 28 x 28 pixels (He et al., CVPR 2016), from drawn weights.

It looks at the pixels as they are, where the tower from ImageNet looks at an enlarged image: the two err differently.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


def residual_stages(channels: int) -> nn.Sequential:
    """Images (N, 1, 28, 28) to maps (N, `channels`, 4, 4)."""
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
