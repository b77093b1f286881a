"""Reads what gates look at out of the JSON of `radserve evaluate report | roc | report-text | segmentation`."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from radserve.evaluation.gates import Measurement
from radserve.evaluation.tables import refusal

Found = dict[tuple[str, str], Measurement]


def read_measurements(evaluation: bytes) -> Found:
    """Return the measurements of an evaluation file by (finding, metric).

    - of `report`: every value of every indicator, by its finding ("" for the model as a whole) and the indicator's key
    - of `roc`: "auc" and "average_precision" of each score column
    - of `report-text`: every metric of each column of generated text
    - of `segmentation`: every metric of each structure, and of all of them together as the model as a whole

    Raises RadserveError INVALID_ARGUMENT for anything else.
    """
    try:
        document = json.loads(evaluation)
    except ValueError as error:
        raise refusal(f"evaluation: not JSON: {error}") from error
    if isinstance(document, dict) and isinstance(document.get("indicators"), list):
        return _of_report(document["indicators"])
    if isinstance(document, dict) and isinstance(document.get("scores"), dict):
        return _of_roc(document)
    if isinstance(document, dict) and isinstance(document.get("hypotheses"), dict):
        return _of_report_text(document)
    if isinstance(document, dict) and isinstance(document.get("structures"), dict):
        return _of_segmentation(document)
    expected = "'indicators', 'scores', 'hypotheses' and 'structures'"
    raise refusal(f"evaluation: got none of {expected}, expected a result of evaluate")


def _of_report(indicators: list[Mapping[str, Any]]) -> Found:
    found: Found = {}
    for indicator in indicators:
        for each in indicator.get("values") or []:
            low, high = each.get("interval") or (None, None)
            measured = Measurement(_number(each.get("value")), _number(low), _number(high), each.get("n"))
            found[each.get("finding") or "", str(indicator["key"])] = measured
    return found


def _of_roc(document: Mapping[str, Any]) -> Found:
    found: Found = {}
    n = document.get("n")
    for name, each in document["scores"].items():
        low, high = each.get("ci") or (None, None)
        found[name, "auc"] = Measurement(_number(each.get("auc")), _number(low), _number(high), n)
        found[name, "average_precision"] = Measurement(_number(each.get("average_precision")), n=n)
    return found


def _of_report_text(document: Mapping[str, Any]) -> Found:
    return {
        (name, metric): Measurement(_number(each.get("value")), *_bounds(each.get("ci")), document.get("n"))
        for name, metrics in document["hypotheses"].items()
        for metric, each in metrics.items()
        if isinstance(each, dict) and "value" in each
    }


def _of_segmentation(document: Mapping[str, Any]) -> Found:
    counted = {name: (each, each.get("n")) for name, each in document["structures"].items()}
    counted[""] = document.get("mean") or {}, document.get("n_cases")
    return {
        (name, metric): Measurement(_number(each.get("value")), *_bounds(each.get("ci")), n)
        for name, (metrics, n) in counted.items()
        for metric, each in metrics.items()
        if isinstance(each, dict) and "value" in each
    }


def _bounds(interval: object) -> tuple[float | None, float | None]:
    if isinstance(interval, list) and len(interval) == 2:
        return _number(interval[0]), _number(interval[1])
    return None, None


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)
