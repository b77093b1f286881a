"""`python -m radserve.models.train --data DIR --out DIR --pack PACK`: the default pack, from nothing.

Trains the networks and joins them, trains the towers that an input has of its own, and trains these again on folds of
the train split to score it out of fold, calibrates, teaches the decoder, fits the gates, measures and exports. Each
step is kept in the folder `out`; the same command goes on where it was stopped. The train split is read to learn, and
with the validation split to calibrate; the test split is read when all else is done, to measure.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from radserve.models.export.__main__ import export
from radserve.models.tokenizer import PackTokenizer
from radserve.models.train.agreement import AgreementRecipe, BankPart, align_decoder
from radserve.models.train.architecture import ModelConfig, Normalisation, RadCoCa
from radserve.models.train.assess import read_split
from radserve.models.train.batches import prompt_table
from radserve.models.train.checkpoint import LabelRecord, TrainingRecord, save_model
from radserve.models.train.data import TASKS, Task, load_split
from radserve.models.train.ensemble import fit_mix, join, with_own_towers
from radserve.models.train.evaluate import evaluate, read_test_splits
from radserve.models.train.fit_calibration import fit_calibration
from radserve.models.train.fit_gate import fit_gates
from radserve.models.train.loop import Recipe
from radserve.models.train.members import (
    batch_maker,
    log_progress,
    member_folders,
    processes,
    progress,
    start_networks,
    start_towers,
    tower_file,
)
from radserve.models.train.out_of_fold import read_out_of_fold, score_folds, start_folds
from radserve.models.train.own_tower import OWN, OwnRecipe, TowerRecipe, load_tower
from radserve.models.train.prompt_file import load_prompts, write_prompts
from radserve.models.train.scoring import load_model, prepared_pixels, prompt_direction
from radserve.models.train.seeds import measure_seeds
from radserve.models.train.steps import Steps
from radserve.models.train.vocabulary import write_tokenizer

_log = logging.getLogger("radserve.models.train")


@dataclass(frozen=True)
class Plan:
    """What decides the weights, apart from the machine."""

    recipe: Recipe
    own: Mapping[str, OwnRecipe]
    agreement: AgreementRecipe

    def own_set(self, index: int) -> dict[str, tuple[TowerRecipe, ...]]:
        """The recipes of a set of every input's own towers; the first set is shipped."""
        return {name: each.of_set(index, self.recipe.seed) for name, each in self.own.items() if index < each.sets}

    @property
    def sets(self) -> int:
        return max((each.sets for each in self.own.values()), default=0)


