"""Other patients, as far as one can be bent into them: turned, scaled, moved, cut short, brighter, noisier."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from radserve.models.train.ct.structures import IGNORED


@dataclass(frozen=True)
class Augmentation:
    """How far a random view goes. `window` is the size (x, y, z) of what is cut out of the grid."""

    window: tuple[int, int, int] = (96, 96, 96)
    turn_degrees: float = 8.0
    least_scale: float = 0.85
    greatest_scale: float = 1.15
    move: float = 0.12  # of half of the grid
    brightness: float = 0.03
    contrast: float = 0.1
    noise: float = 0.03
    cut: float = 0.3  # how often the scan ends within the window


def random_view(
    values: Tensor, classes: Tensor, how: Augmentation, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """A random window of the grid, (1, 1, x, y, z) float32 and (x, y, z) int64; beyond the scan there is air."""
    points = _points(tuple(values.shape), how, generator)
    seen = torch.nn.functional.grid_sample(values[None, None], points, align_corners=False)
    marks = torch.nn.functional.grid_sample(classes[None, None].float(), points, mode="nearest", align_corners=False)[
        0, 0
    ].round()
    found = marks.long()
    seen = _intensities(seen, how, generator)
    if _uniform(generator, 0, 1) < how.cut:
        depth = seen.shape[-1]
        at = int(_uniform(generator, 0.2, 0.8) * depth)
        gone = slice(at, None) if _uniform(generator, 0, 1) < 0.5 else slice(0, depth - at)
        seen[..., gone], found[..., gone] = 0.0, torch.where(found[..., gone] == IGNORED, IGNORED, 0)
    return seen, found


def _points(shape: tuple[int, ...], how: Augmentation, generator: torch.Generator) -> Tensor:
    """Where each voxel of the window lies in the grid, (1, x, y, z, 3) in the coordinates of grid_sample."""
    turn = math.radians(how.turn_degrees)
    matrix = torch.eye(3)
    for one, other in ((0, 1), (0, 2), (1, 2)):
        angle = _uniform(generator, -turn, turn)
        step = torch.eye(3)
        step[one, one] = step[other, other] = math.cos(angle)
        step[one, other], step[other, one] = -math.sin(angle), math.sin(angle)
        matrix = matrix @ step
    common = _uniform(generator, how.least_scale, how.greatest_scale)
    scales = [common * _uniform(generator, 0.95, 1.05) for _ in range(3)]
    matrix = matrix / torch.tensor(scales)
    start = torch.tensor([_uniform(generator, 0, size - part) for size, part in zip(shape, how.window, strict=True)])
    axes = [torch.arange(part, dtype=torch.float32) for part in how.window]
    place = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1) + start
    half = torch.tensor(shape) / 2
    moved = torch.tensor([_uniform(generator, -how.move, how.move) for _ in range(3)])
    unit = ((place + 0.5) / half - 1) @ matrix.T + moved
    return unit.flip(-1)[None]  # grid_sample counts the last axis first


def _intensities(seen: Tensor, how: Augmentation, generator: torch.Generator) -> Tensor:
    contrast = 1 + _uniform(generator, -how.contrast, how.contrast)
    shift = _uniform(generator, -how.brightness, how.brightness)
    noise = _uniform(generator, 0, how.noise) * torch.randn(seen.shape, generator=generator)
    return (seen * contrast + shift + noise).clamp(0, 1)


def _uniform(generator: torch.Generator, low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator))
