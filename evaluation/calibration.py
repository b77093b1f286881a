"""How well probabilities agree with outcomes: Brier score and its parts, calibration errors, the reliability curve.

All functions take `labels` (n,) of booleans and `probabilities` (n,) of float64 in [0, 1] of the positive class.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from radserve.evaluation.calibrators import fit_logistic, logits, usable_logits
from radserve.evaluation.rates import proportion
from radserve.evaluation.tables import BoolArray, FloatArray, bad_cell, check_same_length, refusal

DEFAULT_BINS = 15  # as torchmetrics


class Binning(StrEnum):
    """How probabilities are put into bins."""

    EQUAL_WIDTH = "equal-width"
    EQUAL_MASS = "equal-mass"


@dataclass(frozen=True)
class Bin:
    """One non-empty bin of the reliability curve; `observed` is the fraction of positives with its Wilson interval."""

    n: int
    n_positive: int
    lowest: float
    highest: float
    mean_probability: float
    observed: float
    observed_ci: tuple[float, float]


@dataclass(frozen=True)
class BrierParts:
    """Brier score = reliability - resolution + uncertainty + within_bin, exactly.

    Murphy (1973) for the first three; `within_bin` is the within-bin variance minus covariance of Stephenson, Coelho
    and Jolliffe (2008), which is 0 when the probabilities in each bin are equal.
    """

    score: float
    reliability: float
    resolution: float
    uncertainty: float
    within_bin: float


@dataclass(frozen=True)
class CalibrationErrors:
    """Weighted mean (`l1`, the ECE), root weighted mean square (`l2`) and largest (`max`) gap of the bins.

    With few rows all three are above 0 for perfect probabilities too. `l2_debiased` is `l2` without what chance adds to
    the squares (Ferro and Fricker 2012; Kumar et al. 2019), 0 where that is more than all of them.
    """

    l1: float
    l2: float
    max: float
    l2_debiased: float


@dataclass(frozen=True)
class Calibration:
    """Everything about one set of probabilities; null values have their reason in `warnings`.

    `observed_to_expected` is positives divided by the sum of probabilities. `slope` and `intercept` are of the logistic
    regression of the label on the logit (Cox 1958): 1 and 0 when calibrated, a slope below 1 when overconfident.
    """

    n: int
    n_positive: int
    binning: str
    bins: tuple[Bin, ...]
    brier: BrierParts
    errors: CalibrationErrors
    observed_to_expected: float | None
    slope: float | None
    intercept: float | None
    warnings: tuple[str, ...]


def check_probabilities(column: str, values: FloatArray) -> FloatArray:
    """Return `values` when all lie in [0, 1]; otherwise raise INVALID_ARGUMENT naming column, row and value."""
    inside = (values >= 0) & (values <= 1)  # NaN is outside
    if not inside.all():
        row = int(np.argmin(inside))
        raise bad_cell(column, row + 1, float(values[row]), "a probability from 0 to 1")
    return values


def bin_index(probabilities: FloatArray, n_bins: int, binning: Binning) -> npt.NDArray[np.int64]:
    """Return the bin of each probability, shape (n,).

    Equal width: bin k holds k/n_bins <= p < (k+1)/n_bins, and a p of exactly 1 has the bin n_bins of its own, as in
    torchmetrics. Equal mass: bin k holds the scores with n_bins * (number of smaller scores) // n = k, so equal scores
    always share a bin and the order of the rows does not matter.
    """
    if n_bins < 1:
        raise refusal(f"bins: got {n_bins}, expected at least 1")
    if binning is Binning.EQUAL_WIDTH:
        edges = np.arange(n_bins + 1) / n_bins
        return np.searchsorted(edges, probabilities, side="right").astype(np.int64) - 1
    smaller = np.searchsorted(np.sort(probabilities), probabilities, side="left").astype(np.int64)
    return smaller * n_bins // len(probabilities)


def reliability_curve(
    labels: BoolArray,
    probabilities: FloatArray,
    *,
    n_bins: int = DEFAULT_BINS,
    binning: Binning = Binning.EQUAL_WIDTH,
    ci_level: float = 0.95,
) -> tuple[Bin, ...]:
    """Return the non-empty bins, from low to high probabilities."""
    check_same_length({"labels": labels, "probabilities": probabilities})
    check_probabilities("probabilities", probabilities)
    index = bin_index(probabilities, n_bins, binning)
    return tuple(
        _bin(labels[index == each], probabilities[index == each], ci_level) for each in np.unique(index).tolist()
    )


def brier_score(labels: BoolArray, probabilities: FloatArray) -> float:
    """Return the mean squared difference of probability and outcome (Brier 1950), from 0 (best) to 1."""
    check_same_length({"labels": labels, "probabilities": probabilities})
    return float(np.mean((check_probabilities("probabilities", probabilities) - labels) ** 2))


def brier_parts(labels: BoolArray, probabilities: FloatArray, bins: Sequence[Bin]) -> BrierParts:
    """Return the Brier score and its parts over the bins of `reliability_curve`."""
    score = brier_score(labels, probabilities)
    n = len(labels)
    base_rate = float(np.mean(labels))
    reliability = sum(each.n * (each.mean_probability - each.observed) ** 2 for each in bins) / n
    resolution = sum(each.n * (each.observed - base_rate) ** 2 for each in bins) / n
    uncertainty = base_rate * (1 - base_rate)
    return BrierParts(
        score, reliability, resolution, uncertainty, _within_bin(np.asarray(labels, np.float64), probabilities, bins)
    )


def calibration_errors(bins: Sequence[Bin]) -> CalibrationErrors:
    """Return the calibration errors over the bins of `reliability_curve` (Guo et al. 2017; Kumar et al. 2019)."""
    weights = np.array([each.n for each in bins], np.float64)
    gaps = np.abs([each.mean_probability - each.observed for each in bins])
    return CalibrationErrors(
        l1=float(np.average(gaps, weights=weights)),
        l2=float(np.sqrt(np.average(gaps**2, weights=weights))),
        max=float(gaps.max()),
        l2_debiased=float(np.sqrt(max(0.0, debiased_square(bins)))),
    )


def debiased_square(bins: Sequence[Bin]) -> float:
    """Return the weighted mean of the squared gaps of the bins less their variance by chance.

    Its expectation is the mean square of the true gaps where no bin has a single row (Kumar et al., "Verified
    uncertainty calibration", NeurIPS 2019, section 4), hence it may be negative. Nothing can be said of one row: a bin
    with no other counts as 0, as in that paper's program.
    """
    squares = [
        (each.mean_probability - each.observed) ** 2 - each.observed * (1 - each.observed) / (each.n - 1)
        if each.n > 1
        else 0.0
        for each in bins
    ]
    return float(np.average(squares, weights=[each.n for each in bins]))


def assess_calibration(
    labels: BoolArray,
    probabilities: FloatArray,
    *,
    n_bins: int = DEFAULT_BINS,
    binning: Binning = Binning.EQUAL_WIDTH,
    ci_level: float = 0.95,
) -> Calibration:
    """Return reliability curve, Brier score, calibration errors, slope and intercept of one set of probabilities.

    Labels of one class only are allowed (a small site): slope and intercept are then null, with a warning.
    """
    bins = reliability_curve(labels, probabilities, n_bins=n_bins, binning=binning, ci_level=ci_level)
    warnings: list[str] = []
    expected = float(np.sum(probabilities))
    if not expected:
        warnings.append("observed_to_expected is undefined: all probabilities are 0")
    slope, intercept = _slope_and_intercept(labels, probabilities, warnings)
    return Calibration(
        n=len(labels),
        n_positive=int(np.sum(labels)),
        binning=binning.value,
        bins=bins,
        brier=brier_parts(labels, probabilities, bins),
        errors=calibration_errors(bins),
        observed_to_expected=float(np.sum(labels)) / expected if expected else None,
        slope=slope,
        intercept=intercept,
        warnings=tuple(warnings),
    )


def _slope_and_intercept(
    labels: BoolArray, probabilities: FloatArray, warnings: list[str]
) -> tuple[float | None, float | None]:
    if labels.all() or not labels.any():
        warnings.append("slope and intercept are undefined: the labels have one class only")
        return None, None
    fitted = fit_logistic(usable_logits(logits(probabilities)), np.asarray(labels, np.float64))
    if fitted is None:
        warnings.append("slope and intercept are undefined: the classes are separated, or all probabilities are equal")
        return None, None
    return fitted


def _bin(labels: BoolArray, probabilities: FloatArray, ci_level: float) -> Bin:
    n, n_positive = len(labels), int(np.sum(labels))
    observed = proportion(n_positive, n, ci_level)
    return Bin(
        n=n,
        n_positive=n_positive,
        lowest=float(probabilities.min()),
        highest=float(probabilities.max()),
        mean_probability=float(probabilities.mean()),
        observed=observed.value,
        observed_ci=(observed.low, observed.high),
    )


def _within_bin(outcomes: FloatArray, probabilities: FloatArray, bins: Sequence[Bin]) -> float:
    """Within-bin variance of the probabilities minus twice their covariance with the outcome."""
    which = np.searchsorted([each.highest for each in bins], probabilities, side="left")
    mean_probability = np.array([each.mean_probability for each in bins])[which]
    observed = np.array([each.observed for each in bins])[which]
    off_mean = probabilities - mean_probability
    return float(np.mean(off_mean**2) - 2 * np.mean((outcomes - observed) * off_mean))
