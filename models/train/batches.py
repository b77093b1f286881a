"""Balanced batches: a fixed number of images of every (task, state), each class shuffled and cycled by itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from radserve.models.tokenizer import PackTokenizer
from radserve.models.train.augment import Augmentation
from radserve.models.train.data import LabelledImages, Task
from radserve.models.train.wordings import START_TOKENS


@dataclass(frozen=True)
class Batch:
    """`pixels` (N, 1, 28, 28) float32 in [0, 1], augmented; `tasks` and `positive` (N,); `captions` (K, T) int64 for
    the images at the indices `captioned` (K,)."""

    pixels: Tensor
    tasks: Tensor
    positive: Tensor
    captions: Tensor
    captioned: Tensor


def caption_table(tasks: Sequence[Task], tokenizer: PackTokenizer) -> dict[tuple[int, bool], tuple[Tensor, ...]]:
    """All encoded reports of every (task index, state): one tensor (count, T) for each language."""
    return {
        (index, state): tuple(
            _encoded(task.wording.reports(state, language), tokenizer, START_TOKENS[language])
            for language in task.wording.parts
        )
        for index, task in enumerate(tasks)
        for state in (False, True)
    }


def _encoded(texts: Sequence[str], tokenizer: PackTokenizer, start: str) -> Tensor:
    encoded = torch.stack([torch.from_numpy(tokenizer.encode_prompt(text)) for text in texts])
    encoded[:, 0] = tokenizer.special_id(start)
    return encoded


def prompt_table(tasks: Sequence[Task], tokenizer: PackTokenizer) -> Tensor:
    """All encoded prompts, shape (tasks, 2 states, prompts, T), int64."""
    rows = [
        [
            [torch.from_numpy(tokenizer.encode_prompt(pair.of(state))) for pair in task.wording.prompts]
            for state in (False, True)
        ]
        for task in tasks
    ]
    return torch.stack([torch.stack([torch.stack(state) for state in task]) for task in rows])


@dataclass(frozen=True)
class BatchMaker:
    """Draws batches of `quotas[task]` images per state, of which `captioned_share` get a caption."""

    tasks: Sequence[Task]
    splits: Sequence[LabelledImages]
    captions: dict[tuple[int, bool], tuple[Tensor, ...]]
    quotas: Sequence[int]
    augmentation: Augmentation
    captioned_share: float = 0.25

    def batches(self, count: int, generator: torch.Generator) -> Iterator[Batch]:
        cycles = {key: cycle(indices, generator) for key, indices in self._classes().items()}
        for _ in range(count):
            yield self._draw(cycles, generator)

    def captions_of(self, tasks: Tensor, states: Tensor, generator: torch.Generator) -> Tensor:
        """One random caption (T), of any language, for each task index and state, stacked (N, T)."""
        languages = [self.captions[int(task), bool(state)] for task, state in zip(tasks, states, strict=True)]
        tables = [each[_draw_index(len(each), generator)] for each in languages]
        return torch.stack([table[_draw_index(len(table), generator)] for table in tables])

    def _classes(self) -> dict[tuple[int, bool], Tensor]:
        return {
            (index, state): torch.nonzero(split.positive == state).ravel()
            for index, split in enumerate(self.splits)
            for state in (False, True)
        }

    def _draw(self, cycles: dict[tuple[int, bool], Iterator[int]], generator: torch.Generator) -> Batch:
        images: list[Tensor] = []
        captioned: list[int] = []
        tasks: list[int] = []
        states: list[bool] = []
        for (task, state), cycle in cycles.items():
            quota = self.quotas[task]
            with_caption = max(1, round(quota * self.captioned_share))
            captioned += range(len(tasks), len(tasks) + with_caption)
            images.append(self.splits[task].images[[next(cycle) for _ in range(quota)]])
            tasks += [task] * quota
            states += [state] * quota
        pixels, task_index, positive = torch.cat(images).float() / 255, torch.tensor(tasks), torch.tensor(states)
        may_flip = torch.tensor([task.may_flip for task in self.tasks])[task_index]
        return Batch(
            pixels=self.augmentation.apply(pixels, may_flip, generator),
            tasks=task_index,
            positive=positive,
            captions=self.captions_of(task_index[captioned], positive[captioned], generator),
            captioned=torch.tensor(captioned),
        )


def _draw_index(count: int, generator: torch.Generator) -> int:
    return int(torch.randint(count, (1,), generator=generator))


def cycle(indices: Tensor, generator: torch.Generator) -> Iterator[int]:
    """`indices` without end, each time in another order."""
    while True:
        yield from indices[torch.randperm(len(indices), generator=generator)].tolist()
