"""A small residual U-Net. Only its first and its last convolution meet the finest grid: that is what would cost."""

from __future__ import annotations

from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

from radserve.models.train.ct.structures import STRUCTURES

WIDTHS = (16, 32, 64, 96)
CLASSES = len(STRUCTURES) + 1


class _Block(nn.Module):
    """Two 3 x 3 x 3 convolutions beside an identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv3d(width, width, 3, padding=1, bias=False)
        self.second = nn.Conv3d(width, width, 3, padding=1, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm3d(width), nn.BatchNorm3d(width)])

    def forward(self, values: Tensor) -> Tensor:
        inner = torch.relu(self.norms[0](self.first(values)))
        return torch.relu(values + self.norms[1](self.second(inner)))


class _Step(nn.Module):
    """One convolution and its normalisation, between grids or on one."""

    def __init__(self, convolution: nn.Module, width: int) -> None:
        super().__init__()
        self.convolution, self.norm = convolution, nn.BatchNorm3d(width)

    def forward(self, values: Tensor) -> Tensor:
        return torch.relu(self.norm(self.convolution(values)))


class SmallUNet(nn.Module):
    """(N, 1, x, y, z), sizes divisible by 16, to logits (N, CLASSES, x, y, z).

    Normalised by the batch, not by the volume: so air around a short scan does not change what the network sees.
    """

    def __init__(self, widths: tuple[int, ...] = WIDTHS, classes: int = CLASSES) -> None:
        super().__init__()
        self.stem = _Step(nn.Conv3d(1, widths[0], 4, 2, padding=1, bias=False), widths[0])
        same = _Step(nn.Conv3d(widths[0], widths[0], 3, padding=1, bias=False), widths[0])
        self.encoders = nn.ModuleList([same, *(_Block(width) for width in widths[1:])])
        pairs = list(pairwise(widths))
        self.downs = nn.ModuleList(_Step(nn.Conv3d(low, high, 2, 2, bias=False), high) for low, high in pairs)
        self.ups = nn.ModuleList(_Step(nn.ConvTranspose3d(high, low, 2, 2, bias=False), low) for low, high in pairs)
        self.decoders = nn.ModuleList(_Step(nn.Conv3d(low, low, 3, padding=1, bias=False), low) for low in widths[:-1])
        self.head = nn.ConvTranspose3d(widths[0], classes, 2, 2)

    def forward(self, volume: Tensor) -> Tensor:
        values = self.encoders[0](self.stem(volume))
        kept = [values]
        for down, encoder in zip(self.downs, list(self.encoders)[1:], strict=True):
            values = encoder(down(values))
            kept.append(values)
        for up, decoder, skip in zip(reversed(self.ups), reversed(self.decoders), reversed(kept[:-1]), strict=True):
            values = decoder(up(values) + skip)
        return cast(Tensor, self.head(values))


class Segmenter(nn.Module):
    """What is served: the probability of each structure, (N, structures, x, y, z); the rest of the body is left out."""

    def __init__(self, network: SmallUNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, volume: Tensor) -> Tensor:
        return cast(Tensor, self.network(volume).softmax(dim=1)[:, 1:])
