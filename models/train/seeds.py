"""What the seed changes: the AUROC on the test split of every network of a training run, and of them joined.

Which networks are shipped was fixed before.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from radserve.models.tokenizer import PackTokenizer
from radserve.models.train.calibrate import FloatArray
from radserve.models.train.data import TASKS, Task, load_split
from radserve.models.train.evaluate import SEEDS_FILE, Area, area
from radserve.models.train.prompt_file import load_prompts
from radserve.models.train.scoring import image_logits, load_model


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


def measure_seeds(members: dict[int, Path], joined: int, data: Path, out: Path) -> dict[str, dict[int, SeedSpread]]:
    """Write `seeds.json` into `out`: by label and number of networks (one, and `joined`), the spread over the seeds.

    `members` has the checkpoint folder of every seed. Joined networks score the mean of their members' cosines.
    """
    spread: dict[str, dict[int, SeedSpread]] = {}
    for task in TASKS:
        positive = load_split(data, task, "test").positive.numpy()
        cosines = {seed: _cosines(folder, data, task) for seed, folder in members.items()}
        spread[task.wording.label] = {
            count: SeedSpread.over(
                {
                    "+".join(map(str, seeds)): area(_mean(cosines, seeds), positive)
                    for seeds in combinations(members, count)
                }
            )
            for count in sorted({1, joined})
        }
    document = {label: {count: asdict(each) for count, each in by.items()} for label, by in spread.items()}
    (out / SEEDS_FILE).write_text(json.dumps(document, indent=2) + "\n")
    return spread


def _cosines(folder: Path, data: Path, task: Task) -> FloatArray:
    """Of every test image, its cosine to the positive less that to the negative prompts."""
    model, tokenizer = load_model(folder), PackTokenizer(folder / "tokenizer.json")
    label, images = task.wording.label, load_split(data, task, "test").images[:, 0].numpy()
    prompts = {label: load_prompts(folder / "prompts.toml")[label]}
    return image_logits(model, tokenizer, prompts, images)[label] / float(model.scale)


def _mean(cosines: dict[int, FloatArray], seeds: Sequence[int]) -> FloatArray:
    return np.asarray(np.mean([cosines[seed] for seed in seeds], axis=0))
