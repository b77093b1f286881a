"""`python -m radserve.models.train.seeds --checkpoints DIR DIR DIR --data DIR --out DIR`: what the seed changes.

The AUROC of each checkpoint on the test split, apart by the number of members: single networks, and networks joined.
Which of them is shipped was fixed before.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from radserve.evaluation.delong import delong
from radserve.models.tokenizer import PackTokenizer
from radserve.models.train.architecture import ModelConfig
from radserve.models.train.data import TASKS, load_split
from radserve.models.train.evaluate import SEEDS_FILE
from radserve.models.train.prompt_file import load_prompts
from radserve.models.train.scoring import image_logits, load_model


@dataclass(frozen=True)
class SeedSpread:
    """Test AUROC of one label by checkpoint folder, with mean and standard deviation over them.

    Joined checkpoints share members, so their deviation is smaller than that of independent ones.
    """

    auroc: dict[str, float]
    mean: float
    deviation: float

    @classmethod
    def over(cls, auroc: dict[str, float]) -> SeedSpread:
        return cls(auroc, float(np.mean([*auroc.values()])), float(np.std([*auroc.values()], ddof=1)))


def spread_of(checkpoints: Sequence[Path], data: Path) -> dict[str, dict[int, SeedSpread]]:
    """By label and number of members, the spread over the `checkpoints` of so many members (two at least)."""
    found: dict[int, dict[str, dict[str, float]]] = {}
    for folder in checkpoints:
        members = ModelConfig.load(folder / "model.json").members
        found.setdefault(members, {})[folder.name] = _areas(folder, data)
    return {
        task.wording.label: {
            members: SeedSpread.over({name: areas[task.wording.label] for name, areas in group.items()})
            for members, group in sorted(found.items())
        }
        for task in TASKS
    }


def _areas(folder: Path, data: Path) -> dict[str, float]:
    model, tokenizer = load_model(folder), PackTokenizer(folder / "tokenizer.json")
    areas = {}
    for task in TASKS:
        labelled, label = load_split(data, task, "test"), task.wording.label
        prompts = {label: load_prompts(folder / "prompts.toml")[label]}
        logits = image_logits(model, tokenizer, prompts, labelled.images[:, 0].numpy())[label]
        areas[label] = float(delong(logits, labelled.positive.numpy()).auc[0])
    return areas


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m radserve.models.train.seeds", description=__doc__)
    parser.add_argument("--checkpoints", type=Path, nargs="+", required=True, help="checkpoint folders, one a seed")
    parser.add_argument("--data", type=Path, required=True, help="folder with pneumoniamnist.npz and breastmnist.npz")
    parser.add_argument("--out", type=Path, required=True, help=f"the folder that gets {SEEDS_FILE}")
    options = parser.parse_args(arguments)
    spread = spread_of(options.checkpoints, options.data)
    document = {label: {members: asdict(each) for members, each in by.items()} for label, by in spread.items()}
    (options.out / SEEDS_FILE).write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
