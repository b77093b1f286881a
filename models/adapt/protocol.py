"""How a head is learned and judged: several seeds, several numbers of examples, calibration apart, a gate on `val`.

Of the training split a fifth of the patients is held out for calibration and threshold; a model learns from the rest,
`shots` of each class. The validation split decides by the gate, the test split is written down and decides nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from radserve.evaluation.auc_tests import paired_test
from radserve.evaluation.delong import clustered_delong
from radserve.evaluation.roc import auc
from radserve.evaluation.tables import FloatArray
from radserve.models.adapt.calibrate import Calibrated, ece, fit_calibration, with_threshold
from radserve.models.adapt.dataset import LabelledImages
from radserve.models.adapt.heads import HEADS, Rows, draw_shots, hold_out
from radserve.models.adapt.learners import HeadLearner, LearnedModel, Learner
from radserve.models.adapt.manifest import Shots, TaskTable

HELD_OUT = 0.2
LEVEL = 0.90  # the two-sided interval whose lower bound is the one-sided 95 % bound


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """AUROC on the validation split with so many examples of each class, for each seed."""

    method: str
    shots: Shots
    auroc: tuple[float, ...]

    @property
    def mean(self) -> float:
        return float(np.mean(self.auroc))

    @property
    def spread(self) -> float:
        """The standard deviation over the seeds."""
        return float(np.std(self.auroc, ddof=1))


@dataclass(frozen=True, slots=True)
class Comparison:
    """Base and model on one split, paired by DeLong (clustered by patient): `gain` with its one-sided 95 % lower bound.

    `ece_after` is the expected calibration error of the model's probabilities.
    """

    split: str
    images: int
    positives: int
    auroc_before: float
    auroc_after: float
    gain: float
    gain_lower_bound: float
    ece_after: float


@dataclass(frozen=True, slots=True, eq=False)
class Learned:
    """The model of the first seed with its calibration, the curve, and what the splits say of it."""

    model: LearnedModel
    calibrated: Calibrated
    curve: tuple[CurvePoint, ...]
    least_gain: float
    val: Comparison
    test: Comparison | None

    @property
    def passed(self) -> bool:
        return self.val.gain_lower_bound > self.least_gain


def learn(
    task: TaskTable,
    data: LabelledImages,
    embeddings: FloatArray,
    base_logits: FloatArray,
    *,
    learner: Learner | None = None,
    test: bool = False,
) -> Learned:
    """Learn the task from `embeddings` (N, E) of the images of `data`; `base_logits` (N,) are the base pack's.

    `learner` is that of a task's method which is no linear head; the heads are measured beside it, unless the pack
    gives no embeddings (E is 0). Raises INVALID_ARGUMENT when a class has fewer training images than the shots ask for.
    """
    learners: dict[str, Learner] = {}
    if embeddings.shape[1]:
        learners |= {kind: HeadLearner(kind, embeddings, data.positive, task.strength) for kind in HEADS}
    if learner is not None:
        learners[task.method] = learner
    course = _Course(data, learners)
    curve = tuple(
        CurvePoint(method, shots, tuple(course.val_auroc(method, shots, seed) for seed in task.seeds))
        for method in learners
        for shots in dict.fromkeys((*task.curve, task.shots))
    )
    model, held = course.learned(task.method, task.shots, task.seeds[0])
    logits = np.zeros(len(data.positive))
    asked = np.concatenate([held, data.of("val"), data.of("test") if test else held[:0]])
    logits[asked] = model.logits(asked)
    calibrated = with_threshold(fit_calibration(logits[held], data.positive[held]), logits[held], data.positive[held])
    return Learned(
        model,
        calibrated,
        curve,
        task.least_gain,
        compare("val", data, base_logits, logits, calibrated),
        compare("test", data, base_logits, logits, calibrated) if test and len(data.of("test")) else None,
    )


def compare(
    split: str, data: LabelledImages, before: FloatArray, after: FloatArray, calibrated: Calibrated
) -> Comparison:
    """Compare two sets of logits (N,) on the images of one split."""
    rows = data.of(split)
    positive = data.positive[rows]
    estimates = clustered_delong(np.stack([after[rows], before[rows]]), positive, data.patients[rows])
    paired = paired_test(estimates, 0, 1, LEVEL)
    bound = paired.interval.low
    return Comparison(
        split=split,
        images=len(rows),
        positives=int(positive.sum()),
        auroc_before=paired.auc_b,
        auroc_after=paired.auc_a,
        gain=paired.difference,
        gain_lower_bound=-math.inf if math.isnan(bound) else bound,
        ece_after=ece(calibrated.probabilities(after[rows]), positive),
    )


@dataclass(frozen=True, slots=True)
class _Course:
    """The models of a data set, each learned once: by method, shots and seed."""

    data: LabelledImages
    learners: Mapping[str, Learner]
    kept: dict[tuple[str, Shots, int], tuple[LearnedModel, Rows]] = field(default_factory=dict)

    def val_auroc(self, method: str, shots: Shots, seed: int) -> float:
        model, _ = self.learned(method, shots, seed)
        rows = self.data.of("val")
        return auc(model.logits(rows), self.data.positive[rows])

    def learned(self, method: str, shots: Shots, seed: int) -> tuple[LearnedModel, Rows]:
        """The model and the training rows held out from it."""
        key = method, shots, seed
        if key not in self.kept:
            data, train = self.data, self.data.of("train")
            learning, held = hold_out(data.positive[train], data.patients[train], HELD_OUT, seed)
            rows = draw_shots(train[learning], data.positive, shots, seed)
            self.kept[key] = self.learners[method].learn(rows, train[held], seed), train[held]
        return self.kept[key]
