"""Trains the networks and towers of a run, each in a process with one thread, so that the order changes nothing."""

from __future__ import annotations

import logging
import multiprocessing
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from radserve.models.tokenizer import PackTokenizer
from radserve.models.train.architecture import ModelConfig
from radserve.models.train.batches import BatchMaker, caption_table, prompt_table
from radserve.models.train.checkpoint import WEIGHTS_FILE, save_model
from radserve.models.train.data import TASKS, load_split
from radserve.models.train.folds import IntArray
from radserve.models.train.loop import Recipe, train
from radserve.models.train.own_tower import TowerRecipe, save_tower, train_tower

FloatArray = npt.NDArray[np.float32]
_log = logging.getLogger("radserve.models.train")
_COPIED = ("tokenizer.json", "prompts.toml")


def member_folders(out: Path, recipe: Recipe) -> dict[int, Path]:
    """The checkpoint folder of every seed of the recipe."""
    return {seed: out / "members" / f"seed{seed}" for seed in range(recipe.seed, recipe.seed + recipe.networks)}


def tower_file(out: Path, input_name: str, recipe: TowerRecipe) -> Path:
    """Where a tower of an input's own is kept."""
    return out / "members" / input_name / f"{recipe.tower}-seed{recipe.seed}.safetensors"


@contextmanager
def processes(jobs: int) -> Iterator[ProcessPoolExecutor]:
    """`jobs` processes for the networks; what was not begun when the run fails is not begun any more."""
    pool = ProcessPoolExecutor(max(1, jobs), multiprocessing.get_context("spawn"), log_progress)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def start_networks(
    pool: ProcessPoolExecutor, data: Path, out: Path, config: ModelConfig, recipe: Recipe, seeds: Iterable[int]
) -> list[Future[None]]:
    """Train the recipe's networks of these seeds into their folders; those that are there are not trained again.

    `out` has `tokenizer.json` and `prompts.toml`.
    """
    folders = member_folders(out, recipe)
    return [
        pool.submit(_train_member, data, out, folders[seed], config, replace(recipe, seed=seed))
        for seed in seeds
        if not (folders[seed] / WEIGHTS_FILE).exists()
    ]


def start_towers(
    pool: ProcessPoolExecutor,
    data: Path,
    out: Path,
    config: ModelConfig,
    recipes: Mapping[str, Sequence[TowerRecipe]],
    directions: Mapping[str, FloatArray],
) -> list[Future[None]]:
    """Train towers by input, each against its `directions` (E,), into their files, as `start_networks`."""
    return [
        pool.submit(train_tower_file, tower_file(out, name, recipe), data, name, config, recipe, directions[name])
        for name, of_input in recipes.items()
        for recipe in of_input
        if not tower_file(out, name, recipe).exists()
    ]


def train_tower_file(
    path: Path,
    data: Path,
    input_name: str,
    config: ModelConfig,
    recipe: TowerRecipe,
    direction: FloatArray,
    left_out: IntArray | None = None,
) -> None:
    """Train a tower of an input's own into `path`, on its train split but the images `left_out`."""
    torch.set_num_threads(1)
    task = next(each for each in TASKS if each.wording.input_name == input_name)
    learned, aim = load_split(data, task, "train"), torch.from_numpy(direction.copy())
    if left_out is not None:
        learned = learned.without(left_out)
    name = f"{input_name}, {recipe.tower}, seed {recipe.seed}, {len(learned)} images"
    model = train_tower(config, recipe, aim, learned, task.may_flip, progress(name))
    path.parent.mkdir(parents=True, exist_ok=True)
    save_tower(model, path)


def batch_maker(data: Path, recipe: Recipe, tokenizer: PackTokenizer) -> BatchMaker:
    """Draws from the whole official train split of every task."""
    splits = [load_split(data, task, "train") for task in TASKS]
    return BatchMaker(TASKS, splits, caption_table(TASKS, tokenizer), recipe.quotas, recipe.augmentation)


def progress(name: str) -> Callable[[int, float], None]:
    """Logs every twentieth step."""

    def report(step: int, loss: float) -> None:
        if (step + 1) % 20 == 0:
            _log.info("%s: step %d, loss %.4f", name, step + 1, loss)

    return report


def log_progress() -> None:
    """Show the progress of the training, in this process."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s")
    _log.setLevel(logging.INFO)


def _train_member(data: Path, out: Path, folder: Path, config: ModelConfig, recipe: Recipe) -> None:
    torch.set_num_threads(1)
    tokenizer = PackTokenizer(out / "tokenizer.json")
    name = f"seed {recipe.seed}"
    model = train(
        config,
        recipe,
        batch_maker(data, recipe, tokenizer),
        prompt_table(TASKS, tokenizer),
        progress(name),
    )
    folder.mkdir(parents=True, exist_ok=True)
    for each in _COPIED:
        shutil.copyfile(out / each, folder / each)
    save_model(model, folder)
