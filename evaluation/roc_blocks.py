"""The parts of one curve's result: partial area, operating points, the rates at a threshold."""

from __future__ import annotations

import math

from radserve.evaluation.bootstrap import Replicates
from radserve.evaluation.operating_points import (
    OperatingPoint,
    at_sensitivity,
    at_specificity,
    at_threshold,
    closest_topleft,
    youden,
)
from radserve.evaluation.partial_auc import partial_auc
from radserve.evaluation.rates import Confusion, Rate, npv_at, ppv_at, rates
from radserve.evaluation.roc import RocCurve, counts_at
from radserve.evaluation.roc_options import RocOptions

Json = dict[str, object]


def partial_as_json(
    curve: RocCurve, options: RocOptions, replicates: Replicates | None, index: int, found: list[str]
) -> Json | None:
    """Return the partial area, None when none is asked for; reasons for null values go to `found`."""
    if options.partial is None:
        return None
    part = partial_auc(curve, options.partial, options.focus)
    found.extend(part.warnings)
    block: Json = {
        "raw": part.raw,
        "corrected": part.corrected,
        "bounds": [part.low, part.high],
        "focus": part.focus,
    }
    if replicates is not None:
        interval = replicates.interval(index, options.level)
        block["raw_ci"] = [interval.low, interval.high]
    return block


def operating_points_as_json(curve: RocCurve, options: RocOptions, found: list[str]) -> Json:
    """Return the operating points, each [threshold, sensitivity, specificity]; remarks go to `found`."""
    points = {"youden": youden(curve), "closest_topleft": closest_topleft(curve)}
    if options.at_sensitivity is not None:
        points["at_sensitivity"] = at_sensitivity(curve, options.at_sensitivity)
    if options.at_specificity is not None:
        points["at_specificity"] = at_specificity(curve, options.at_specificity)
    for name, point in points.items():
        if point.n_ties > 1:
            found.append(f"{name}: {point.n_ties} points are equally good; the one with the lowest threshold is given")
    block: Json = {name: point.as_list() for name, point in points.items()}
    block["threshold"] = None
    if options.threshold is not None:
        block["threshold"] = _at_threshold(curve, at_threshold(curve, options.threshold), options, found)
    return block


def _at_threshold(curve: RocCurve, point: OperatingPoint, options: RocOptions, found: list[str]) -> Json:
    tp, fp, tn, fn = counts_at(curve, point.index).tolist()
    measured = rates(Confusion(tp, fp, tn, fn), options.level)
    found.extend(f"threshold: {text}" for text in measured.warnings)
    if math.isinf(point.threshold):
        found.append(f"threshold: {point.threshold:g} has no word in JSON: null")

    def as_json(rate: Rate) -> Json:
        return {"value": rate.value, "ci": [rate.low, rate.high], "count": rate.count, "of": rate.of}

    block: Json = {
        "threshold": point.threshold,
        "sensitivity": point.sensitivity,
        "specificity": point.specificity,
        "confusion": measured.confusion,
        "rates": {
            name: as_json(getattr(measured, name)) for name in ("accuracy", "sensitivity", "specificity", "ppv", "npv")
        },
        "f1": measured.f1,
    }
    if options.prevalence is not None:
        both = (point.sensitivity, point.specificity, options.prevalence)
        predictive = {"prevalence": options.prevalence, "ppv": ppv_at(*both), "npv": npv_at(*both)}
        block["at_prevalence"] = predictive
        found.extend(
            f"threshold: {name} at the prevalence is null" for name, each in predictive.items() if math.isnan(each)
        )
    return block
