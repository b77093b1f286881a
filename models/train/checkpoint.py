"""The folder a training run leaves: weights, architecture, tokenizer, prompts, and its record."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from radserve.models.train.architecture import RadCoCa
from radserve.models.train.calibrate import Calibration

RECORD_FILE, WEIGHTS_FILE = "training.json", "model.safetensors"


@dataclass(frozen=True)
class LabelRecord:
    """What the validation split of so many `images` said of one label; contradicting reports by language.

    `out_of_fold` more images, of the train split, were scored by towers that had not seen them: the calibration and
    its figures are of both.
    """

    images: int
    out_of_fold: int
    calibration: Calibration
    contradictions: dict[str, int]


@dataclass(frozen=True)
class TrainingRecord:
    """How the weights came to be; `labels` by name, their figures from validation split and folds.

    `members` of the trained `networks` are joined. `own_towers` has the seed and the kind of each shipped tower of an
    input's own, `own_sets` says how many times they were trained. `last_steps` are those of each `polish_decoder`.
    `seconds` on the clock by step of the run, `jobs` networks at a time, each on one thread. `logit_scales` by label.
    """

    seed: int
    members: int
    networks: int
    steps: int
    agreement_steps: int
    last_steps: list[int]
    seconds: dict[str, float]
    jobs: int
    logit_scales: dict[str, float]
    own_towers: dict[str, dict[str, str]]
    own_sets: int
    labels: dict[str, LabelRecord]

    def save(self, folder: Path) -> None:
        (folder / RECORD_FILE).write_text(json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def load(cls, folder: Path) -> TrainingRecord:
        values = json.loads((folder / RECORD_FILE).read_text())
        values["labels"] = {
            name: LabelRecord(**each | {"calibration": _calibration(each["calibration"])})
            for name, each in values["labels"].items()
        }
        return cls(**values)


def _calibration(values: dict[str, Any]) -> Calibration:
    band = values["cannot_assess"]
    return Calibration(**values | {"cannot_assess": tuple(band) if band else None})


def save_model(model: RadCoCa, folder: Path) -> None:
    """Write `model.json` and `model.safetensors`, whole or not at all."""
    model.config.save(folder / "model.json")
    unfinished = folder / f"{WEIGHTS_FILE}.unfinished"
    save_file({name: each.contiguous() for name, each in model.state_dict().items()}, unfinished)
    unfinished.replace(folder / WEIGHTS_FILE)
