"""Empirical operating points of one reader under one treatment: FROC, AFROC, weighted AFROC and inferred ROC."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from radserve.evaluation.froc_study import FrocStudy
from radserve.evaluation.tables import FloatArray


@dataclass(frozen=True)
class FrocPoints:
    """Operating points, one for each distinct rating, falling; arrays of shape (point,), not writeable.

    At a threshold all marks with at least that rating count. `nlf` is NL marks per case (all cases), `llf` the share
    of lesions marked, `weighted_llf` the mean over diseased cases of the weight marked, `fpf` the share of
    non-diseased cases with a mark (NaN without such cases) and `tpf` the share of diseased cases with any mark.
    FROC: llf over nlf. AFROC: llf over fpf; wAFROC: weighted_llf over fpf; ROC: tpf over fpf. The figures of merit
    are the areas under the last three with a straight line from the last point to (1, 1).
    """

    threshold: FloatArray
    nlf: FloatArray
    llf: FloatArray
    weighted_llf: FloatArray
    fpf: FloatArray
    tpf: FloatArray


def operating_points(study: FrocStudy, treatment: int, reader: int) -> FrocPoints:
    """Points of the reader and treatment at these indices of the study's axes."""
    here = (study.false_at[:, 0] == treatment) & (study.false_at[:, 1] == reader)
    false_ratings, lesion_ratings = study.false_ratings[here], study.lesion_ratings[treatment, reader]
    highest = study.highest_false()[treatment, reader]
    whole_case = study.highest_any()[treatment, reader]
    diseased, n_cases = study.diseased, len(study.cases)
    ratings = np.concatenate([false_ratings, lesion_ratings[np.isfinite(lesion_ratings)]])
    threshold = np.unique(ratings)[::-1].copy()
    n_healthy = int((~diseased).sum())
    arrays = (
        threshold,
        _at_least(threshold, false_ratings) / n_cases,
        _at_least(threshold, lesion_ratings) / len(lesion_ratings),
        _at_least(threshold, lesion_ratings, study.lesion_weights) / diseased.sum(),
        _at_least(threshold, highest[~diseased]) / n_healthy if n_healthy else np.full(len(threshold), np.nan),
        _at_least(threshold, whole_case[diseased]) / diseased.sum(),
    )
    for array in arrays:
        array.setflags(write=False)
    return FrocPoints(*arrays)


def _at_least(threshold: FloatArray, ratings: FloatArray, weights: FloatArray | None = None) -> FloatArray:
    """Total weight (count) of the ratings that reach each threshold, shape (point,)."""
    order = np.argsort(ratings)
    sums = np.concatenate([[0.0], np.cumsum((np.ones(len(ratings)) if weights is None else weights)[order])])
    return np.asarray(sums[-1] - sums[np.searchsorted(ratings[order], threshold, side="left")])