def main(arguments: list[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    log_progress()
    recipe = Recipe(seed=options.seed, steps=options.steps, networks=options.networks, members=options.members)
    agreement = AgreementRecipe(seed=options.seed, steps=options.agreement_steps, last=tuple(options.last))
    own = {
        name: replace(
            each,
            sets=options.own_sets,
            folds=options.own_folds,
            members=tuple(replace(m, steps=options.own_steps) for m in each.members),
        )
        for name, each in OWN.items()
    }
    run(Plan(recipe, own, agreement), options.data, options.out, options.jobs)
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
    first, others = _portions(plan)
    with processes(jobs) as pool:
        networks = start_networks(pool, data, out, config, plan.recipe, first)
        steps.once("networks", lambda: _wait(networks))
        joined = join([load_model(member_folders(out, plan.recipe)[seed]) for seed in first])
        directions = _directions(joined, out, plan.own)
        shipped = start_towers(pool, data, out, joined.config, plan.own_set(0), directions)
        folds = start_folds(pool, data, out, joined.config, plan.own, plan.recipe.seed, directions)
        rest = [
            start_towers(pool, data, out, joined.config, plan.own_set(index), directions)
            for index in range(1, plan.sets)
        ]
        networks = start_networks(pool, data, out, config, plan.recipe, others)
        steps.once("own towers", lambda: _wait(shipped))
        steps.once("folds", lambda: _score_folds(plan, folds, joined, data, out))
        steps.once("decoder", lambda: _teach_decoder(plan, joined, data, out))
        steps.once("gates", lambda: fit_gates(load_model(out), data, out))
        steps.once("record", lambda: _record(plan, data, out, jobs).save(out))
        steps.once("evaluation", lambda: evaluate(out, data, read_test_splits(out, data)))
        steps.once("other networks", lambda: _wait([*networks, *(each for of_set in rest for each in of_set)]))
    sets = [plan.own_set(index) for index in range(plan.sets)]
    steps.once("seeds", lambda: measure_seeds(member_folders(out, plan.recipe), plan.recipe.members, sets, data, out))
    return TrainingRecord.load(out)


def _portions(plan: Plan) -> tuple[list[int], list[int]]:
    """The seeds of the networks that are joined, and of the others."""
    seeds = range(plan.recipe.seed, plan.recipe.seed + plan.recipe.networks)
    return list(seeds[: plan.recipe.members]), list(seeds[plan.recipe.members :])


def _wait(futures: Iterable[Future[None]]) -> None:
    for each in futures:
        each.result()


def _directions(joined: RadCoCa, out: Path, own: Iterable[str]) -> dict[str, npt.NDArray[np.float32]]:
    """By input: the embedding (E,) of the positive prompts of its label less that of the negative ones."""
    tokenizer, prompts = PackTokenizer(out / "tokenizer.json"), load_prompts(out / "prompts.toml")
    labels = {task.wording.input_name: task.wording.label for task in TASKS}
    return {name: prompt_direction(joined, tokenizer, *prompts[labels[name]]).numpy() for name in own}


def _score_folds(plan: Plan, folds: Iterable[Future[None]], joined: RadCoCa, data: Path, out: Path) -> None:
    _wait(folds)
    tokenizer, prompts = PackTokenizer(out / "tokenizer.json"), load_prompts(out / "prompts.toml")
    score_folds(joined, tokenizer, prompts, data, out, plan.own, plan.recipe.seed)


def _teach_decoder(plan: Plan, joined: RadCoCa, data: Path, out: Path) -> None:
    """Give inputs their own towers, after which all scores are final, and teach the decoder what they decide."""
    own = {
        name: [load_tower(each.tower, joined.config, tower_file(out, name, each)) for each in recipes]
        for name, recipes in plan.own_set(0).items()
    }
    model = with_own_towers(joined, own)
    for task in TASKS:
        if (name := task.wording.input_name) in own:
            fit_mix(model, name, prepared_pixels(model, load_split(data, task, "train").images[:, 0].numpy()))
    save_model(model, out)
    model = load_model(out)
    tokenizer = PackTokenizer(out / "tokenizer.json")
    texts = load_prompts(out / "prompts.toml")
    folds = read_out_of_fold(out)
    cuts = [fit_calibration(model, tokenizer, texts, data, task, folds).operating_logit for task in TASKS]
    maker, prompts = batch_maker(data, plan.recipe, tokenizer), prompt_table(TASKS, tokenizer)
    align_decoder(model, maker, prompts, cuts, plan.agreement, progress("decoder"))
    save_model(model, out)


def _record(plan: Plan, data: Path, out: Path, jobs: int) -> TrainingRecord:
    model, shipped = load_model(out), plan.own_set(0)
    return TrainingRecord(
        seed=plan.recipe.seed,
        members=plan.recipe.members,
        networks=plan.recipe.networks,
        steps=plan.recipe.steps,
        agreement_steps=plan.agreement.steps,
        last_steps=[each.steps for each in plan.agreement.last],
        seconds=Steps(out).seconds,
        jobs=jobs,
        logit_scales={task.wording.label: float(model.scale_of(task.wording.input_name)) for task in TASKS},
        own_towers={name: {str(each.seed): each.tower for each in recipes} for name, recipes in shipped.items()},
        own_sets=plan.sets,
        labels={task.wording.label: _label_record(data, out, task) for task in TASKS},
    )


def _label_record(data: Path, out: Path, task: Task) -> LabelRecord:
    prompts, tokenizer = load_prompts(out / "prompts.toml"), PackTokenizer(out / "tokenizer.json")
    model, folds = load_model(out), read_out_of_fold(out)
    readings = read_split(model, tokenizer, prompts, data, task, "val")
    fitted = fit_calibration(model, tokenizer, prompts, data, task, folds)
    scored = len(folds.get(task.wording.label, ()))
    record = LabelRecord(len(readings.positive), scored, fitted, readings.contradictions(fitted))
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
    parser.add_argument("--own-sets", type=int, default=OwnRecipe.sets, help="trained of an input's own towers")
    parser.add_argument("--own-folds", type=int, default=OwnRecipe.folds, help="to calibrate them on, 0: on val alone")
    parser.add_argument("--own-steps", type=int, default=TowerRecipe.steps, help="of each of them")
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
