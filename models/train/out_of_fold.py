"""Scores the train split of an input by towers that have not seen its images, for the calibration to be fitted on.

The input's own towers are trained again on all folds but one, by the recipe and from the seeds of those that are
shipped, and score the one; twins are in the same fold. So calibration, operating point and the band of no answer rest
on the train split as well as on the validation split (Platt, 1999, section 2.1, for the sigmoid; Vovk, "Cross-conformal
predictors", 2015, for the band). The towers of the folds are kept beside the others and are not shipped.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt

from radserve.models.tokenizer import PackTokenizer
from radserve.models.train.architecture import ModelConfig, RadCoCa
from radserve.models.train.data import TASKS, LabelledImages, Task, load_split
from radserve.models.train.ensemble import with_own_towers
from radserve.models.train.folds import IntArray, left_out, twin_groups
from radserve.models.train.members import tower_file, train_tower_file
from radserve.models.train.own_tower import OwnRecipe, TowerRecipe, load_tower
from radserve.models.train.prompt_file import Prompts
from radserve.models.train.scoring import image_logits

OUT_OF_FOLD_FILE = "out_of_fold.json"
Logits = Mapping[str, npt.NDArray[np.float64]]
"""By label: the logits (N,) of its train split, in that split's order."""


def start_folds(
    pool: ProcessPoolExecutor,
    data: Path,
    out: Path,
    config: ModelConfig,
    own: Mapping[str, OwnRecipe],
    seed: int,
    directions: Mapping[str, npt.NDArray[np.float32]],
) -> list[Future[None]]:
    """Train the towers of every input's first set again for each fold, as `members.start_towers` trains them."""
    return [
        pool.submit(train_tower_file, path, data, name, config, tower, directions[name], held)
        for path, name, tower, held in _towers(data, out, own, seed)
        if not path.exists()
    ]


def score_folds(
    model: RadCoCa,
    tokenizer: PackTokenizer,
    prompts: Prompts,
    data: Path,
    out: Path,
    own: Mapping[str, OwnRecipe],
    seed: int,
) -> None:
    """Write the logits by label into `out`: each image's by the towers that have not seen it, joined as the shipped.

    `model` has the texts that the towers learned against.
    """
    found = {}
    for task, recipe in _with_folds(own):
        label, learned = task.wording.label, load_split(data, task, "train")
        logits = np.zeros(len(learned))
        for fold, held in enumerate(folds_of(learned, recipe.folds)):
            joined = _joined(model, out, fold, task, recipe.of_set(0, seed))
            images = learned.images[held, 0].numpy()
            logits[held] = image_logits(joined, tokenizer, {label: prompts[label]}, images)[label]
        found[label] = logits.tolist()
    (out / OUT_OF_FOLD_FILE).write_text(json.dumps(found) + "\n")


def read_out_of_fold(folder: Path) -> Logits:
    """What `score_folds` left in a checkpoint or pack folder; nothing where it has not run."""
    path = folder / OUT_OF_FOLD_FILE
    return {label: np.array(each) for label, each in json.loads(path.read_text()).items()} if path.exists() else {}


def folds_of(learned: LabelledImages, folds: int) -> tuple[IntArray, ...]:
    """The images of every fold of a train split."""
    # A copy: sending a tensor to another process moves it, and an array of its memory would point at nothing.
    return left_out(learned.positive.numpy().copy(), twin_groups(learned.images[:, 0].numpy()), 0, folds)


def _with_folds(own: Mapping[str, OwnRecipe]) -> Iterator[tuple[Task, OwnRecipe]]:
    for task in TASKS:
        recipe = own.get(task.wording.input_name)
        if recipe and recipe.sets and recipe.folds:
            yield task, recipe


def _towers(
    data: Path, out: Path, own: Mapping[str, OwnRecipe], seed: int
) -> Iterator[tuple[Path, str, TowerRecipe, IntArray]]:
    """The file of every fold's towers, their input, recipe and the images that they do not see."""
    for task, recipe in _with_folds(own):
        for fold, held in enumerate(folds_of(load_split(data, task, "train"), recipe.folds)):
            for tower in recipe.of_set(0, seed):
                yield _fold_file(out, fold, task, tower), task.wording.input_name, tower, held


def _joined(model: RadCoCa, out: Path, fold: int, task: Task, towers: Sequence[TowerRecipe]) -> RadCoCa:
    kept = [load_tower(each.tower, model.config, _fold_file(out, fold, task, each)) for each in towers]
    return with_own_towers(model, {task.wording.input_name: kept})


def _fold_file(out: Path, fold: int, task: Task, recipe: TowerRecipe) -> Path:
    return tower_file(out / "folds" / f"fold{fold}", task.wording.input_name, recipe)
