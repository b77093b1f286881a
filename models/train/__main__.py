"""`python -m radserve.models.train --data DIR --out DIR`: trains the default pack's network.

Reads the train split to learn and the validation split to calibrate; never the test split. Images of the train split
that have a twin in another split are left out (twins.py).
"""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from radserve.models.tokenizer import PackTokenizer
from radserve.models.train.agreement import AgreementRecipe, BankPart, align_decoder
from radserve.models.train.architecture import ModelConfig, Normalisation, RadCoCa
from radserve.models.train.assess import read_split
from radserve.models.train.batches import BatchMaker, caption_table, prompt_table
from radserve.models.train.calibrate import Calibration, calibrate
from radserve.models.train.checkpoint import LabelRecord, TrainingRecord, save_model
from radserve.models.train.data import TASKS, Task, load_split, load_training
from radserve.models.train.ensemble import join
from radserve.models.train.fit_gate import fit_gates
from radserve.models.train.loop import Recipe, train
from radserve.models.train.prompt_file import load_prompts, write_prompts
from radserve.models.train.scoring import image_logits
from radserve.models.train.vocabulary import write_tokenizer

_log = logging.getLogger("radserve.models.train")


def main(arguments: list[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s")
    _log.setLevel(logging.INFO)
    recipe = Recipe(seed=options.seed, steps=options.steps, members=options.members)
    normalisation = Normalisation(per_image=options.normalisation == "per-image")
    agreement = AgreementRecipe(seed=options.seed, steps=options.agreement_steps, last=tuple(options.last))
    run(options.data, options.out, recipe, agreement, normalisation)


def run(
    data: Path, out: Path, recipe: Recipe, agreement: AgreementRecipe, normalisation: Normalisation
) -> TrainingRecord:
    """Train on the data sets in `data` and write the checkpoint folder `out`."""
    out.mkdir(parents=True, exist_ok=True)
    write_tokenizer(out / "tokenizer.json")
    write_prompts(out / "prompts.toml")
    tokenizer = PackTokenizer(out / "tokenizer.json")
    maker = _batch_maker(data, recipe, tokenizer)
    prompts = prompt_table(TASKS, tokenizer)
    config = ModelConfig(vocabulary_size=tokenizer.vocabulary_size, normalisation=normalisation)
    began = time.monotonic()
    seeds = range(recipe.seed, recipe.seed + recipe.members)
    members = [train(config, replace(recipe, seed=seed), maker, prompts, _progress(recipe.steps)) for seed in seeds]
    model = join(members)
    save_model(model, out)  # the scores are final here, the decoder is not
    fitted = [_calibration(model, tokenizer, data, out, task) for task in TASKS]
    cuts = [each.operating_logit for each in fitted]
    align_decoder(model, maker, prompts, cuts, agreement, _progress(agreement.steps))
    seconds = time.monotonic() - began
    save_model(model, out)
    fit_gates(model, data, out)
    record = TrainingRecord(
        seed=recipe.seed,
        members=recipe.members,
        steps=recipe.steps,
        agreement_steps=agreement.steps,
        last_steps=[each.steps for each in agreement.last],
        seconds=round(seconds, 1),
        threads=torch.get_num_threads(),
        logit_scale=float(model.scale),
        labels={
            task.wording.label: _record(model, tokenizer, data, out, task, fit)
            for task, fit in zip(TASKS, fitted, strict=True)
        },
    )
    record.save(out)
    return record


def _batch_maker(data: Path, recipe: Recipe, tokenizer: PackTokenizer) -> BatchMaker:
    splits = [load_training(data, task) for task in TASKS]
    return BatchMaker(TASKS, splits, caption_table(TASKS, tokenizer), recipe.quotas, recipe.augmentation)


def _calibration(model: RadCoCa, tokenizer: PackTokenizer, data: Path, out: Path, task: Task) -> Calibration:
    labelled, label = load_split(data, task, "val"), task.wording.label
    prompts = load_prompts(out / "prompts.toml")
    logits = image_logits(model, tokenizer, {label: prompts[label]}, labelled.images[:, 0].numpy())[label]
    return calibrate(logits, labelled.positive.numpy())


def _record(
    model: RadCoCa, tokenizer: PackTokenizer, data: Path, out: Path, task: Task, fitted: Calibration
) -> LabelRecord:
    readings = read_split(model, tokenizer, load_prompts(out / "prompts.toml"), data, task, "val")
    contradictions = readings.contradictions(fitted)
    record = LabelRecord(len(readings.positive), fitted, contradictions)
    _log.info("%s: %s", task.wording.label, record)
    return record


def _progress(steps: int) -> Callable[[int, float], None]:
    def report(step: int, loss: float) -> None:
        if step % 20 == 0 or step == steps - 1:
            _log.info("step %d of %d, loss %.4f", step + 1, steps, loss)

    return report


def _bank_part(text: str) -> BankPart:
    images, steps = text.split("x")
    return BankPart(int(images), int(steps))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m radserve.models.train", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with pneumoniamnist.npz and breastmnist.npz")
    parser.add_argument("--out", type=Path, required=True, help="folder for the checkpoint")
    parser.add_argument("--seed", type=int, default=Recipe.seed)
    parser.add_argument("--steps", type=int, default=Recipe.steps)
    parser.add_argument("--members", type=int, default=Recipe.members, help="networks of consecutive seeds, averaged")
    parser.add_argument("--agreement-steps", type=int, default=AgreementRecipe.steps, help="of the decoder alone")
    parser.add_argument(
        "--last",
        type=_bank_part,
        nargs="*",
        default=AgreementRecipe.last,
        metavar="IMAGESxSTEPS",
        help="last parts for the decoder: images that the tower sees once, and steps on them",
    )
    parser.add_argument("--normalisation", choices=("per-image", "fixed"), default="per-image", help="of the pixels")
    return parser


if __name__ == "__main__":
    main()
