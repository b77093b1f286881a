"""One image tower for one input, which learns against the texts as they are: what `OwnImageTower` joins.

It has no captions and no other input beside it, so it costs a sixth of a whole network, and it is the form that
benchmarks/cross_validation.py compares recipes in.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from radserve.models.train.architecture import ModelConfig, Tower, bounded_scale
from radserve.models.train.augment import Augmentation, mixed
from radserve.models.train.batches import cycle
from radserve.models.train.data import LabelledImages
from radserve.models.train.image_towers import image_tower
from radserve.models.train.loop import OnStep, Optimisation, optimise, seeded
from radserve.models.train.objective import prompt_loss


@dataclass(frozen=True)
class TowerRecipe(Optimisation):
    """The numbers of one tower. `mixup` is the parameter of the Beta distribution, of none where 0."""

    tower: Tower = "imagenet"
    pretrained: bool = True  # the tower starts from ImageNet weights, where there are such
    images: int = 32  # of a batch, half of them of each state
    mixup: float = 0.0
    label_smoothing: float = 0.05
    augmentation: Augmentation = field(default_factory=Augmentation)


@dataclass(frozen=True)
class OwnRecipe:
    """An input's own towers: `members` are trained `sets` times, each of another seed; the first set is shipped.

    `folds` of the train split are scored by towers that have not seen them, to calibrate on; none where 0.
    """

    members: tuple[TowerRecipe, ...]
    sets: int = 3
    folds: int = 5

    def of_set(self, index: int, seed: int) -> tuple[TowerRecipe, ...]:
        """The members of a set, with consecutive seeds; those of the first set begin with `seed`."""
        first = seed + index * len(self.members)
        return tuple(replace(each, seed=first + place) for place, each in enumerate(self.members))


MIXUP = TowerRecipe(mixup=0.4)
RESIDUAL = TowerRecipe(tower="residual", tower_rate=1.0)
OWN: Mapping[str, OwnRecipe] = {"breast_ultrasound": OwnRecipe((MIXUP, MIXUP, RESIDUAL))}
"""By input, as docs/measurements.md says how they were chosen."""


class SingleTower(nn.Module):
    """A tower, and the difference of the text embeddings of both states of the label, `direction` (E,), that stays."""

    direction: Tensor

    def __init__(self, kind: Tower, config: ModelConfig, direction: Tensor, pretrained: bool = False) -> None:
        super().__init__()
        self.kind: Tower = kind
        self.visual = image_tower(kind, config, pretrained)
        self.logit_scale = nn.Parameter(torch.tensor(10.0).log())
        self.register_buffer("direction", direction.clone())

    def cosines(self, pixels: Tensor) -> Tensor:
        """Cosines (N,) to the positive text less those to the negative one, of normalised images (N, 1, 28, 28)."""
        return functional.normalize(self.visual(pixels)[0], dim=-1) @ self.direction

    def forward(self, pixels: Tensor) -> Tensor:
        return bounded_scale(self.logit_scale) * self.cosines(pixels)


def train_tower(
    config: ModelConfig,
    recipe: TowerRecipe,
    direction: Tensor,
    learned: LabelledImages,
    may_flip: bool,
    on_step: OnStep | None = None,
) -> SingleTower:
    """Train on `learned` and return the averaged tower; the same seed gives the same weights, as in `loop.train`."""
    generator = seeded(recipe.seed)
    model = SingleTower(recipe.tower, config, direction, recipe.pretrained)
    model.visual.to(memory_format=torch.channels_last)

    def loss_of(batch: tuple[Tensor, Tensor]) -> Tensor:
        pixels, targets = batch
        return prompt_loss(model(config.normalisation.apply(pixels)), targets, recipe.label_smoothing)

    return optimise(model, recipe, _batches(recipe, learned, may_flip, generator), loss_of, on_step)


def save_tower(model: SingleTower, path: Path) -> None:
    """Write the weights, whole or not at all."""
    unfinished = path.with_suffix(".unfinished")
    save_file({name: each.contiguous() for name, each in model.state_dict().items()}, unfinished)
    unfinished.replace(path)


def load_tower(kind: Tower, config: ModelConfig, path: Path) -> SingleTower:
    """The tower that `save_tower` wrote, ready for inference."""
    model = SingleTower(kind, config, torch.zeros(config.joint_size))
    model.load_state_dict(load_file(path))
    model.eval().requires_grad_(False)
    return model


def _batches(
    recipe: TowerRecipe, learned: LabelledImages, may_flip: bool, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """Pixels in [0, 1] (N, 1, 28, 28), augmented and mixed, and the share of the positive state in each, (N,)."""
    cycles = [cycle(torch.nonzero(learned.positive == state).ravel(), generator) for state in (True, False)]
    flips = torch.full((recipe.images,), may_flip)
    for _ in range(recipe.steps):
        chosen = torch.tensor([next(each) for each in cycles for _ in range(recipe.images // 2)])
        pixels = recipe.augmentation.apply(learned.images[chosen].float() / 255, flips, generator)
        targets = learned.positive[chosen].float()
        yield mixed(pixels, targets, recipe.mixup, generator) if recipe.mixup else (pixels, targets)
