"""What the seed changes: the AUROC on the test split of every network of a training run, and of them joined.

Which networks are shipped was fixed before.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import torch

from radserve.models.tokenizer import PackTokenizer
from radserve.models.train.architecture import ModelConfig
from radserve.models.train.calibrate import FloatArray
from radserve.models.train.data import TASKS, Task, load_split
from radserve.models.train.evaluate import SEEDS_FILE, Area, area
from radserve.models.train.members import tower_file
from radserve.models.train.own_tower import TowerRecipe, load_tower
from radserve.models.train.prompt_file import load_prompts
from radserve.models.train.scoring import image_logits, load_model

Groups = Mapping[str, Mapping[str, FloatArray]]
"""By group and by seeds as in "7+8": the cosines (N,) of the test images."""


@dataclass(frozen=True)
class SeedSpread:
    """Test AUROC by seed, or by seeds joined as in "7+8"; `deviation` is over them, None of a single one.

    Joined networks share members, so their deviation is smaller than that of independent ones.
    """

    areas: dict[str, Area]
    mean: float
    deviation: float | None

    @classmethod
    def over(cls, areas: dict[str, Area]) -> SeedSpread:
        found = [each.auroc for each in areas.values()]
        return cls(areas, float(np.mean(found)), float(np.std(found, ddof=1)) if len(found) > 1 else None)


def measure_seeds(
    members: Mapping[int, Path],
    joined: int,
    own_sets: Sequence[Mapping[str, Sequence[TowerRecipe]]],
    data: Path,
    out: Path,
) -> dict[str, dict[str, SeedSpread]]:
    """Write `seeds.json` into `out`: by label the spread over the seeds of single networks and of joined ones.

    `members` has the checkpoint folder of every seed, of which any `joined` make a group. An input that has towers of
    its own has a group for each kind of tower ("imagenet") instead of "1", and one of each of its sets joined, which
    share no member. Joined networks score the mean of their members' cosines.
    """
    spread: dict[str, dict[str, SeedSpread]] = {}
    for task in TASKS:
        positive = load_split(data, task, "test").positive.numpy()
        sets = [each[task.wording.input_name] for each in own_sets if task.wording.input_name in each]
        groups = _own_groups(sets, data, out, task) if sets else _network_groups(members, joined, data, task)
        spread[task.wording.label] = {
            group: SeedSpread.over({name: area(cosines, positive) for name, cosines in found.items()})
            for group, found in groups.items()
        }
    document = {label: {group: asdict(each) for group, each in by.items()} for label, by in spread.items()}
    (out / SEEDS_FILE).write_text(json.dumps(document, indent=2) + "\n")
    return spread


def _network_groups(members: Mapping[int, Path], joined: int, data: Path, task: Task) -> Groups:
    cosines = {seed: _cosines(folder, data, task) for seed, folder in members.items()}
    return {
        str(count): {_named(seeds): _mean([cosines[each] for each in seeds]) for seeds in combinations(members, count)}
        for count in sorted({1, joined})
    }


def _own_groups(sets: Sequence[Sequence[TowerRecipe]], data: Path, out: Path, task: Task) -> Groups:
    groups: dict[str, dict[str, FloatArray]] = defaultdict(dict)
    for recipes in sets:
        cosines = [_tower_cosines(each, data, out, task) for each in recipes]
        for recipe, found in zip(recipes, cosines, strict=True):
            groups[recipe.tower][str(recipe.seed)] = found
        groups[str(len(recipes))][_named([each.seed for each in recipes])] = _mean(cosines)
    return groups


def _cosines(folder: Path, data: Path, task: Task) -> FloatArray:
    """Of every test image, its cosine to the positive less that to the negative prompts."""
    model, tokenizer = load_model(folder), PackTokenizer(folder / "tokenizer.json")
    label, images = task.wording.label, load_split(data, task, "test").images[:, 0].numpy()
    prompts = {label: load_prompts(folder / "prompts.toml")[label]}
    return image_logits(model, tokenizer, prompts, images)[label] / float(model.scale)


@torch.inference_mode()
def _tower_cosines(recipe: TowerRecipe, data: Path, out: Path, task: Task) -> FloatArray:
    config = ModelConfig.load(out / "model.json")
    tower = load_tower(recipe.tower, config, tower_file(out, task.wording.input_name, recipe))
    pixels = config.normalisation.apply(load_split(data, task, "test").images.float() / 255)
    return np.asarray(tower.cosines(pixels).double().numpy())


def _named(seeds: Iterable[int]) -> str:
    return "+".join(map(str, seeds))


def _mean(cosines: Sequence[FloatArray]) -> FloatArray:
    return np.asarray(np.mean(cosines, axis=0))
