"""Temperature and operating point of a label, fitted on the validation split."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from sklearn.metrics import roc_auc_score, roc_curve

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Calibration:
    """`probability = sigmoid(logit / temperature)`; positive at or above `threshold`; `auroc` on the same split."""

    temperature: float
    threshold: float
    auroc: float
    negative_log_likelihood: float

    @property
    def operating_logit(self) -> float:
        """The logit whose probability is the threshold."""
        return float(self.temperature * np.log(self.threshold / (1 - self.threshold)))


def calibrate(logits: FloatArray, positive: npt.NDArray[np.bool_]) -> Calibration:
    """Fit a temperature by negative log likelihood (Guo et al., ICML 2017) and a threshold by Youden's index."""
    fit = minimize_scalar(
        lambda log_temperature: _nll(logits / np.exp(log_temperature), positive), bounds=(-4, 4), method="bounded"
    )
    temperature = float(np.exp(fit.x))
    probabilities = 1 / (1 + np.exp(-logits / temperature))
    return Calibration(
        temperature=temperature,
        threshold=youden_threshold(probabilities, positive),
        auroc=float(roc_auc_score(positive, logits)),
        negative_log_likelihood=float(fit.fun),
    )


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
