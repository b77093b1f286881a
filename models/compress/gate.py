"""Is a compressed pack not worse than the original? Paired DeLong, non-inferiority by one margin."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from radserve.evaluation.auc_tests import auc_interval
from radserve.evaluation.delong import clustered_delong
from radserve.models.compress.samples import Samples
from radserve.models.compress.scores import PackScores

MARGIN = 0.01
Z_ONE_SIDED = 1.6448536269514722  # 95 % of the standard normal distribution
LEVEL = 0.95
LEAST_OF_CLASS = 10  # with fewer the normal approximation says nothing: 2 + 2 images told apart have a variance of 0


@dataclass(frozen=True)
class LabelComparison:
    """One label on one split: AUROC before and after, the loss with its one-sided upper bound, and what agrees.

    `cosine` is the mean cosine between the image embeddings before and after, None for a label on images that the pack
    does not embed.
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
    cosine: float | None
    passed: bool

    @property
    def doubt(self) -> str:
        """Why the label does not pass; nothing where it does."""
        if self.passed:
            return ""
        if min(self.positives, self.images - self.positives) < LEAST_OF_CLASS:
            return f"{self.positives} of {self.images} images positive, of either class {LEAST_OF_CLASS} are needed"
        return f"bound {self.loss_upper_bound:+.4f}"


def compare(
    before: PackScores, after: PackScores, samples: Sequence[Samples], margin: float = MARGIN
) -> list[LabelComparison]:
    """Compare two packs on the same images; a label passes when the bound of its AUROC loss is below `margin`.

    A label with fewer than LEAST_OF_CLASS images of a class does not pass, whatever its bound.
    """
    return [_compare(before, after, each, margin) for each in samples]


def non_inferiority(
    before: npt.NDArray[np.float64],
    after: npt.NDArray[np.float64],
    positive: npt.NDArray[np.bool_],
    patients: npt.NDArray[np.str_],
) -> tuple[float, float, float, float]:
    """AUROC before, AUROC after, the loss (before - after) and its one-sided 95 % upper bound, by paired DeLong.

    Images of one of the `patients` are not counted as independent (Obuchowski 1997).
    """
    estimates = clustered_delong(np.stack([before, after]), positive, patients)
    loss = float(estimates.auc[0] - estimates.auc[1])
    bound = loss + Z_ONE_SIDED * math.sqrt(float(estimates.difference_variance[0, 1]))
    return float(estimates.auc[0]), float(estimates.auc[1]), loss, bound


def passes(bound: float, positive: npt.NDArray[np.bool_], margin: float = MARGIN) -> bool:
    """Whether the `bound` of the loss is below the margin, on enough images of either class to say so."""
    present = int(positive.sum())
    return bound < margin and min(present, len(positive) - present) >= LEAST_OF_CLASS


def _compare(before: PackScores, after: PackScores, samples: Samples, margin: float) -> LabelComparison:
    logits = [scores.logits(samples) for scores in (before, after)]
    first, second, loss, bound = non_inferiority(logits[0], logits[1], samples.positive, samples.patients)
    alone = clustered_delong(logits[1], samples.positive, samples.patients)
    interval = auc_interval(second, float(alone.variance[0]), LEVEL)
    label = before.pack.label(samples.label)
    positives = int(samples.positive.sum())
    decided = [_probability(each, label.temperature, label.offset) >= label.threshold for each in logits]
    embeds = before.pack.encodes(samples.use)
    embeddings = [scores.embeddings(samples) for scores in (before, after)] if embeds else []
    return LabelComparison(
        label=samples.label,
        images=len(samples.positive),
        positives=positives,
        auroc_before=first,
        auroc_after=second,
        auroc_after_low=interval.low,
        auroc_after_high=interval.high,
        loss=loss,
        loss_upper_bound=bound,
        decisions_agree=float((decided[0] == decided[1]).mean()),
        cosine=float(np.prod(embeddings, axis=0).sum(axis=1).mean()) if embeds else None,
        passed=passes(bound, samples.positive, margin),
    )


def _probability(logits: npt.NDArray[np.float64], temperature: float, offset: float) -> npt.NDArray[np.float64]:
    return np.asarray(1 / (1 + np.exp(-(logits / temperature + offset))))
