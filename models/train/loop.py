"""The training loop: AdamW, warm-up and cosine decay, an exponential moving average of the weights."""

from __future__ import annotations

import copy
import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from radserve.models.train.architecture import ModelConfig, RadCoCa
from radserve.models.train.augment import Augmentation
from radserve.models.train.batches import Batch, BatchMaker
from radserve.models.train.objective import LossWeights, total_loss


@dataclass(frozen=True)
class Optimisation:
    """How the weights move, whatever the loss."""

    seed: int = 7
    steps: int = 400
    learning_rate: float = 2e-3
    tower_rate: float = 0.5  # of the learning rate, for the stages that come from ImageNet
    weight_decay: float = 0.05
    warm_up_steps: int = 40
    average_decay: float = 0.98
    gradient_limit: float = 1.0


@dataclass(frozen=True)
class Recipe(Optimisation):
    """The numbers of the training of whole networks."""

    networks: int = 3  # trained, from this seed on
    members: int = 2  # the first of them, joined
    pretrained: bool = True  # the image tower starts from ImageNet weights
    quotas: tuple[int, ...] = (12, 16)  # images of each state per batch, by task
    losses: LossWeights = field(default_factory=LossWeights)
    augmentation: Augmentation = field(default_factory=Augmentation)


Network = TypeVar("Network", bound=nn.Module)
Drawn = TypeVar("Drawn")
OnStep = Callable[[int, float], None]


class MovingAverage(Generic[Network]):
    """Exponential moving average of weights and batch-normalisation statistics; its early steps forget faster."""

    def __init__(self, model: Network, decay: float) -> None:
        self.model: Network = copy.deepcopy(model).eval().requires_grad_(False)
        self._decay, self._steps = decay, 0

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        self._steps += 1
        decay = min(self._decay, (1 + self._steps) / (10 + self._steps))
        for kept, new in zip(self.model.state_dict().values(), model.state_dict().values(), strict=True):
            if kept.is_floating_point():
                kept.lerp_(new, 1 - decay)
            else:
                kept.copy_(new)


def train(
    config: ModelConfig, recipe: Recipe, maker: BatchMaker, prompts: Tensor, on_step: OnStep | None = None
) -> RadCoCa:
    """Train on the batches of `maker` and return the averaged network.

    The same seed gives the same weights on the same machine and number of threads. `on_step` hears of every step's
    number and loss.
    """
    generator = seeded(recipe.seed)
    model = RadCoCa(config, pretrained=recipe.pretrained)
    model.visual.to(memory_format=torch.channels_last)  # a third faster

    def loss_of(batch: Batch) -> Tensor:
        pixels = config.normalisation.apply(batch.pixels)
        return total_loss(
            model, recipe.losses, pixels, batch.tasks, batch.positive, batch.captions, batch.captioned, prompts
        )

    return optimise(model, recipe, maker.batches(recipe.steps, generator), loss_of, on_step)


def seeded(seed: int) -> torch.Generator:
    """A generator of this seed, and PyTorch's own set to it: what follows gives the same numbers again."""
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True)
    return torch.Generator().manual_seed(seed)


def optimise(
    model: Network,
    recipe: Optimisation,
    batches: Iterable[Drawn],
    loss_of: Callable[[Drawn], Tensor],
    on_step: OnStep | None = None,
) -> Network:
    """Descend the loss of each of the batches in turn; returns the average of the weights on the way."""
    average = MovingAverage(model, recipe.average_decay)
    optimiser = torch.optim.AdamW(_parameter_groups(model, recipe))
    schedule = LambdaLR(optimiser, lambda step: _rate(step, recipe))
    model.train()
    for step, batch in enumerate(batches):
        loss = loss_of(batch)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), recipe.gradient_limit)
        optimiser.step()
        schedule.step()
        average.update(model)
        if on_step:
            on_step(step, loss.item())
    return average.model


def _rate(step: int, recipe: Optimisation) -> float:
    if step < recipe.warm_up_steps:
        return (step + 1) / recipe.warm_up_steps
    progress = (step - recipe.warm_up_steps) / max(1, recipe.steps - recipe.warm_up_steps)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def _parameter_groups(model: nn.Module, recipe: Optimisation) -> list[dict[str, object]]:
    """Parameters by learning rate, and with or without weight decay: biases and normalisation layers have none."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = defaultdict(list)
    for name, each in model.named_parameters():
        if each.requires_grad:
            factor = recipe.tower_rate if name.startswith("visual.learning.") else 1.0
            groups[recipe.learning_rate * factor, recipe.weight_decay if each.ndim >= 2 else 0.0].append(each)
    return [{"params": each, "lr": rate, "weight_decay": decay} for (rate, decay), each in groups.items()]
