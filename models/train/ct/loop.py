"""The training of the network: random views of the one scan, cross-entropy and Dice where the labels may be seen."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from radserve.models.train.ct.augment import Augmentation, random_view
from radserve.models.train.ct.network import CLASSES, SmallUNet
from radserve.models.train.ct.prepare import PreparedCt
from radserve.models.train.ct.structures import IGNORED


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the weights."""

    seed: int = 7
    steps: int = 1000
    peak_rate: float = 5e-3
    weight_decay: float = 1e-4
    warm_up: int = 40
    averaging: float = 0.98
    augmentation: Augmentation = field(default_factory=Augmentation)


def train(
    scan: PreparedCt, recipe: Recipe, report: Callable[[int, float], None] = lambda step, loss: None
) -> SmallUNet:
    """Train from random weights; the result is the running average of the weights, set to evaluation.

    The seed decides everything on one machine with one thread. Views are at least 48 wide: on a coarsest grid of less
    than 3 torch 2.14 reads memory it did not write in the half-precision gradient of a convolution.
    """
    torch.manual_seed(recipe.seed)
    generator = torch.Generator().manual_seed(recipe.seed)
    network: SmallUNet = SmallUNet().to(memory_format=torch.channels_last_3d)
    averaged = copy.deepcopy(network)
    optimiser = torch.optim.AdamW(network.parameters(), lr=recipe.peak_rate, weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, recipe.peak_rate, total_steps=recipe.steps, pct_start=recipe.warm_up / recipe.steps
    )
    values, classes = torch.from_numpy(scan.values), torch.from_numpy(scan.classes)
    weights = class_weights(classes)
    network.train()
    for step in range(recipe.steps):
        seen, wanted = random_view(values, classes, recipe.augmentation, generator)
        with torch.autocast("cpu", torch.bfloat16):
            logits = network(seen.to(memory_format=torch.channels_last_3d))
        loss = masked_loss(logits, wanted[None], weights)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimiser.step()
        schedule.step()
        _average(averaged, network, min(recipe.averaging, (step + 1) / (step + 10)))
        report(step, float(loss.detach()))
    return averaged.eval()


def class_weights(classes: Tensor) -> Tensor:
    """What a voxel of each class counts: less where it is frequent, by the root; else small structures are missed."""
    counts = torch.bincount(classes[classes != IGNORED].long().flatten(), minlength=CLASSES).clamp(min=1).float()
    weights = counts.sum().div(counts).sqrt()
    return weights * counts.sum() / (weights * counts).sum()


def masked_loss(logits: Tensor, wanted: Tensor, class_weight: Tensor) -> Tensor:
    """Weighted cross-entropy plus one less the mean soft Dice of the classes that are there, without IGNORED voxels.

    `logits` (N, CLASSES, x, y, z), `wanted` (N, x, y, z) int64, `class_weight` (CLASSES,).
    """
    logs = logits.float().log_softmax(dim=1).flatten(2)
    seen = (wanted != IGNORED).flatten(1)
    truth = torch.where(seen, wanted.flatten(1), 0)
    weights = seen.to(logs.dtype)
    picked = logs.gather(1, truth[:, None])[:, 0]  # the log share of the true class; no one-hot of all is made
    shares = class_weight.to(logs.dtype)[truth] * weights
    entropy = -(picked * shares).sum() / shares.sum()
    both = torch.zeros(CLASSES).index_add(0, truth.flatten(), (picked.exp() * weights).flatten())
    sizes = torch.einsum("ncv,nv->c", logs.exp(), weights)
    true_sizes = torch.bincount(truth[seen], minlength=CLASSES).to(logs.dtype)
    dice = (2 * both + 1) / (sizes + true_sizes + 1)
    return entropy + 1 - dice[true_sizes > 0].mean()


@torch.no_grad()
def _average(averaged: SmallUNet, network: SmallUNet, keep: float) -> None:
    for kept, new in zip(averaged.state_dict().values(), network.state_dict().values(), strict=True):
        if kept.dtype.is_floating_point:
            kept.mul_(keep).add_(new, alpha=1 - keep)
        else:
            kept.copy_(new)
