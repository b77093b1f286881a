"""Trains the networks of a run, each by itself in a process with one thread, so that the order cannot change them."""

from __future__ import annotations

import logging
import multiprocessing
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch

from radserve.models.tokenizer import PackTokenizer
from radserve.models.train.architecture import ModelConfig
from radserve.models.train.batches import BatchMaker, caption_table, prompt_table
from radserve.models.train.checkpoint import WEIGHTS_FILE, save_model
from radserve.models.train.data import TASKS, load_split
from radserve.models.train.loop import Recipe, train

_log = logging.getLogger("radserve.models.train")
_COPIED = ("tokenizer.json", "prompts.toml")


def member_folders(out: Path, recipe: Recipe) -> dict[int, Path]:
    """The checkpoint folder of every seed of the recipe."""
    return {seed: out / "members" / f"seed{seed}" for seed in range(recipe.seed, recipe.seed + recipe.networks)}


@contextmanager
def training(data: Path, out: Path, config: ModelConfig, recipe: Recipe, jobs: int) -> Iterator[list[Future[None]]]:
    """Train the recipe's networks, `jobs` at a time, into their folders, one after the other of the yielded futures.

    Those that are there already are not trained again. `out` has `tokenizer.json` and `prompts.toml`.
    """
    with ProcessPoolExecutor(max(1, jobs), multiprocessing.get_context("spawn"), log_progress) as pool:
        yield [
            _done()
            if _is_whole(folder)
            else pool.submit(_train_member, data, out, folder, config, replace(recipe, seed=seed))
            for seed, folder in member_folders(out, recipe).items()
        ]


def _done() -> Future[None]:
    future: Future[None] = Future()
    future.set_result(None)
    return future


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


def _is_whole(folder: Path) -> bool:
    return (folder / WEIGHTS_FILE).exists()


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
