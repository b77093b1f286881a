"""Random changes of a batch of images that keep their label."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Augmentation:
    """Ranges of the random changes; each value is drawn uniformly within plus or minus the number."""

    shift: float = 0.10  # of the image's side
    rotation_degrees: float = 12.0
    scale: float = 0.12
    brightness: float = 0.10
    contrast: float = 0.25
    log_gamma: float = 0.35
    noise: float = 0.03  # standard deviation, at most

    def apply(self, pixels: Tensor, may_flip: Tensor, generator: torch.Generator) -> Tensor:
        """`pixels` (N, 1, H, W) float32 in [0, 1]; `may_flip` (N,) bool. Returns the same shape and range."""
        return self._intensities(self._geometry(pixels, may_flip, generator), generator)

    def _geometry(self, pixels: Tensor, may_flip: Tensor, generator: torch.Generator) -> Tensor:
        count = len(pixels)
        angle = _signed(count, generator) * math.radians(self.rotation_degrees)
        zoom = 1 + _signed(count, generator) * self.scale
        flip = torch.where(may_flip & (torch.rand(count, generator=generator) < 0.5), -1.0, 1.0)
        shift = torch.stack([_signed(count, generator), _signed(count, generator)], 1) * 2 * self.shift
        cos, sin = angle.cos() * zoom, angle.sin() * zoom
        rows = torch.stack([torch.stack([cos * flip, -sin], 1), torch.stack([sin * flip, cos], 1)], 1)
        affine = torch.cat([rows, shift.unsqueeze(2)], 2)
        grid = functional.affine_grid(affine, list(pixels.shape), align_corners=False)
        return functional.grid_sample(pixels, grid, padding_mode="border", align_corners=False)

    def _intensities(self, pixels: Tensor, generator: torch.Generator) -> Tensor:
        count = len(pixels)

        def draw(limit: float) -> Tensor:
            return (_signed(count, generator) * limit).view(-1, 1, 1, 1)

        pixels = pixels.clamp(1e-4, 1) ** draw(self.log_gamma).exp()
        mean = pixels.mean(dim=(1, 2, 3), keepdim=True)
        pixels = (pixels - mean) * (1 + draw(self.contrast)) + mean + draw(self.brightness)
        noise = torch.randn(pixels.shape, generator=generator) * draw(self.noise).abs()
        return (pixels + noise).clamp(0, 1)


def mixed(pixels: Tensor, targets: Tensor, parameter: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Each image blended with another of the batch, and so its target (mixup; Zhang et al., ICLR 2018).

    `pixels` (N, 1, H, W), `targets` (N,) shares of the positive state; returns the same shapes. The share of an image
    is drawn from Beta(parameter, parameter).
    """
    partner = torch.randperm(len(pixels), generator=generator)
    drawn = np.random.default_rng(int(torch.randint(2**31, (1,), generator=generator)))
    share = torch.from_numpy(drawn.beta(parameter, parameter, len(pixels))).float()
    own = share.view(-1, 1, 1, 1)
    return pixels * own + pixels[partner] * (1 - own), targets * share + targets[partner] * (1 - share)


def _signed(count: int, generator: torch.Generator) -> Tensor:
    return torch.rand(count, generator=generator) * 2 - 1
