"""Operating points against brute force over all thresholds and pROC's coords."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from radserve.errors import RadserveError
from radserve.evaluation.operating_points import (
    all_points,
    at_sensitivity,
    at_specificity,
    at_threshold,
    closest_topleft,
    youden,
)
from radserve.evaluation.roc import RocCurve, roc_curve
from radserve.evaluation.tables import BoolArray, FloatArray
from tests.evaluation.published import asah
from tests.support.evaluating import samples

Sample = tuple[FloatArray, BoolArray]


def curve_of(sample: Sample) -> RocCurve:
    return roc_curve(*sample)


@given(samples())
def test_no_point_is_better_than_the_best(sample: Sample) -> None:
    curve = curve_of(sample)
    best, closest = youden(curve), closest_topleft(curve)
    points = all_points(curve)[:, 1:]
    assert best.sensitivity + best.specificity >= points.sum(axis=1).max() - 1e-12
    assert math.dist((1, 1), (closest.sensitivity, closest.specificity)) <= np.hypot(*(1 - points).T).min() + 1e-12


@given(samples(), st.floats(-4, 4))
def test_the_point_at_a_threshold_counts_scores_from_it_on(sample: Sample, threshold: float) -> None:
    scores, positive = sample
    for at in (threshold, float(scores[0])):
        point = at_threshold(curve_of(sample), at)
        assert point.sensitivity == (scores[positive] >= at).mean()
        assert point.specificity == (scores[~positive] < at).mean()
        assert point.threshold == at


@given(samples(), st.floats(0, 1))
def test_fixed_sensitivity_and_specificity_give_the_best_of_the_other(sample: Sample, wanted: float) -> None:
    curve = curve_of(sample)
    at_se, at_sp = at_sensitivity(curve, wanted), at_specificity(curve, wanted)
    assert at_se.sensitivity >= wanted
    assert at_se.specificity == curve.specificity[curve.sensitivity >= wanted].max()
    assert at_sp.specificity >= wanted
    assert at_sp.sensitivity == curve.sensitivity[curve.specificity >= wanted].max()


def test_the_best_points_of_asah_are_those_of_proc() -> None:
    # pROC tests/testthat/helper-coords-expected.R: the row of s100b with the largest youden (1.4397) and the smallest
    # closest.topleft (0.17166) is that of threshold 0.205
    scores, positive, _ = asah()
    curve = roc_curve(scores[1], positive)
    for point in (youden(curve), closest_topleft(curve)):
        assert point.as_list() == pytest.approx([0.205, 0.634146341463415, 0.805555555555556], abs=1e-14)
        assert point.n_ties == 1
    best = youden(curve)
    assert best.sensitivity + best.specificity == pytest.approx(1.43970189701897, abs=1e-13)


def test_among_equally_good_points_the_most_sensitive_is_given_and_the_rest_counted() -> None:
    point = youden(roc_curve([1.0, 2.0, 3.0, 4.0], [False, True, False, True]))
    assert point.as_list() == [1.5, 1.0, 0.5]
    assert point.n_ties == 2


def test_a_threshold_that_is_no_number_is_refused() -> None:
    curve = roc_curve([1.0, 2.0], [False, True])
    with pytest.raises(RadserveError, match="threshold: got nan"):
        at_threshold(curve, math.nan)
    with pytest.raises(RadserveError, match=r"sensitivity: got 1\.5"):
        at_sensitivity(curve, 1.5)
    assert at_threshold(curve, math.inf).as_list() == [math.inf, 0.0, 1.0]
