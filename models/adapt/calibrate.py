"""A label's calibration as a pack states it: temperature and offset, fitted on data that taught nothing else."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from radserve.evaluation.calibration import calibration_errors, reliability_curve
from radserve.evaluation.calibrators import Method, Platt, Temperature, fit
from radserve.evaluation.operating_points import youden
from radserve.evaluation.roc import roc_curve
from radserve.evaluation.tables import BoolArray, FloatArray


@dataclass(frozen=True, slots=True)
class Calibrated:
    """probability = sigmoid(logit / `temperature` + `offset`), positive from `threshold` on."""

    temperature: float
    offset: float
    threshold: float

    def probabilities(self, logits: FloatArray) -> FloatArray:
        return np.asarray(0.5 * (1 + np.tanh((logits / self.temperature + self.offset) / 2)))


def fit_calibration(logits: FloatArray, positive: BoolArray, method: Method = Method.PLATT) -> Calibrated:
    """Fit Platt's slope and offset, or a temperature alone: also where the slope is not positive, which would turn the
    order round. The threshold is that of even odds. Raises INVALID_ARGUMENT for labels of one class.
    """
    fitted = fit(method, positive, logits)
    if isinstance(fitted, Platt) and fitted.slope > 0:
        return Calibrated(1 / fitted.slope, fitted.intercept, 0.5)
    if not isinstance(fitted, Temperature):
        fitted = fit(Method.TEMPERATURE, positive, logits)
    assert isinstance(fitted, Temperature)  # noqa: S101
    return Calibrated(fitted.temperature, 0.0, 0.5)


def with_threshold(calibrated: Calibrated, logits: FloatArray, positive: BoolArray) -> Calibrated:
    """With the threshold of the largest sensitivity + specificity on these logits (Youden)."""
    point = youden(roc_curve(calibrated.probabilities(logits), positive))
    return replace(calibrated, threshold=float(np.clip(point.threshold, 0, 1)))


def ece(probabilities: FloatArray, positive: BoolArray) -> float:
    """The expected calibration error over fifteen bins of equal width."""
    return calibration_errors(reliability_curve(positive, probabilities)).l1
