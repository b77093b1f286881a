"""Second stage: the decoder learns to say what the classifier decides at its operating point.

Image tower and text tower stay as they are, so the scores do not change. The sentences are chosen by the classifier's
own decision on augmented training images and on blends of two of them; blends lie near the operating point, where a
decoder trained on labels alone would often say the opposite of the decision.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR

from radserve.models.train.architecture import RadCoCa
from radserve.models.train.batches import Batch, BatchMaker
from radserve.models.train.data import Task
from radserve.models.train.objective import caption_loss, prompt_directions, prompt_logits, trimmed


@dataclass(frozen=True)
class BankPart:
    """A last part of the second stage: `images` that the towers see once, and the steps on them."""

    images: int
    steps: int


@dataclass(frozen=True)
class AgreementRecipe:
    """The numbers of the second stage."""

    seed: int = 7
    steps: int = 150
    learning_rate: float = 1e-3
    images: int = 32  # of each batch that get a sentence
    blended_share: float = 0.6
    last: tuple[BankPart, ...] = (BankPart(960, 160), BankPart(1920, 480))
    last_images: int = 48  # of each of their steps


def align_decoder(
    model: RadCoCa,
    maker: BatchMaker,
    prompts: Tensor,
    operating_logits: Sequence[float],
    recipe: AgreementRecipe,
    on_step: Callable[[int, float], None] | None = None,
) -> None:
    """Train the decoder in place, and each mix of tokens that it reads of several members.

    `operating_logits` has each task's logit at its threshold.
    """
    generator = torch.Generator().manual_seed(recipe.seed)
    model.eval().requires_grad_(False)
    towers = [*([model.visual] if model.config.members > 1 else []), *model.own.values()]
    learning = [model.text_decoder, *(each.mix for each in towers)]
    parameters = [each for module in learning for each in module.requires_grad_(True).parameters()]
    with torch.no_grad():
        directions = prompt_directions(model, prompts)
    cuts = torch.tensor(operating_logits)
    optimiser = torch.optim.AdamW(parameters, lr=recipe.learning_rate, weight_decay=0.01)
    schedule = CosineAnnealingLR(optimiser, recipe.steps)
    for step, batch in enumerate(maker.batches(recipe.steps, generator)):
        loss = _loss(model, maker, _blended(batch, recipe, generator), directions, cuts, generator)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        schedule.step()
        if on_step:
            on_step(step, loss.item())
    model.requires_grad_(False)
    for part in recipe.last:
        polish_decoder(model, maker, prompts, operating_logits, recipe, part, on_step)


def polish_decoder(
    model: RadCoCa,
    maker: BatchMaker,
    prompts: Tensor,
    operating_logits: Sequence[float],
    recipe: AgreementRecipe,
    part: BankPart,
    on_step: Callable[[int, float], None] | None = None,
) -> None:
    """A last part of `align_decoder`: more sentences on a bank of images, which the towers need not see again."""
    generator = torch.Generator().manual_seed(recipe.seed + 1)
    model.eval().requires_grad_(False)
    bank = _bank(model, maker, prompts, torch.tensor(operating_logits), recipe, part.images, generator)
    model.text_decoder.requires_grad_(True)
    optimiser = torch.optim.AdamW(model.text_decoder.parameters(), lr=recipe.learning_rate / 2, weight_decay=0.01)
    schedule = CosineAnnealingLR(optimiser, max(1, part.steps))
    for step in range(part.steps):
        chosen = torch.randint(len(bank.tasks), (recipe.last_images,), generator=generator)
        captions = maker.captions_of(bank.tasks[chosen], bank.decided[chosen], generator)
        captions = trimmed(captions, model.pad_id)
        with torch.no_grad():
            _, text_tokens = model._encode_text(captions)
        loss = caption_loss(model, bank.tokens[chosen], text_tokens, captions)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.text_decoder.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if on_step:
            on_step(step, loss.item())
    model.requires_grad_(False)


@dataclass(frozen=True)
class _Bank:
    """Tokens (N, P, C) of blended images, their tasks, and what the classifier decides of them."""

    tokens: Tensor
    tasks: Tensor
    decided: Tensor


@torch.no_grad()
def _bank(
    model: RadCoCa,
    maker: BatchMaker,
    prompts: Tensor,
    cuts: Tensor,
    recipe: AgreementRecipe,
    count: int,
    generator: torch.Generator,
) -> _Bank:
    directions = prompt_directions(model, prompts)
    parts = []
    for batch in maker.batches(-(-count // recipe.images), generator):
        images = _blended(batch, recipe, generator)
        tokens, logits = _read(model, maker.tasks, images, directions)
        parts.append((tokens, images.tasks, logits >= cuts[images.tasks]))
    return _Bank(*(torch.cat(each) for each in zip(*parts, strict=True)))


@dataclass(frozen=True)
class _Images:
    pixels: Tensor
    tasks: Tensor


def _blended(batch: Batch, recipe: AgreementRecipe, generator: torch.Generator) -> _Images:
    """A part of the batch, many of its images mixed with another image of the same task."""
    chosen = torch.randperm(len(batch.tasks), generator=generator)[: recipe.images]
    partners = torch.empty_like(chosen)
    for task in set(batch.tasks.tolist()):
        of_task, mine = torch.nonzero(batch.tasks == task).ravel(), batch.tasks[chosen] == task
        partners[mine] = of_task[torch.randint(len(of_task), (int(mine.sum()),), generator=generator)]
    share = torch.rand(len(chosen), generator=generator) * 0.5
    share[torch.rand(len(chosen), generator=generator) >= recipe.blended_share] = 0
    share = share.view(-1, 1, 1, 1)
    return _Images(batch.pixels[chosen] * (1 - share) + batch.pixels[partners] * share, batch.tasks[chosen])


def _loss(
    model: RadCoCa, maker: BatchMaker, images: _Images, directions: Tensor, cuts: Tensor, generator: torch.Generator
) -> Tensor:
    image_tokens, logits = _read(model, maker.tasks, images, directions)
    with torch.no_grad():
        captions = trimmed(maker.captions_of(images.tasks, logits >= cuts[images.tasks], generator), model.pad_id)
        _, text_tokens = model._encode_text(captions)
    return caption_loss(model, image_tokens, text_tokens, captions)


def _read(model: RadCoCa, tasks: Sequence[Task], images: _Images, directions: Tensor) -> tuple[Tensor, Tensor]:
    """Tokens (N, P, C) and logits (N,): each image by the tower and the scale of its own input."""
    pixels = model.config.normalisation.apply(images.pixels)
    names = [task.wording.input_name for task in tasks]
    rows = [torch.nonzero(images.tasks == index).ravel() for index in range(len(names))]
    parts = [model.encode(pixels[of_task], name) for of_task, name in zip(rows, names, strict=True) if len(of_task)]
    place = torch.cat(rows).argsort()
    latent, tokens = (torch.cat(each)[place] for each in zip(*parts, strict=True))
    scales = torch.stack([model.scale_of(name) for name in names])[images.tasks]
    return tokens, prompt_logits(latent.detach(), directions, images.tasks, scales)
