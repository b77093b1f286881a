"""Decision curves: the net benefit of acting on a model, against acting on everybody and on nobody.

Vickers and Elkin, Med Decis Making 2006; 26:565. At a threshold probability t, with true and false positive rates as
fractions of all patients:

    net benefit = tp_rate - fp_rate * t / (1 - t) - harm

A patient is treated when the probability is at least t; as in R's dcurves, a probability of exactly 0 is never treated
and one of exactly 1 always. With a stated prevalence (a case-control sample) the rates are sensitivity * prevalence and
(1 - specificity) * (1 - prevalence) (Pfeiffer and Gail, 2020).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from radserve._checks import read_only
from radserve.evaluation.calibration import check_probabilities
from radserve.evaluation.calibrators import fit_logistic
from radserve.evaluation.tables import BoolArray, FloatArray, check_same_length, refusal

TREAT_ALL, TREAT_NONE = "treat_all", "treat_none"
INTERVENTIONS_PER = 100  # patients


@dataclass(frozen=True)
class Strategy:
    """One way to decide, at each threshold: arrays of shape (n_thresholds,), float64, not writeable.

    `tp_rate` and `fp_rate` are fractions of all patients. `standardized_net_benefit` is the net benefit divided by the
    prevalence. `interventions_avoided` is per 100 patients, net of missed positives, against treating all: NaN at a
    threshold of 0, where avoiding an intervention has no worth.
    """

    harm: float
    tp_rate: FloatArray
    fp_rate: FloatArray
    net_benefit: FloatArray
    standardized_net_benefit: FloatArray
    interventions_avoided: FloatArray


@dataclass(frozen=True)
class DecisionCurve:
    """Net benefit of each strategy: the named models, `treat_all` and `treat_none`."""

    n: int
    n_positive: int
    prevalence: float
    prevalence_is_stated: bool
    thresholds: FloatArray
    strategies: Mapping[str, Strategy]
    warnings: tuple[str, ...]


def threshold_grid(start: float = 0.0, stop: float = 0.99, step: float = 0.01) -> FloatArray:
    """Return start, start + step, ... up to and with stop, each the nearest float of its decimal, shape (k,).

    Rounded, so that the threshold printed as 0.35 is 0.35 and not 0.35000000000000003. Raises INVALID_ARGUMENT unless
    0 <= start <= stop < 1 and step > 0.
    """
    if not (0 <= start <= stop < 1 and step > 0):
        raise refusal(f"thresholds: got {start}:{stop}:{step}, expected 0 <= start <= stop < 1 and a step above 0")
    count = int(np.floor((stop - start) / step + 1e-9)) + 1
    return np.round(start + step * np.arange(count), 12)


def as_probability(labels: BoolArray, marker: FloatArray) -> FloatArray:
    """Return the fitted probabilities of a logistic regression of the labels on a marker, shape (n,).

    For a marker that is not a probability, as `as_probability` of dcurves: fitted on the same patients, so optimistic.
    Raises INVALID_ARGUMENT where there is no finite fit.
    """
    fitted = fit_logistic(marker, np.asarray(labels, np.float64))
    if fitted is None:
        raise refusal("as probability: the logistic fit is not finite: the classes are separated or the marker is flat")
    slope, intercept = fitted
    return np.asarray(1 / (1 + np.exp(-(slope * marker + intercept))), np.float64)


def decision_curve(
    labels: BoolArray,
    probabilities: Mapping[str, FloatArray],
    *,
    thresholds: FloatArray | None = None,
    prevalence: float | None = None,
    harms: Mapping[str, float] | None = None,
) -> DecisionCurve:
    """Return the decision curves of models that give `probabilities` (n,) for `labels` (n,).

    `thresholds` is 0, 0.01 ... 0.99 unless given; `prevalence` is that of the labels unless stated; `harms` is the net
    benefit lost by making the test at all, by model.

    Raises INVALID_ARGUMENT for values outside [0, 1], thresholds outside [0, 1), and labels of one class.
    """
    check_same_length({"labels": labels, **probabilities})
    grid = _checked(threshold_grid() if thresholds is None else thresholds)
    if labels.all() or not labels.any():
        raise refusal(f"decision curve: got labels of one class only in {len(labels)} rows, expected both")
    if prevalence is not None and not 0 < prevalence < 1:
        raise refusal(f"prevalence: got {prevalence}, expected a number between 0 and 1")
    if taken := {TREAT_ALL, TREAT_NONE} & set(probabilities):
        raise refusal(f"decision curve: the model name {taken.pop()!r} is reserved")
    if unknown := set(harms or {}) - set(probabilities):
        raise refusal(f"harm: got {unknown.pop()!r}, which is none of the models {', '.join(probabilities)}")
    rate = float(np.mean(labels)) if prevalence is None else prevalence
    all_tp, all_fp = np.full_like(grid, rate), np.full_like(grid, 1 - rate)
    strategies = {
        TREAT_ALL: _strategy(grid, rate, all_tp, all_fp, 0.0),
        TREAT_NONE: _strategy(grid, rate, np.zeros_like(grid), np.zeros_like(grid), 0.0),
    }
    for name, values in probabilities.items():
        check_probabilities(name, values)
        tp_rate = _fraction_treated(values[labels], grid) * rate
        fp_rate = _fraction_treated(values[~labels], grid) * (1 - rate)
        strategies[name] = _strategy(grid, rate, tp_rate, fp_rate, (harms or {}).get(name, 0.0))
    note = ("interventions_avoided is undefined at threshold 0",) if (grid == 0).any() else ()
    return DecisionCurve(
        n=len(labels),
        n_positive=int(np.sum(labels)),
        prevalence=rate,
        prevalence_is_stated=prevalence is not None,
        thresholds=read_only(grid),
        strategies=MappingProxyType(strategies),
        warnings=note,
    )


def _checked(thresholds: FloatArray) -> FloatArray:
    if not len(thresholds):
        raise refusal("thresholds: got none, expected at least one")
    inside = (thresholds >= 0) & (thresholds < 1)
    if not inside.all():
        raise refusal(f"thresholds: got {float(thresholds[np.argmin(inside)])}, expected 0 <= threshold < 1")
    return thresholds


def _fraction_treated(probabilities: FloatArray, thresholds: FloatArray) -> FloatArray:
    ordered: npt.NDArray[np.float64] = np.sort(probabilities[probabilities > 0])
    treated = len(ordered) - np.searchsorted(ordered, thresholds, side="left")
    return np.asarray(treated / len(probabilities), np.float64)


def _strategy(grid: FloatArray, prevalence: float, tp_rate: FloatArray, fp_rate: FloatArray, harm: float) -> Strategy:
    odds = grid / (1 - grid)
    net_benefit = tp_rate - odds * fp_rate - harm
    treat_all = prevalence - odds * (1 - prevalence)
    avoided = np.full_like(grid, np.nan)
    np.divide(net_benefit - treat_all, odds, out=avoided, where=odds > 0)
    return Strategy(
        harm=harm,
        tp_rate=read_only(tp_rate),
        fp_rate=read_only(fp_rate),
        net_benefit=read_only(net_benefit),
        standardized_net_benefit=read_only(net_benefit / prevalence),
        interventions_avoided=read_only(avoided * INTERVENTIONS_PER),
    )
