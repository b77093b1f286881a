"""Recipes for the malignancy tower, compared by cross-validation: `python benchmarks/cross_validation.py --data DATA`.

Train and val of BreastMNIST are put together and cut into folds: stratified, twins (the same picture, cut or lit a
little differently) on the same side, another cut for every repeat. The test split is not read. A recipe is the image
tower alone with two free directions in place of the prompts' embeddings, which takes a third of the time of the whole
network. Every network's cosines of its left-out images are kept in one file, a line each; what is in the file is not
trained again, and means of any recipes and seeds (`--join`) are computed from it.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.lr_scheduler import LambdaLR

sys.path.insert(0, str(Path(__file__).parents[1]))
from radserve.models.train.architecture import ModelConfig
from radserve.models.train.augment import Augmentation
from radserve.models.train.data import TASKS, LabelledImages, load_split
from radserve.models.train.folds import left_out, twin_groups
from radserve.models.train.image_towers import ImageTower, ResidualTower
from radserve.models.train.loop import MovingAverage
from radserve.models.train.objective import prompt_loss

FloatArray = npt.NDArray[np.float64]
TASK = TASKS[1]
FOLDS = 5
_LARGEST_SCALE = 30.0


@dataclass(frozen=True)
class Trial:
    """The numbers of a recipe. The defaults are those of version 2.1.0 of the pack.

    `mixup` and `cutmix`: the parameter of the Beta distribution (Zhang et al., ICLR 2018; Yun et al., ICCV 2019), of
    none where 0. `strength` multiplies every range of the augmentation.
    """

    tower: Literal["imagenet", "residual"] = "imagenet"
    size: int = 56
    steps: int = 400
    images: int = 32
    positives: float = 0.5  # share of a batch
    learning_rate: float = 2e-3
    tower_rate: float = 0.5
    weight_decay: float = 0.05
    frozen_stages: int = 2
    dropout: float = 0.1
    smoothing: float = 0.05
    mixup: float = 0.0
    cutmix: float = 0.0
    strength: float = 1.0
    average_decay: float = 0.98


BASE = Trial()
RESIDUAL = Trial(tower="residual", tower_rate=1.0)
TRIALS: Mapping[str, Trial] = {
    "base": BASE,
    "200 steps": replace(BASE, steps=200),
    "800 steps": replace(BASE, steps=800),
    "mixup 0.4": replace(BASE, mixup=0.4),
    "cutmix 1": replace(BASE, cutmix=1.0),
    "smoothing 0.1": replace(BASE, smoothing=0.1),
    "smoothing 0": replace(BASE, smoothing=0.0),
    "stronger augmentation": replace(BASE, strength=1.5),
    "weaker augmentation": replace(BASE, strength=0.5),
    "prevalence kept": replace(BASE, positives=0.27),
    "tower rate 0.2": replace(BASE, tower_rate=0.2),
    "tower rate 1": replace(BASE, tower_rate=1.0),
    "3 stages frozen": replace(BASE, frozen_stages=3),
    "0 stages frozen": replace(BASE, frozen_stages=0),
    "dropout 0.3": replace(BASE, dropout=0.3),
    "84 pixels": replace(BASE, size=84),
    "112 pixels": replace(BASE, size=112),
    "mixup 1": replace(BASE, mixup=1.0),
    "mixup 0.4, 800 steps": replace(BASE, mixup=0.4, steps=800),
    "mixup 0.4, stronger augmentation": replace(BASE, mixup=0.4, strength=1.5),
    "residual": replace(RESIDUAL),
    "residual, mixup 0.4": replace(RESIDUAL, mixup=0.4),
    "residual, mixup 0.4, 800 steps": replace(RESIDUAL, mixup=0.4, steps=800),
    "residual, mixup 0.4, stronger augmentation": replace(RESIDUAL, mixup=0.4, strength=1.5),
}


@dataclass(frozen=True)
class Run:
    """One network to train: a recipe, the cut of a repeat, the fold left out, and the seed."""

    trial: str
    repeat: int
    fold: int
    seed: int


class Classifier(nn.Module):
    """A tower and two free directions: `cosines` (N,) to the one less that to the other, times a bounded scale."""

    def __init__(self, trial: Trial) -> None:
        super().__init__()
        config = ModelConfig(
            vocabulary_size=0,
            image_size=trial.size,
            frozen_stages=trial.frozen_stages,
            image_dropout=trial.dropout,
        )
        self.visual = (
            ImageTower(config, pretrained=True)
            if trial.tower == "imagenet"
            else ResidualTower(config, config.embedding_size)
        )
        self.directions = nn.Parameter(torch.randn(2, config.embedding_size))
        self.log_scale = nn.Parameter(torch.tensor(math.log(10.0)))

    def cosines(self, pixels: Tensor) -> Tensor:
        found, directions = functional.normalize(self.visual(pixels)[0]), functional.normalize(self.directions)
        return found @ (directions[1] - directions[0])

    def forward(self, pixels: Tensor) -> Tensor:
        return self.log_scale.clamp(max=math.log(_LARGEST_SCALE)).exp() * self.cosines(pixels)


def read(data: Path) -> LabelledImages:
    """Train and val of BreastMNIST, one after the other."""
    parts = [load_split(data, TASK, split) for split in ("train", "val")]
    return LabelledImages(torch.cat([each.images for each in parts]), torch.cat([each.positive for each in parts]))


def train(trial: Trial, learned: LabelledImages, seed: int) -> Classifier:
    """The averaged network of a recipe."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    model = Classifier(trial)
    model.to(memory_format=torch.channels_last)
    average = MovingAverage(model, trial.average_decay)
    optimiser = torch.optim.AdamW(_groups(model, trial))
    schedule = LambdaLR(optimiser, lambda step: _rate(step, trial))
    model.train()
    for pixels, targets in _batches(trial, learned, generator):
        loss = prompt_loss(model(_normalised(pixels)), targets, trial.smoothing)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        average.update(model)
    return average.model


