"""The empirical curve against its O(n^2) definition, scikit-learn and pROC; ties and transforms."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.metrics import roc_curve as sklearn_curve

from radserve.errors import ErrorCode, RadserveError
from radserve.evaluation.roc import auc, average_precision, checked, roc_curve
from radserve.evaluation.tables import BoolArray, FloatArray, read_table
from tests.evaluation.published import asah, published
from tests.support.evaluating import Sample, samples


def auc_by_definition(scores: FloatArray, positive: BoolArray) -> float:
    wins = np.sign(scores[positive][:, None] - scores[~positive][None, :])
    return float((wins > 0).mean() + (wins == 0).mean() / 2)


@given(samples())
def test_the_auc_is_the_share_of_pairs_in_order(sample: Sample) -> None:
    assert auc(*sample) == pytest.approx(auc_by_definition(*sample), abs=1e-14)
    assert auc(*sample) == pytest.approx(roc_auc_score(sample[1], sample[0]), abs=1e-14)


@given(samples())
def test_swapping_the_labels_gives_one_minus_the_auc(sample: Sample) -> None:
    scores, positive = sample
    assert auc(scores, ~positive) == pytest.approx(1 - auc(scores, positive), abs=1e-15)
    assert auc(-scores, positive) == pytest.approx(1 - auc(scores, positive), abs=1e-15)


@given(samples(), st.permutations(range(40)))
def test_strictly_monotone_transforms_and_the_order_of_rows_change_nothing(sample: Sample, order: list[int]) -> None:
    scores, positive = sample
    shuffled = [index for index in order if index < len(scores)]
    curve, moved = roc_curve(scores, positive), roc_curve(np.exp(scores[shuffled]), positive[shuffled])
    assert np.array_equal(curve.sensitivity, moved.sensitivity)
    assert np.array_equal(curve.specificity, moved.specificity)
    assert curve.auc == moved.auc


@given(samples(), st.integers(2, 4))
def test_duplicating_all_cases_keeps_the_curve(sample: Sample, times: int) -> None:
    scores, positive = sample
    curve, repeated = roc_curve(scores, positive), roc_curve(np.tile(scores, times), np.tile(positive, times))
    assert np.allclose(curve.sensitivity, repeated.sensitivity, rtol=0, atol=1e-15)
    assert repeated.auc == pytest.approx(curve.auc, abs=1e-15)


@given(samples(st.floats(-1e300, 1e300)))
def test_each_point_is_what_its_threshold_gives(sample: Sample) -> None:
    scores, positive = sample
    curve = roc_curve(scores, positive)
    assert (np.diff(curve.thresholds) > 0).all()
    for threshold, sensitivity, specificity in zip(curve.thresholds, curve.sensitivity, curve.specificity, strict=True):
        assert sensitivity == (scores[positive] >= threshold).mean()
        assert specificity == (scores[~positive] < threshold).mean()


@given(samples())
def test_all_points_are_those_of_scikit_learn(sample: Sample) -> None:
    curve = roc_curve(*sample)
    fpr, tpr, _ = sklearn_curve(sample[1], sample[0], drop_intermediate=False)
    assert np.allclose(curve.sensitivity[::-1], tpr, atol=1e-15)
    assert np.allclose(1 - curve.specificity[::-1], fpr, atol=1e-15)


@given(samples())
def test_average_precision_is_that_of_scikit_learn(sample: Sample) -> None:
    assert average_precision(*sample) == pytest.approx(average_precision_score(sample[1], sample[0]), abs=1e-12)


def test_scores_that_differ_in_the_last_bit_differ() -> None:
    low, high = 0.1 + 0.2, 0.3  # 0.30000000000000004 and 0.3
    assert low > high
    assert auc([high, low], [False, True]) == 1.0
    assert auc([low, high], [False, True]) == 0.0
    curve = roc_curve([high, low], [False, True])
    assert curve.thresholds.tolist() == [-math.inf, low, math.inf]  # the midpoint must still part the two
    assert auc(np.float32([high, low]), [False, True]) == 0.5  # where single precision would see a tie


def test_scores_near_the_largest_double_have_finite_midpoints() -> None:
    assert np.isfinite(roc_curve([1.7e308, 1.6e308], [True, False]).thresholds[1])


def test_a_score_below_chance_is_not_turned_round() -> None:
    assert auc([1.0, 2.0, 3.0, 4.0], [True, True, False, False]) == 0.0


def test_the_areas_of_asah_are_those_of_proc() -> None:
    # pROC tests/testthat/test-auc.R and helper-partial-auc-boundary-expected.R ("s100b/specificity/full")
    scores, positive, _ = asah()
    expected = [0.823678861788618, 0.73136856368563685, 0.611957994579946]
    assert [auc(each, positive) for each in scores] == pytest.approx(expected, abs=1e-14)


def test_the_points_of_asah_are_those_of_proc() -> None:
    # pROC tests/testthat/helper-coords-expected.R: threshold, specificity, sensitivity of s100b, the first and others
    scores, positive, _ = asah()
    curve = roc_curve(scores[1], positive)
    rows = {
        round(t, 10): (sp, se) for t, sp, se in zip(curve.thresholds, curve.specificity, curve.sensitivity, strict=True)
    }
    assert len(rows) == 51
    for threshold, specificity, sensitivity in (
        (0.035, 0.0, 0.975609756097561),
        (0.045, 0.0694444444444444, 0.975609756097561),
        (0.115, 0.541666666666667, 0.75609756097561),
        (0.205, 0.805555555555556, 0.634146341463415),
        (0.29, 0.833333333333333, 0.51219512195122),
        (0.51, 1.0, 0.292682926829268),
    ):
        assert rows[threshold] == pytest.approx((specificity, sensitivity), abs=1e-14)


def test_the_area_of_rocr_simple_is_the_one_rocr_prints() -> None:
    table = read_table(published("rocr_simple.csv"))  # 0.8341875 in ROCR's examples and those that cite it
    assert auc(table.numbers("score"), table.labels("label")) == pytest.approx(0.8341875, abs=5e-8)


def test_the_area_of_hanley_and_mcneil_is_the_printed_one() -> None:
    table = read_table(published("hanley1982_ct.csv"))  # Radiology 143 (1982) 29, Table II: 0.893
    assert round(auc(table.numbers("rating"), table.labels("truth")), 3) == 0.893


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        ([0.1, math.nan], [0, 1], "column 'score', row 2: got nan, expected a finite number"),
        ([math.inf, 0.1], [0, 1], "column 'score', row 1: got inf, expected a finite number"),
        ([0.1, 0.2], [0, 2], "column 'label', row 2: got 2, expected 0 or 1"),
        ([0.1, 0.2], [1, 1], "column 'label' has one class only, 1, in all 2 rows"),
        ([0.1, 0.2], [True, False, True], "columns differ in length: score 2, label 3"),
        ([], [], "no rows: score, label are empty"),
        ([[0.1]], [1], "score and label: got shapes (1, 1) and (1,), expected (n,) for both"),
    ],
)
def test_input_that_cannot_be_evaluated_is_refused(scores: list[float], labels: list[int], message: str) -> None:
    with pytest.raises(RadserveError) as caught:
        checked(scores, labels)
    assert caught.value.client_message == message
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT
