"""Calibration, operating point and band of no answer of a label, fitted on images that no network learned from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from sklearn.metrics import roc_auc_score, roc_curve

from radserve.evaluation.calibration import assess_calibration

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
MISCOVERAGE = 0.1  # of either class: so many of its images may lie beyond the band of no answer


@dataclass(frozen=True)
class Calibration:
    """`probability = sigmoid(logit / temperature + offset)`; positive at or above `threshold`; `auroc`,
    `negative_log_likelihood` and `ece` (15 bins) of the images it was fitted on, as they are.

    Inside `cannot_assess` (lowest, highest probability) the answer is none; None where the classes are apart enough.
    """

    temperature: float
    offset: float
    threshold: float
    cannot_assess: tuple[float, float] | None
    auroc: float
    negative_log_likelihood: float
    ece: float

    @property
    def operating_logit(self) -> float:
        """The logit whose probability is the threshold."""
        return float(self.temperature * (np.log(self.threshold / (1 - self.threshold)) - self.offset))

    def probabilities(self, logits: FloatArray) -> FloatArray:
        return np.asarray(1 / (1 + np.exp(-(logits / self.temperature + self.offset))))


def calibrate(logits: FloatArray, positive: BoolArray, perturbed: Sequence[FloatArray] = ()) -> Calibration:
    """Fit slope and offset by likelihood (Platt, 1999) and the threshold by Youden's index, inside the band if any.

    `perturbed` has the logits (N,) of other views of the same images, which the fit sees as well. Training sees both
    states equally often, so a temperature alone would keep that prevalence.
    """
    fitted, states = np.concatenate([logits, *perturbed]), np.tile(positive, 1 + len(perturbed))
    fit = minimize(
        lambda given: _nll(fitted * np.exp(given[0]) + given[1], states), x0=np.zeros(2), bounds=((-4, 4), (-20, 20))
    )
    temperature, offset = float(np.exp(-fit.x[0])), float(fit.x[1])
    probabilities = 1 / (1 + np.exp(-(logits / temperature + offset)))
    band = conformal_band(probabilities, positive, MISCOVERAGE)
    threshold = youden_threshold(probabilities, positive)
    return Calibration(
        temperature=temperature,
        offset=offset,
        threshold=float(np.clip(threshold, *band)) if band else threshold,
        cannot_assess=band,
        auroc=float(roc_auc_score(positive, logits)),
        negative_log_likelihood=_nll(logits / temperature + offset, positive),
        ece=assess_calibration(positive, probabilities).errors.l1,
    )


def conformal_band(probabilities: FloatArray, positive: BoolArray, miscoverage: float) -> tuple[float, float] | None:
    """The probabilities that class-wise split conformal prediction allows both states (Vovk, 2012); None for nowhere.

    Of exchangeable new images of either state at most `miscoverage` are expected on the wrong side of the band.
    """
    present, absent = np.sort(probabilities[positive]), np.sort(probabilities[~positive])
    lowest = present[max(1, math.floor(miscoverage * (len(present) + 1))) - 1]
    highest = absent[min(len(absent), math.ceil((1 - miscoverage) * (len(absent) + 1))) - 1]
    return (float(lowest), float(highest)) if lowest < highest else None


def youden_threshold(probabilities: FloatArray, positive: npt.NDArray[np.bool_]) -> float:
    """The threshold of the largest sensitivity + specificity, in the middle of the gap below that value.

    Of several equally good points the one nearest 0.5 is taken: with few images the plateau is wide.
    """
    false_rate, true_rate, cuts = roc_curve(positive, probabilities, drop_intermediate=False)
    youden = true_rate - false_rate
    best = np.flatnonzero(youden >= youden.max() - 1e-12)
    ordered = np.unique(probabilities)
    middles = []
    for cut in cuts[best]:
        below = ordered[ordered < cut]
        middles.append((min(cut, 1.0) + (below[-1] if len(below) else 0.0)) / 2)
    return float(min(middles, key=lambda middle: abs(middle - 0.5)))


def _nll(logits: FloatArray, positive: npt.NDArray[np.bool_]) -> float:
    return float(np.mean(np.logaddexp(0, np.where(positive, -logits, logits))))