@torch.inference_mode()
def score(model: Classifier, images: Tensor) -> FloatArray:
    """Cosines (N,) of `images` (N, 1, 28, 28) uint8."""
    return np.asarray(model.cosines(_normalised(images.float() / 255)).double().numpy())


def _normalised(pixels: Tensor) -> Tensor:
    return (pixels - pixels.mean((2, 3), keepdim=True)) / pixels.std((2, 3), keepdim=True, correction=0).clamp(1e-6)


def _rate(step: int, trial: Trial) -> float:
    warm_up = trial.steps // 10
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warm_up) / max(1, trial.steps - warm_up))))


def _groups(model: Classifier, trial: Trial) -> list[dict[str, object]]:
    groups: dict[tuple[float, float], list[nn.Parameter]] = defaultdict(list)
    for name, each in model.named_parameters():
        if each.requires_grad:
            rate = trial.learning_rate * (trial.tower_rate if name.startswith("visual.learning.") else 1.0)
            groups[rate, trial.weight_decay if each.ndim >= 2 else 0.0].append(each)
    return [{"params": each, "lr": rate, "weight_decay": decay} for (rate, decay), each in groups.items()]


def _batches(trial: Trial, learned: LabelledImages, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    present = round(trial.images * trial.positives)
    cycles = [
        (_cycle(torch.nonzero(learned.positive == state).ravel(), generator), count)
        for state, count in ((True, present), (False, trial.images - present))
    ]
    augmentation = Augmentation()
    augmentation = Augmentation(**{name: each * trial.strength for name, each in vars(augmentation).items()})
    may_flip = torch.ones(trial.images, dtype=torch.bool)
    for _ in range(trial.steps):
        chosen = torch.tensor([next(cycle) for cycle, count in cycles for _ in range(count)])
        pixels = augmentation.apply(learned.images[chosen].float() / 255, may_flip, generator)
        yield _mixed(trial, pixels, learned.positive[chosen].float(), generator)


def _mixed(trial: Trial, pixels: Tensor, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The batch as it is, or each image mixed with, or holding a rectangle of, another, and so its target."""
    if not (trial.mixup or trial.cutmix):
        return pixels, targets
    partner = torch.randperm(len(pixels), generator=generator)
    drawn = np.random.default_rng(int(torch.randint(2**31, (1,), generator=generator)))
    if trial.mixup:
        share = torch.from_numpy(drawn.beta(trial.mixup, trial.mixup, len(pixels))).float()
        weight = share.view(-1, 1, 1, 1)
    else:
        weight = _rectangles(drawn, trial.cutmix, pixels)
        share = weight.mean(dim=(1, 2, 3))
    return pixels * weight + pixels[partner] * (1 - weight), targets * share + targets[partner] * (1 - share)


def _rectangles(drawn: np.random.Generator, parameter: float, pixels: Tensor) -> Tensor:
    weight, side = torch.ones_like(pixels), pixels.shape[-1]
    for each in weight:
        half = side * math.sqrt(1 - drawn.beta(parameter, parameter)) / 2
        row, column = drawn.uniform(0, side, 2)
        rows, columns = (slice(max(0, round(at - half)), round(at + half)) for at in (row, column))
        each[:, rows, columns] = 0
    return weight


def _cycle(indices: Tensor, generator: torch.Generator) -> Iterator[int]:
    while True:
        yield from indices[torch.randperm(len(indices), generator=generator)].tolist()


def do(run: Run, trial: Trial, images: LabelledImages, held: npt.NDArray[np.int64]) -> dict[str, object]:
    """Train a network on all but the `held` images; returns its line of the file."""
    torch.set_num_threads(1)
    began = time.perf_counter()
    model = train(trial, images.without(held), seed=1000 * run.repeat + 10 * run.fold + 100_000 * run.seed)
    cosines = score(model, images.images[held]).round(6).tolist()
    return vars(run) | {"seconds": round(time.perf_counter() - began, 1), "cosines": cosines}


def main(arguments: list[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    images = read(options.data)
    # A copy: sending a tensor to another process moves it, and an array of its memory would point at nothing.
    positive, groups = images.positive.numpy().copy(), twin_groups(images.images[:, 0].numpy())
    cuts = {repeat: left_out(positive, groups, repeat, FOLDS) for repeat in range(options.repeats)}
    done = _read_lines(options.out)
    wanted = [
        Run(trial, repeat, fold, seed)
        for seed in range(options.seeds)
        for repeat in cuts
        for trial in options.trials
        for fold in range(FOLDS)
    ]
    with ProcessPoolExecutor(options.jobs, multiprocessing.get_context("spawn")) as pool:
        trials = {name: replace(TRIALS[name], steps=options.steps or TRIALS[name].steps) for name in options.trials}
        todo = [
            pool.submit(do, run, trials[run.trial], images, cuts[run.repeat][run.fold])
            for run in wanted
            if run not in done
        ]
        with options.out.open("a") as file:
            for each in as_completed(todo):
                file.write(json.dumps(each.result()) + "\n")
                file.flush()
    print("| recipe | folds | AUROC | difference | standard error |\n|---|---|---|---|---|")
    for row in compare([*options.trials, *options.join], _read_lines(options.out), positive, cuts):
        print(f"| {row.name} | {row.runs} | {row.auroc:.4f} | {row.difference:+.4f} | {row.standard_error:.4f} |")


@dataclass(frozen=True)
class Comparison:
    """Mean AUROC of the left-out folds, and the mean difference to the first row's in the `runs` that both have."""

    name: str
    runs: int
    auroc: float
    difference: float
    standard_error: float


def compare(
    names: Sequence[str],
    done: Mapping[Run, FloatArray],
    positive: npt.NDArray[np.bool_],
    cuts: Mapping[int, Sequence[npt.NDArray[np.int64]]],
) -> list[Comparison]:
    """A row for each of `names`, recipes or several joined by " & ": the mean of their cosines, fold by fold.

    A recipe named twice stands for its networks of seed 0 and 1. The rest is compared to the first of the names.
    """
    areas = [_areas(name.split(" & "), done, positive, cuts) for name in names]
    rows = []
    for name, found in zip(names, areas, strict=True):
        both = [found[cut] - areas[0][cut] for cut in found if cut in areas[0]]
        error = float(np.std(both, ddof=1)) / math.sqrt(len(both)) if len(both) > 1 else math.nan
        rows.append(Comparison(name, len(found), float(np.mean([*found.values()])), float(np.mean(both)), error))
    return rows


def _areas(
    parts: Sequence[str],
    done: Mapping[Run, FloatArray],
    positive: npt.NDArray[np.bool_],
    cuts: Mapping[int, Sequence[npt.NDArray[np.int64]]],
) -> dict[tuple[int, int], float]:
    """AUROC by repeat and fold, of those where every part has its network."""
    found = {}
    for repeat, held in cuts.items():
        for fold, rows in enumerate(held):
            runs = [Run(part, repeat, fold, parts[:index].count(part)) for index, part in enumerate(parts)]
            if all(run in done for run in runs):
                cosines = np.mean([done[run] for run in runs], axis=0)
                found[repeat, fold] = float(roc_auc_score(positive[rows], cosines))
    return found


def _read_lines(path: Path) -> dict[Run, FloatArray]:
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return {
        Run(*(each[name] for name in ("trial", "repeat", "fold", "seed"))): np.array(each["cosines"]) for each in lines
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="the file of the networks that are done, JSON lines")
    parser.add_argument("--trials", nargs="*", choices=TRIALS, default=list(TRIALS), metavar="NAME")
    parser.add_argument("--join", nargs="*", default=[], metavar='"NAME & NAME"', help="means to show as well")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--steps", type=int, help="of every recipe, instead of its own")
    return parser


if __name__ == "__main__":
    main()
