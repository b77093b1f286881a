"""`python -m radserve.models.train --data DIR --out DIR --pack PACK`: the default pack, from nothing.

Trains the networks, joins them, calibrates, teaches the decoder, fits the gates, measures and exports. Each step is
kept in the folder `out`; the same command goes on where it was stopped. The train split is read to learn and the
validation split to calibrate; the test split is read when all else is done, to measure.
"""

from __future__ import annotations

import argparse
import logging
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from radserve.models.export.__main__ import export
from radserve.models.tokenizer import PackTokenizer
from radserve.models.train.agreement import AgreementRecipe, BankPart, align_decoder
from radserve.models.train.architecture import ModelConfig, Normalisation
from radserve.models.train.assess import read_split
from radserve.models.train.batches import prompt_table
from radserve.models.train.checkpoint import LabelRecord, TrainingRecord, save_model
from radserve.models.train.data import TASKS, Task
from radserve.models.train.ensemble import join
from radserve.models.train.evaluate import evaluate, read_test_splits
from radserve.models.train.fit_calibration import fit_calibration
from radserve.models.train.fit_gate import fit_gates
from radserve.models.train.loop import Recipe
from radserve.models.train.members import batch_maker, log_progress, member_folders, progress, training
from radserve.models.train.prompt_file import load_prompts, write_prompts
from radserve.models.train.scoring import load_model
from radserve.models.train.seeds import measure_seeds
from radserve.models.train.steps import Steps
from radserve.models.train.vocabulary import write_tokenizer

_log = logging.getLogger("radserve.models.train")


@dataclass(frozen=True)
class Plan:
    """What decides the weights, apart from the machine."""

    recipe: Recipe
    agreement: AgreementRecipe


def main(arguments: list[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    log_progress()
    recipe = Recipe(seed=options.seed, steps=options.steps, networks=options.networks, members=options.members)
    agreement = AgreementRecipe(seed=options.seed, steps=options.agreement_steps, last=tuple(options.last))
    run(Plan(recipe, agreement), options.data, options.out, options.jobs)
    if options.pack:
        Steps(options.out).once("export", lambda: export(options.out, options.pack, options.data))
        _log.info("wrote %s; seconds by step: %s", options.pack, Steps(options.out).seconds)


def run(plan: Plan, data: Path, out: Path, jobs: int) -> TrainingRecord:
    """Train on the data sets in `data`, `jobs` networks at a time, and write the checkpoint folder `out`."""
    torch.set_num_threads(1)  # the numbers do not depend on the machine's cores then
    out.mkdir(parents=True, exist_ok=True)
    steps = Steps(out)
    steps.claim(plan)
    write_tokenizer(out / "tokenizer.json")
    write_prompts(out / "prompts.toml")
    config = ModelConfig(
        vocabulary_size=PackTokenizer(out / "tokenizer.json").vocabulary_size,
        normalisation=Normalisation(per_image=True),
    )
    with training(data, out, config, plan.recipe, jobs) as networks:
        steps.once("members", lambda: [each.result() for each in networks[: plan.recipe.members]])
        steps.once("decoder", lambda: _teach_decoder(plan, data, out))
        steps.once("gates", lambda: fit_gates(load_model(out), data, out))
        steps.once("record", lambda: _record(plan, data, out, jobs).save(out))
        steps.once("evaluation", lambda: evaluate(out, data, read_test_splits(out, data)))
        steps.once("other networks", lambda: [each.result() for each in networks])
    folders = member_folders(out, plan.recipe)
    steps.once("seeds", lambda: measure_seeds(folders, plan.recipe.members, data, out))
    return TrainingRecord.load(out)


def _teach_decoder(plan: Plan, data: Path, out: Path) -> None:
    """Join the first members, whose scores are final then, and teach the decoder what they decide."""
    folders = list(member_folders(out, plan.recipe).values())[: plan.recipe.members]
    model = join([load_model(folder) for folder in folders])
    save_model(model, out)
    model = load_model(out)
    tokenizer = PackTokenizer(out / "tokenizer.json")
    texts = load_prompts(out / "prompts.toml")
    cuts = [fit_calibration(model, tokenizer, texts, data, task).operating_logit for task in TASKS]
    maker, prompts = batch_maker(data, plan.recipe, tokenizer), prompt_table(TASKS, tokenizer)
    align_decoder(model, maker, prompts, cuts, plan.agreement, progress("decoder"))
    save_model(model, out)


def _record(plan: Plan, data: Path, out: Path, jobs: int) -> TrainingRecord:
    seconds = Steps(out).seconds
    return TrainingRecord(
        seed=plan.recipe.seed,
        members=plan.recipe.members,
        networks=plan.recipe.networks,
        steps=plan.recipe.steps,
        agreement_steps=plan.agreement.steps,
        last_steps=[each.steps for each in plan.agreement.last],
        seconds=seconds,
        jobs=jobs,
        logit_scale=float(load_model(out).scale),
        labels={task.wording.label: _label_record(data, out, task) for task in TASKS},
    )


def _label_record(data: Path, out: Path, task: Task) -> LabelRecord:
    prompts, tokenizer = load_prompts(out / "prompts.toml"), PackTokenizer(out / "tokenizer.json")
    model = load_model(out)
    readings = read_split(model, tokenizer, prompts, data, task, "val")
    fitted = fit_calibration(model, tokenizer, prompts, data, task)
    record = LabelRecord(len(readings.positive), fitted, readings.contradictions(fitted))
    _log.info("%s: %s", task.wording.label, asdict(record))
    return record


def _bank_part(text: str) -> BankPart:
    images, steps = text.split("x")
    return BankPart(int(images), int(steps))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m radserve.models.train", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with pneumoniamnist.npz and breastmnist.npz")
    parser.add_argument("--out", type=Path, required=True, help="folder for the checkpoint and the steps that are done")
    parser.add_argument("--pack", type=Path, help="the pack folder to write at the end, replaced as a whole")
    parser.add_argument("--jobs", type=int, default=2, help="networks trained at a time, each on one thread")
    parser.add_argument("--seed", type=int, default=Recipe.seed)
    parser.add_argument("--steps", type=int, default=Recipe.steps)
    parser.add_argument("--networks", type=int, default=Recipe.networks, help="trained, of consecutive seeds")
    parser.add_argument("--members", type=int, default=Recipe.members, help="of them that are joined and shipped")
    parser.add_argument("--agreement-steps", type=int, default=AgreementRecipe.steps, help="of the decoder alone")
    parser.add_argument(
        "--last",
        type=_bank_part,
        nargs="*",
        default=AgreementRecipe.last,
        metavar="IMAGESxSTEPS",
        help="last parts for the decoder: images that the tower sees once, and steps on them",
    )
    return parser


if __name__ == "__main__":
    main()
