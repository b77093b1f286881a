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
from radserve.evaluation.calibration import DEFAULT_BINS, Binning, assess_calibration, bin_index
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
_REPLICATES = 2000
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

    `without_twins`: of the images that have no twin in the train split. `text_accuracy` and `contradictions`
    are of the generated reports by language: against the truth, and against the classifier's own decision.
    `risk_coverage` has the share of wrong decisions among the images farthest from the operating point, for each
    share of images that are answered. `ece` has 15 bins of equal width, and the percentile interval of 2,000 resamples;
    `ece_if_calibrated` is its mean where the labels are drawn from the probabilities themselves: no calibration can be
    expected to fall below it with so few images. `error_debiased` is the root mean square gap of the same bins without
    what chance adds to it (Kumar et al., NeurIPS 2019).
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
    ece_low: float
    ece_high: float
    ece_if_calibrated: float
    error_debiased: float
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
        twin = have_twin(load_split(data, task, "test").images[:, 0].numpy(), task.file_name)
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
    low_error, high_error, floor = _calibration_error_spread(probabilities, positive)
    low, high = calibration.cannot_assess or (2.0, 2.0)
    assessed = (probabilities < low) | (probabilities > high)
    return LabelEvaluation(
        **asdict(area(readings.logits, positive)),
        without_twins=area(readings.logits[~twin], positive[~twin]),
        sensitivity=float(right[positive].mean()),
        specificity=float(right[~positive].mean()),
        accuracy=float(right.mean()),
        text_accuracy=readings.agreement(),
        contradictions=readings.contradictions(calibration),
        ece=calibrated.errors.l1,
        ece_low=low_error,
        ece_high=high_error,
        ece_if_calibrated=floor,
        error_debiased=calibrated.errors.l2_debiased,
        brier=calibrated.brier.score,
        cannot_assess_share=float(1 - assessed.mean()),
        accuracy_when_assessed=float(right[assessed].mean()),
        risk_coverage=_risk_coverage(np.abs(readings.logits - calibration.operating_logit), right),
        gate_false_alarm_rate=false_alarms,
    )


def area(logits: FloatArray, positive: BoolArray) -> Area:
    """The AUROC of `logits` (N,) with DeLong's interval."""
    estimates = delong(logits, positive)
    auroc = float(estimates.auc[0])
    interval = auc_interval(auroc, float(estimates.variance[0]))
    return Area(len(positive), int(positive.sum()), auroc, interval.low, interval.high)


def _calibration_error_spread(probabilities: FloatArray, positive: BoolArray) -> tuple[float, float, float]:
    """The 95 % bootstrap interval of the calibration error, and its mean if the probabilities were the true ones."""
    generator, count = np.random.default_rng(0), len(positive)
    resampled, drawn = [], []
    for _ in range(_REPLICATES):
        chosen = generator.integers(count, size=count)
        resampled.append(_calibration_error(probabilities[chosen], positive[chosen]))
        drawn.append(_calibration_error(probabilities, generator.random(count) < probabilities))
    low, high = np.quantile(resampled, (0.025, 0.975))
    return float(low), float(high), float(np.mean(drawn))


def _calibration_error(probabilities: FloatArray, positive: BoolArray) -> float:
    index = bin_index(probabilities, DEFAULT_BINS, Binning.EQUAL_WIDTH)
    gaps = np.bincount(index, weights=probabilities - positive)
    return float(np.abs(gaps).sum() / len(positive))


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
