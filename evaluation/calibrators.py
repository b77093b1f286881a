"""Turning scores into calibrated probabilities: temperature, Platt and isotonic; fitted on one set, used on another.

A calibrator is fitted on the logit of a probability, or on a raw score that stands in its place (temperature, Platt),
or on the order alone (isotonic). Temperature and Platt with a positive slope never change the order of the scores.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq, isotonic_regression
from scipy.special import expit, logit

from radserve._checks import read_only
from radserve.evaluation.tables import BoolArray, FloatArray, check_same_length, refusal

LARGEST_LOGIT = float(-np.log(np.finfo(np.float64).epsneg))  # 36.7: the logit of the largest probability below 1
TEMPERATURE_LIMITS = (1e-3, 1e3)
MOST_STEPS = 100


class Method(StrEnum):
    """The ways to calibrate."""

    TEMPERATURE = "temperature"
    PLATT = "platt"
    ISOTONIC = "isotonic"


@dataclass(frozen=True)
class Temperature:
    """probability = sigmoid(logit / temperature); above 1 the model was overconfident (Guo et al. 2017)."""

    temperature: float
    warnings: tuple[str, ...] = ()
    method: ClassVar[str] = Method.TEMPERATURE.value

    def apply(self, scores: FloatArray) -> FloatArray:
        return _sigmoid(scores / self.temperature)


@dataclass(frozen=True)
class Platt:
    """probability = sigmoid(slope * logit + intercept) (Platt 1999, with his smoothed targets)."""

    slope: float
    intercept: float
    warnings: tuple[str, ...] = ()
    method: ClassVar[str] = Method.PLATT.value

    def apply(self, scores: FloatArray) -> FloatArray:
        return _sigmoid(self.slope * scores + self.intercept)


@dataclass(frozen=True)
class Isotonic:
    """The rising step function closest to the labels; straight lines between knots, constant outside them.

    `scores` and `probabilities` are the knots, shape (k,), both rising (Zadrozny and Elkan 2002).
    """

    scores: FloatArray
    probabilities: FloatArray
    warnings: tuple[str, ...] = ()
    method: ClassVar[str] = Method.ISOTONIC.value

    def __post_init__(self) -> None:
        object.__setattr__(self, "scores", read_only(self.scores))
        object.__setattr__(self, "probabilities", read_only(self.probabilities))

    def apply(self, scores: FloatArray) -> FloatArray:
        return np.interp(scores, self.scores, self.probabilities)


def logits(probabilities: FloatArray) -> FloatArray:
    """Return log(p / (1 - p)), shape (n,); minus and plus infinity for 0 and 1."""
    result: FloatArray = logit(probabilities)
    return result


def usable_logits(scores: FloatArray) -> FloatArray:
    """Return the logits with the infinities replaced by +-36.7, so that a fit has finite numbers to work with."""
    return np.where(np.isinf(scores), np.sign(scores) * LARGEST_LOGIT, scores)


def scores_for(method: Method, values: FloatArray, *, are_logits: bool = False) -> FloatArray:
    """Return what a calibrator of this method takes: logits for temperature and Platt, for isotonic the values."""
    return values if are_logits or method is Method.ISOTONIC else logits(values)


def fit(method: Method, labels: BoolArray, scores: FloatArray) -> Temperature | Platt | Isotonic:
    """Fit a calibrator on `scores` (n,), in the form `scores_for` gives, and `labels` (n,).

    Raises INVALID_ARGUMENT for labels of one class and for scores that cannot be fitted (all equal).
    """
    check_same_length({"labels": labels, "scores": scores})
    if labels.all() or not labels.any():
        raise refusal(f"calibration: got labels of one class only in {len(labels)} rows, expected both")
    finite = usable_logits(scores)
    if np.ptp(finite) == 0:
        raise refusal(f"calibration: got the same score, {float(finite[0])!r}, in all rows")
    warnings = ("scores of exactly 0 or 1 were fitted as logits of -36.7 and 36.7",) if np.isinf(scores).any() else ()
    match method:
        case Method.TEMPERATURE:
            return _fit_temperature(labels, finite, warnings)
        case Method.PLATT:
            return _fit_platt(labels, finite, warnings)
        case Method.ISOTONIC:
            return _fit_isotonic(labels, finite, warnings)


def fit_logistic(scores: FloatArray, targets: FloatArray) -> tuple[float, float] | None:
    """Return (slope, intercept) of the maximum-likelihood logistic regression of `targets` in [0, 1] on `scores`.

    Newton's method on standardised scores, halving a step that does not help. None when there is no finite maximum
    (separated classes) or no single one (equal scores).
    """
    spread = float(np.std(scores))
    if spread == 0:
        return None
    centre = float(np.mean(scores))
    design = np.column_stack([(scores - centre) / spread, np.ones_like(scores)])
    weights = np.zeros(2)
    loss = _log_loss(design @ weights, targets)
    for _ in range(MOST_STEPS):
        step = _newton_step(design, weights, targets)
        if step is None:
            return None
        while (candidate := _log_loss(design @ (weights - step), targets)) > loss and np.abs(step).max() > 1e-12:
            step = step / 2
        weights, loss = weights - step, candidate
        if np.abs(step).max() <= 1e-12 * max(1.0, float(np.abs(weights).max())):
            slope = float(weights[0]) / spread
            return slope, float(weights[1]) - slope * centre
    return None


def _newton_step(design: FloatArray, weights: FloatArray, targets: FloatArray) -> FloatArray | None:
    fitted = expit(design @ weights)
    information = design.T @ (design * (fitted * (1 - fitted))[:, None])
    if not np.isfinite(information).all() or np.linalg.cond(information) > 1e13:
        return None  # the slope runs to infinity: the classes are separated
    return np.asarray(np.linalg.solve(information, design.T @ (fitted - targets)), np.float64)


def _log_loss(scores: FloatArray, targets: FloatArray) -> float:
    return float(np.sum(np.logaddexp(0, scores) - targets * scores))


def _fit_temperature(labels: BoolArray, scores: FloatArray, warnings: tuple[str, ...]) -> Temperature:
    """The log-likelihood is concave in 1 / temperature: find where its slope is 0, within the limits."""
    targets = np.asarray(labels, np.float64)

    def slope(inverse: float) -> float:
        return float(np.sum((expit(inverse * scores) - targets) * scores))

    coldest, hottest = TEMPERATURE_LIMITS
    if slope(1 / hottest) >= 0:
        note = f"temperature is at its limit of {hottest:g}: the scores do not rise with the label"
        return Temperature(hottest, (*warnings, note))
    if slope(1 / coldest) <= 0:
        note = f"temperature is at its limit of {coldest:g}: the sign of the logit separates the classes"
        return Temperature(coldest, (*warnings, note))
    inverse = float(brentq(slope, 1 / hottest, 1 / coldest, xtol=1e-15, rtol=4 * np.finfo(np.float64).eps))
    return Temperature(1 / inverse, warnings)


def _fit_platt(labels: BoolArray, scores: FloatArray, warnings: tuple[str, ...]) -> Platt:
    n_positive = int(np.sum(labels))
    n_negative = len(labels) - n_positive
    targets = np.where(labels, (n_positive + 1) / (n_positive + 2), 1 / (n_negative + 2))
    fitted = fit_logistic(scores, targets)
    if fitted is None:  # cannot be with smoothed targets and different scores, unless the numbers overflow
        raise refusal("calibration: Platt's fit does not converge on these scores")
    if fitted[0] <= 0:
        warnings = (*warnings, "the slope is not positive: the scores do not rise with the label")
    return Platt(*fitted, warnings)


def _fit_isotonic(labels: BoolArray, scores: FloatArray, warnings: tuple[str, ...]) -> Isotonic:
    """Pool adjacent violators over the distinct scores, keeping of each constant run its two ends."""
    distinct, which = np.unique(scores, return_inverse=True)
    counts = np.bincount(which).astype(np.float64)
    fractions = np.bincount(which, weights=labels) / counts
    heights = np.asarray(isotonic_regression(fractions, weights=counts).x, np.float64)
    ends: npt.NDArray[np.bool_] = np.ones(len(heights), np.bool_)
    ends[1:-1] = (heights[1:-1] != heights[:-2]) | (heights[1:-1] != heights[2:])
    return Isotonic(distinct[ends], heights[ends], warnings)


def _sigmoid(scores: FloatArray) -> FloatArray:
    result: FloatArray = expit(scores)
    return result
