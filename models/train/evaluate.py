"""`python -m radserve.models.train.evaluate --checkpoint DIR --data DIR`: the final figures on the test split.

The one place that reads the test split. Plain PyTorch; the served path is measured elsewhere and must agree.
"""

from __future__ import annotations

import argparse
import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from sklearn.metrics import roc_auc_score

from radserve.models.tokenizer import PackTokenizer
from radserve.models.train.assess import Readings, read_split
from radserve.models.train.calibrate import Calibration
from radserve.models.train.checkpoint import TrainingRecord
from radserve.models.train.data import TASKS
from radserve.models.train.prompt_file import load_prompts
from radserve.models.train.scoring import load_model

_log = logging.getLogger("radserve.models.train.evaluate")
EVALUATION_FILE = "evaluation.json"
_RESAMPLES = 2000


@dataclass(frozen=True)
class LabelEvaluation:
    """Test figures of one label; the interval is a 95 % percentile bootstrap over images, stratified by label."""

    images: int
    positives: int
    auroc: float
    auroc_low: float
    auroc_high: float
    sensitivity: float
    specificity: float
    contradictions: int


def evaluate(checkpoint: Path, data: Path) -> dict[str, LabelEvaluation]:
    """Measure every label on the official test split and write `evaluation.json` into `checkpoint`."""
    model = load_model(checkpoint)
    tokenizer, prompts = PackTokenizer(checkpoint / "tokenizer.json"), load_prompts(checkpoint / "prompts.toml")
    record = TrainingRecord.load(checkpoint)
    results = {}
    for task in TASKS:
        readings = read_split(model, tokenizer, prompts, data, task, "test")
        label = task.wording.label
        results[label] = _figures(readings, record.labels[label].calibration)
        _log.info("%s: %s", label, results[label])
    document = {label: asdict(each) for label, each in results.items()}
    (checkpoint / EVALUATION_FILE).write_text(json.dumps(document, indent=2) + "\n")
    return results


def _figures(readings: Readings, calibration: Calibration) -> LabelEvaluation:
    positive = readings.positive
    decided = 1 / (1 + np.exp(-readings.logits / calibration.temperature)) >= calibration.threshold
    low, high = _bootstrap(readings.logits, positive)
    return LabelEvaluation(
        images=len(positive),
        positives=int(positive.sum()),
        auroc=float(roc_auc_score(positive, readings.logits)),
        auroc_low=low,
        auroc_high=high,
        sensitivity=float(decided[positive].mean()),
        specificity=float((~decided[~positive]).mean()),
        contradictions=readings.contradictions(calibration.temperature, calibration.threshold),
    )


def _bootstrap(logits: npt.NDArray[np.float64], positive: npt.NDArray[np.bool_]) -> tuple[float, float]:
    generator = np.random.default_rng(0)
    present, absent = logits[positive], logits[~positive]
    # The AUROC is the share of pairs in which the positive image has the higher logit.
    wins = (present[:, None] > absent) + 0.5 * (present[:, None] == absent)
    areas = [
        wins[
            np.ix_(generator.integers(0, len(present), len(present)), generator.integers(0, len(absent), len(absent)))
        ].mean()
        for _ in range(_RESAMPLES)
    ]
    low, high = np.percentile(areas, [2.5, 97.5])
    return float(low), float(high)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m radserve.models.train.evaluate", description=__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True, help="checkpoint or pack folder")
    parser.add_argument("--data", type=Path, required=True, help="folder with pneumoniamnist.npz and breastmnist.npz")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    _log.setLevel(logging.INFO)
    evaluate(options.checkpoint, options.data)


if __name__ == "__main__":
    main()
