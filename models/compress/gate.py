"""Is a compressed pack not worse than the original? Paired DeLong, non-inferiority by one margin."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from radserve.evaluation.auc_tests import auc_interval
from radserve.evaluation.delong import delong
from radserve.models.compress.samples import Samples
from radserve.models.compress.scores import PackScores

MARGIN = 0.01
Z_ONE_SIDED = 1.6448536269514722  # 95 % of the standard normal distribution
LEVEL = 0.95


@dataclass(frozen=True)
class LabelComparison:
    """One label on one split: AUROC before and after, the loss with its one-sided upper bound, and what agrees.

    `cosine` is the mean cosine between the image embeddings before and after.
    """

    label: str
    images: int
    positives: int
    auroc_before: float
    auroc_after: float
    auroc_after_low: float
    auroc_after_high: float
    loss: float
    loss_upper_bound: float
    decisions_agree: float
    cosine: float
    passed: bool


def compare(
    before: PackScores, after: PackScores, samples: Sequence[Samples], margin: float = MARGIN
) -> list[LabelComparison]:
    """Compare two packs on the same images; a label passes when the bound of its AUROC loss is below `margin`."""
    return [_compare(before, after, each, margin) for each in samples]


def non_inferiority(
    before: npt.NDArray[np.float64], after: npt.NDArray[np.float64], positive: npt.NDArray[np.bool_]
) -> tuple[float, float, float, float]:
    """AUROC before, AUROC after, the loss (before - after) and its one-sided 95 % upper bound, by paired DeLong."""
    estimates = delong(np.stack([before, after]), positive)
    loss = float(estimates.auc[0] - estimates.auc[1])
    bound = loss + Z_ONE_SIDED * math.sqrt(float(estimates.difference_variance[0, 1]))
    return float(estimates.auc[0]), float(estimates.auc[1]), loss, bound


def _compare(before: PackScores, after: PackScores, samples: Samples, margin: float) -> LabelComparison:
    logits = [scores.logits(samples) for scores in (before, after)]
    first, second, loss, bound = non_inferiority(logits[0], logits[1], samples.positive)
    interval = auc_interval(second, float(delong(logits[1], samples.positive).variance[0]), LEVEL)
    label = before.pack.label(samples.label)
    decided = [_probability(each, label.temperature, label.offset) >= label.threshold for each in logits]
    embeddings = [scores.embeddings(samples) for scores in (before, after)]
    return LabelComparison(
        label=samples.label,
        images=len(samples.positive),
        positives=int(samples.positive.sum()),
        auroc_before=first,
        auroc_after=second,
        auroc_after_low=interval.low,
        auroc_after_high=interval.high,
        loss=loss,
        loss_upper_bound=bound,
        decisions_agree=float((decided[0] == decided[1]).mean()),
        cosine=float((embeddings[0] * embeddings[1]).sum(axis=1).mean()),
        passed=bound < margin,
    )


def _probability(logits: npt.NDArray[np.float64], temperature: float, offset: float) -> npt.NDArray[np.float64]:
    return np.asarray(1 / (1 + np.exp(-(logits / temperature + offset))))
