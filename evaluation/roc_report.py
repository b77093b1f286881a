"""The whole ROC evaluation of a table of scores, as `radserve evaluate roc` prints it.

The keys are part of the command line's contract. Undefined values are NaN here and null in JSON,
each with its reason in `warnings`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from radserve.evaluation.auc_tests import (
    AucTest,
    Interval,
    auc_interval,
    overall_test,
    paired_test,
    separation_bound,
    unpaired_test,
)
from radserve.evaluation.bootstrap import Replicates, Statistic, bootstrap
from radserve.evaluation.delong import AucEstimates, clustered_delong, delong
from radserve.evaluation.operating_points import all_points
from radserve.evaluation.output import without_repeats
from radserve.evaluation.partial_auc import partial_area
from radserve.evaluation.roc import average_precision_of, roc_curve
from radserve.evaluation.roc_blocks import Json, operating_points_as_json, partial_as_json
from radserve.evaluation.roc_options import RocOptions
from radserve.evaluation.tables import BoolArray, FloatArray, Table

ENDS_ARE_NULL = "points: the first threshold is -infinity and the last +infinity, which JSON cannot hold: null"


def evaluate_roc(table: Table, options: RocOptions) -> Json:
    """Return the result of `radserve evaluate roc` for a table.

    Raises RadserveError INVALID_ARGUMENT naming column, row and value for input that cannot be evaluated.
    """
    scores = {column: table.numbers(column) for column in options.scores}
    positive = table.labels(options.label, options.positive)
    clusters = None if options.cluster is None else np.array(table.categories(options.cluster))
    warnings = [ENDS_ARE_NULL]
    result = _block(scores, positive, clusters, options, warnings, "")
    result["groups"] = {}
    if options.group is not None:
        result["groups"] = _groups(scores, positive, clusters, table.categories(options.group), options, warnings)
    result["warnings"] = without_repeats(warnings)
    return result


def comparison_as_json(test: AucTest) -> Json:
    """Return a comparison in the keys of the contract."""
    return {
        "paired": test.paired,
        "statistic": test.statistic,
        "df": test.df,
        "p_two_sided": test.p_two_sided,
        "p_greater": test.p_greater,
        "p_less": test.p_less,
        "difference": test.difference,
        "difference_ci": [test.interval.low, test.interval.high],
    }


def comparison_warnings(test: AucTest) -> list[str]:
    """Return the reasons for the null values of a comparison."""
    reasons = list(test.warnings)
    if test.paired:
        reasons.append("df is null: the paired test is a z test, which has no degrees of freedom")
    elif math.isinf(test.df):
        reasons.append("df is null: both variances are 0")
    return reasons


def _groups(
    scores: Mapping[str, FloatArray],
    positive: BoolArray,
    clusters: npt.NDArray[np.str_] | None,
    groups: tuple[str, ...],
    options: RocOptions,
    warnings: list[str],
) -> Json:
    membership = np.array(groups)
    blocks: Json = {}
    for group in sorted(set(groups)):
        rows = membership == group
        if len(set(positive[rows].tolist())) < 2:
            blocks[group] = None
            warnings.append(f"group {group!r}: null, its {int(rows.sum())} rows are of one class")
            continue
        part = {column: values[rows] for column, values in scores.items()}
        members = None if clusters is None else clusters[rows]
        blocks[group] = _block(part, positive[rows], members, options, warnings, f"group {group!r}: ")
    return blocks


def _block(
    scores: Mapping[str, FloatArray],
    positive: BoolArray,
    clusters: npt.NDArray[np.str_] | None,
    options: RocOptions,
    warnings: list[str],
    prefix: str,
) -> Json:
    names, matrix = list(scores), np.array(list(scores.values()))
    estimates = (
        delong(matrix, positive, names=names)
        if clusters is None
        else clustered_delong(matrix, positive, clusters, names=names)
    )

    def resampled(statistic: Statistic) -> Replicates | None:
        if not options.draws:
            return None
        return bootstrap(
            matrix, positive, replicates=options.draws, seed=options.seed, clusters=clusters, statistic=statistic
        )

    whole = resampled(lambda curve: curve.auc)
    bounds = options.partial
    part = resampled(lambda curve: partial_area(curve, min(bounds), max(bounds), options.focus)) if bounds else None
    blocks: Json = {}
    for index, name in enumerate(names):
        found: list[str] = []
        interval = whole.interval(index, options.level) if whole else _closed_form(estimates, index, options)
        found.extend(interval.warnings)
        curve = roc_curve(scores[name], positive, name=name)
        blocks[name] = {
            **_area(estimates, index, interval),
            "average_precision": average_precision_of(curve),
            "partial_auc": partial_as_json(curve, options, part, index, found),
            "operating_points": operating_points_as_json(curve, options, found),
            "points": all_points(curve),
        }
        if estimates.auc[index] < 0.5:
            found.append("the AUC is below 0.5: higher scores go with negatives; nothing was turned round")
        warnings.extend(f"{prefix}score {name!r}: {text}" for text in found)
    return {
        "n": len(positive),
        "n_positive": estimates.n_positive,
        "n_negative": estimates.n_negative,
        "scores": blocks,
        "covariance": estimates.covariance,
        "overall": _overall(estimates, warnings, prefix),
        "comparisons": _comparisons(estimates, names, whole, options, warnings, prefix),
    }


def _closed_form(estimates: AucEstimates, index: int, options: RocOptions) -> Interval:
    area, variance = float(estimates.auc[index]), float(estimates.covariance[index, index])
    interval = auc_interval(area, variance, options.level, scale=options.scale)
    if area != 1.0:
        return interval
    bound = separation_bound(estimates.n_positive, estimates.n_negative, options.level)
    pairs = min(estimates.n_positive, estimates.n_negative)
    hint = f"another method's answer: Clopper and Pearson's lower bound from {pairs} disjoint pairs is {bound:.6g}"
    return Interval(interval.low, interval.high, interval.level, interval.method, (*interval.warnings, hint))


def _area(estimates: AucEstimates, index: int, interval: Interval) -> Json:
    variance = float(estimates.covariance[index, index])
    return {
        "auc": float(estimates.auc[index]),
        "variance": variance,
        "se": math.sqrt(variance),
        "ci": [interval.low, interval.high],
        "ci_level": interval.level,
        "ci_method": interval.method,
    }


def _overall(estimates: AucEstimates, warnings: list[str], prefix: str) -> Json | None:
    if len(estimates.auc) < 2:
        return None
    test = overall_test(estimates)
    if math.isnan(test.statistic):
        warnings.append(f"{prefix}overall test: null, the covariance of the areas has no inverse")
    return {"statistic": test.statistic, "df": test.df, "p": test.p}


def _comparisons(
    estimates: AucEstimates,
    names: list[str],
    replicates: Replicates | None,
    options: RocOptions,
    warnings: list[str],
    prefix: str,
) -> list[Json]:
    n = estimates.n_positive + estimates.n_negative
    found = []
    for a, b in options.compare:
        i, j = names.index(a), names.index(b)
        if options.unpaired:
            of_a, of_b = ((float(estimates.auc[each]), float(estimates.variance[each]), n) for each in (i, j))
            test = unpaired_test(*of_a, *of_b, level=options.level)
        else:
            test = paired_test(estimates, i, j, options.level)
        comparison: Json = {"a": a, "b": b, **comparison_as_json(test)}
        if replicates is not None and not options.unpaired:
            interval = replicates.difference_interval(i, j, options.level)
            comparison["difference_bootstrap_ci"] = [interval.low, interval.high]
        found.append(comparison)
        warnings.extend(f"{prefix}{a}:{b}: {text}" for text in comparison_warnings(test))
    return found
