"""How a head is learned and judged: several seeds, several numbers of examples, calibration apart, a gate on `val`.

Of the training split a fifth of the patients is held out for calibration and threshold; the head learns from the rest,
`shots` of each class. The validation split decides by the gate, the test split is written down and decides nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from radserve.evaluation.auc_tests import paired_test
from radserve.evaluation.delong import clustered_delong
from radserve.evaluation.roc import auc
from radserve.evaluation.tables import FloatArray
from radserve.models.adapt.calibrate import Calibrated, ece, fit_calibration, with_threshold
from radserve.models.adapt.dataset import LabelledImages
from radserve.models.adapt.heads import HEADS, Head, LinearHead, draw_shots, fit_head, hold_out
from radserve.models.adapt.manifest import Shots, TaskTable

HELD_OUT = 0.2
LEVEL = 0.90  # the two-sided interval whose lower bound is the one-sided 95 % bound


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """AUROC on the validation split with so many examples of each class, for each seed."""

    head: str
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
    """Base and head on one split, paired by DeLong (clustered by patient): `gain` with its one-sided 95 % lower bound.

    `ece_after` is the expected calibration error of the head's probabilities.
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
    """The head of the first seed with its calibration, the curve, and what the splits say of it."""

    head: LinearHead
    calibrated: Calibrated
    curve: tuple[CurvePoint, ...]
    least_gain: float
    val: Comparison
    test: Comparison | None

    @property
    def passed(self) -> bool:
        return self.val.gain_lower_bound > self.least_gain


def learn(
    task: TaskTable, data: LabelledImages, embeddings: FloatArray, base_logits: FloatArray, *, test: bool = False
) -> Learned:
    """Learn the task from `embeddings` (N, E) of the images of `data`; `base_logits` (N,) are the base pack's.

    Raises INVALID_ARGUMENT when a class has fewer training images than the shots ask for.
    """
    curve = tuple(
        CurvePoint(kind, shots, tuple(_val_auroc(data, embeddings, kind, shots, task.strength, s) for s in task.seeds))
        for kind in HEADS
        for shots in dict.fromkeys((*task.curve, task.shots))
    )
    head, held = _fitted(data, embeddings, task.head, task.shots, task.strength, task.seeds[0])
    logits = head.logits(embeddings)
    calibrated = with_threshold(fit_calibration(logits[held], data.positive[held]), logits[held], data.positive[held])
    return Learned(
        head,
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


def _val_auroc(
    data: LabelledImages, embeddings: FloatArray, kind: Head, shots: Shots, strength: float, seed: int
) -> float:
    head, _ = _fitted(data, embeddings, kind, shots, strength, seed)
    rows = data.of("val")
    return auc(head.logits(embeddings[rows]), data.positive[rows])


def _fitted(
    data: LabelledImages, embeddings: FloatArray, kind: Head, shots: Shots, strength: float, seed: int
) -> tuple[LinearHead, npt.NDArray[np.intp]]:
    """The head and the training rows held out from it."""
    train = data.of("train")
    learning, held = hold_out(data.positive[train], data.patients[train], HELD_OUT, seed)
    rows = draw_shots(train[learning], data.positive, shots, seed)
    return fit_head(kind, embeddings[rows], data.positive[rows], strength), train[held]
