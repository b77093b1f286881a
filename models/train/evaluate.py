"""`python -m radserve.models.train.evaluate --checkpoint DIR --data DIR`: the final figures on the test split.

The one place that reads the labels of the test split. Plain PyTorch; the served path is measured elsewhere and must
agree.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from radserve.evaluation.auc_tests import auc_interval
from radserve.evaluation.calibration import assess_calibration
from radserve.evaluation.delong import delong
from radserve.models.gate import read_gate
from radserve.models.tokenizer import PackTokenizer
from radserve.models.train.architecture import IMAGE_CHANNELS
from radserve.models.train.assess import Readings, read_images
from radserve.models.train.calibrate import BoolArray, Calibration, FloatArray
from radserve.models.train.checkpoint import TrainingRecord
from radserve.models.train.data import TASKS, Task, load_split
from radserve.models.train.fit_gate import load_gate_records
from radserve.models.train.prompt_file import load_prompts
from radserve.models.train.scoring import load_model
from radserve.models.train.twins import have_twin

_log = logging.getLogger("radserve.models.train.evaluate")
EVALUATION_FILE, SEEDS_FILE = "evaluation.json", "seeds.json"
_COVERAGES = (1.0, 0.95, 0.9, 0.8, 0.7, 0.5)


@dataclass(frozen=True)
class Area:
    """An AUROC with its 95 % interval (DeLong), of so many images."""

    images: int
    positives: int
    auroc: float
    auroc_low: float
    auroc_high: float


@dataclass(frozen=True)
class LabelEvaluation:
    """Test figures of one label.

    `without_twins`: of the images that have no twin in the original train split. `text_accuracy` and `contradictions`
    are of the generated reports by language: against the truth, and against the classifier's own decision.
    `risk_coverage` has the share of wrong decisions among the images farthest from the operating point, for each
    share of images that are answered. `ece` has 15 bins of equal width.
    """

    images: int
    positives: int
    auroc: float
    auroc_low: float
    auroc_high: float
    without_twins: Area
    sensitivity: float
    specificity: float
    accuracy: float
    text_accuracy: dict[str, float]
    contradictions: dict[str, int]
    ece: float
    brier: float
    cannot_assess_share: float
    accuracy_when_assessed: float
    risk_coverage: list[tuple[float, float]]
    gate_false_alarm_rate: float | None


def read_test_splits(checkpoint: Path, data: Path) -> dict[str, Readings]:
    """What the network of a checkpoint or pack says of the official test splits, by label."""
    model = load_model(checkpoint)
    tokenizer, prompts = PackTokenizer(checkpoint / "tokenizer.json"), load_prompts(checkpoint / "prompts.toml")
    return {
        task.wording.label: read_images(model, tokenizer, prompts, task, load_split(data, task, "test"))
        for task in TASKS
    }


def evaluate(checkpoint: Path, data: Path, readings: Mapping[str, Readings]) -> dict[str, LabelEvaluation]:
    """Measure every label by its `readings` of the official test split; write `evaluation.json` into `checkpoint`."""
    record = TrainingRecord.load(checkpoint)
    results = {}
    for task in TASKS:
        label = task.wording.label
        twin = have_twin(load_split(data, task, "test").images[:, 0].numpy(), task.file_name, "test")
        alarms = _false_alarms(checkpoint, task, readings[label])
        results[label] = _figures(readings[label], record.labels[label].calibration, twin, alarms)
        _log.info("%s: %s", label, results[label])
    document = {label: asdict(each) for label, each in results.items()}
    (checkpoint / EVALUATION_FILE).write_text(json.dumps(document, indent=2) + "\n")
    return results


def _figures(
    readings: Readings, calibration: Calibration, twin: BoolArray, false_alarms: float | None
) -> LabelEvaluation:
    positive, probabilities = readings.positive, calibration.probabilities(readings.logits)
    right = (probabilities >= calibration.threshold) == positive
    calibrated = assess_calibration(positive, probabilities)
    low, high = calibration.cannot_assess or (2.0, 2.0)
    assessed = (probabilities < low) | (probabilities > high)
    return LabelEvaluation(
        **asdict(_area(readings.logits, positive)),
        without_twins=_area(readings.logits[~twin], positive[~twin]),
        sensitivity=float(right[positive].mean()),
        specificity=float(right[~positive].mean()),
        accuracy=float(right.mean()),
        text_accuracy=readings.agreement(),
        contradictions=readings.contradictions(calibration),
        ece=calibrated.errors.l1,
        brier=calibrated.brier.score,
        cannot_assess_share=float(1 - assessed.mean()),
        accuracy_when_assessed=float(right[assessed].mean()),
        risk_coverage=_risk_coverage(np.abs(readings.logits - calibration.operating_logit), right),
        gate_false_alarm_rate=false_alarms,
    )


def _area(logits: FloatArray, positive: BoolArray) -> Area:
    estimates = delong(logits, positive)
    auroc = float(estimates.auc[0])
    interval = auc_interval(auroc, float(estimates.variance[0]))
    return Area(len(positive), int(positive.sum()), auroc, interval.low, interval.high)


def _risk_coverage(confidence: FloatArray, right: BoolArray) -> list[tuple[float, float]]:
    """(share of images answered, share of these decided wrongly), the most confident first (Geifman, El-Yaniv 2017)."""
    wrong = ~right[np.argsort(-confidence, kind="stable")]
    counts = [max(1, round(share * len(wrong))) for share in _COVERAGES]
    return [(share, float(wrong[:count].mean())) for share, count in zip(_COVERAGES, counts, strict=True)]


def _false_alarms(checkpoint: Path, task: Task, readings: Readings) -> float | None:
    record = load_gate_records(checkpoint).get(task.wording.input_name)
    if record is None:
        return None
    gate = read_gate((checkpoint / record.file).read_bytes(), IMAGE_CHANNELS)
    return float((gate.score(readings.image_tokens) > record.threshold).mean())


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m radserve.models.train.evaluate", description=__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True, help="checkpoint or pack folder")
    parser.add_argument("--data", type=Path, required=True, help="folder with pneumoniamnist.npz and breastmnist.npz")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    _log.setLevel(logging.INFO)
    evaluate(options.checkpoint, options.data, read_test_splits(options.checkpoint, options.data))


if __name__ == "__main__":
    main()
