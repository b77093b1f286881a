"""Tests and intervals of areas against pROC's and SAS's printed values, a permutation test, and at the borders."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from radserve.errors import ErrorCode, RadserveError
from radserve.evaluation.auc_tests import (
    auc_interval,
    holm,
    overall_test,
    paired_test,
    separation_bound,
    unpaired_test,
)
from radserve.evaluation.delong import AucEstimates, delong
from radserve.evaluation.roc import auc
from radserve.evaluation.tables import read_table
from tests.evaluation.peers import adjusted_by_statsmodels
from tests.evaluation.published import asah, published

WFNS, S100B, NDKA = range(3)


def estimates_of_asah() -> AucEstimates:
    scores, positive, _ = asah()
    return delong(scores, positive)


def unpaired_of(estimates: AucEstimates, a: int, b: int, level: float = 0.95):  # type: ignore[no-untyped-def]
    n = estimates.n_positive + estimates.n_negative
    variance = estimates.variance
    return unpaired_test(
        float(estimates.auc[a]), float(variance[a]), n, float(estimates.auc[b]), float(variance[b]), n, level
    )


def test_the_intervals_of_ndka_are_those_of_proc() -> None:
    # pROC tests/testthat/test-ci.auc.R: all patients, and the women alone
    scores, positive, table = asah()
    estimates = estimates_of_asah()
    interval = auc_interval(float(estimates.auc[NDKA]), float(estimates.variance[NDKA]))
    assert (interval.low, interval.high) == pytest.approx((0.501244999271703, 0.722670989888189), abs=1e-14)
    women = np.array(table.text("gender")) == "Female"
    of_women = delong(scores[NDKA][women], positive[women])
    interval = auc_interval(float(of_women.auc[0]), float(of_women.variance[0]))
    assert of_women.auc[0] == pytest.approx(0.6671428571, abs=1e-10)
    assert (interval.low, interval.high) == pytest.approx((0.5261398281, 0.8081458862), abs=1e-10)


@pytest.mark.parametrize(
    ("a", "b", "z", "p", "low", "high"),
    [  # pROC tests/testthat/test-roc.test.R
        (WFNS, S100B, 2.20898359144091, 0.0271757822291882, 0.0104061769564846, 0.174214419249478),
        (WFNS, NDKA, 2.79777591868904, 0.00514557970691098, 0.0634011709339876, 0.3600405634833566),
        (NDKA, S100B, -1.39077002573558, 0.164295175223054, -0.2876917446341914, 0.0488706064228094),
    ],
)
def test_paired_tests_of_asah_are_those_of_proc(a: int, b: int, z: float, p: float, low: float, high: float) -> None:
    test = paired_test(estimates_of_asah(), a, b)
    assert test.statistic == pytest.approx(z, rel=1e-12)
    assert test.p_two_sided == pytest.approx(p, rel=1e-12)
    assert (test.interval.low, test.interval.high) == pytest.approx((low, high), abs=1e-14)
    assert test.paired
    assert math.isnan(test.df)


@pytest.mark.parametrize(
    ("a", "b", "t", "p"),
    [  # pROC tests/testthat/test-roc.test.R, paired = FALSE
        (WFNS, S100B, 1.43490640926908, 0.152825378808796),
        (WFNS, NDKA, 3.10125096778969, 0.00220950791756457),
        (NDKA, S100B, -1.55995743389685, 0.120192832430845),
    ],
)
def test_unpaired_tests_of_asah_are_those_of_proc(a: int, b: int, t: float, p: float) -> None:
    test = unpaired_of(estimates_of_asah(), a, b)
    assert test.statistic == pytest.approx(t, rel=1e-12)
    assert test.p_two_sided == pytest.approx(p, rel=1e-12)
    assert not test.paired


def test_one_sided_p_values_are_those_of_proc() -> None:
    # pROC tests/testthat/test-roc.test.R: wfns against s100b, "greater" and "less"
    estimates = estimates_of_asah()
    paired, unpaired = paired_test(estimates, WFNS, S100B), unpaired_of(estimates, WFNS, S100B)
    assert paired.p_greater == pytest.approx(0.0135878911145941, rel=1e-12)
    assert paired.p_less == pytest.approx(0.986412108885406, rel=1e-12)
    assert unpaired.p_greater == pytest.approx(0.076412689404398, rel=1e-12)
    assert unpaired.p_less == pytest.approx(0.923587310595602, rel=1e-12)


def test_the_difference_is_a_minus_b() -> None:
    estimates = estimates_of_asah()
    ab, ba = paired_test(estimates, WFNS, NDKA), paired_test(estimates, NDKA, WFNS)
    assert ab.difference == float(estimates.auc[WFNS] - estimates.auc[NDKA]) > 0
    assert (ba.difference, ba.statistic, ba.p_greater) == (-ab.difference, -ab.statistic, ab.p_less)
    assert (ba.interval.low, ba.interval.high) == pytest.approx((-ab.interval.high, -ab.interval.low), abs=1e-15)
    assert ba.p_two_sided == ab.p_two_sided


def test_the_overall_test_and_the_contrasts_of_the_ovarian_data_are_those_of_sas() -> None:
    # SAS/STAT User's Guide, PROC LOGISTIC, "Comparing Receiver Operating Characteristic Curves" (DeLong et al. 1988)
    table = read_table(published("delong1988_ovarian.csv"))
    scores = np.array([table.numbers(column) for column in ("albumin", "kg_score_10minus", "total_protein")])
    estimates = delong(scores, table.labels("popind"))
    overall = overall_test(estimates)
    assert (round(overall.statistic, 4), overall.df, round(overall.p, 4)) == (2.5340, 2, 0.2817)
    albumin, protein = paired_test(estimates, 0, 1), paired_test(estimates, 2, 1)
    assert (round(albumin.difference, 4), round(albumin.se, 4)) == (0.0108, 0.0953)
    assert (round(protein.difference, 4), round(protein.se, 4)) == (-0.0780, 0.1046)
    assert (round(albumin.p_two_sided, 4), round(protein.p_two_sided, 4)) == (0.9102, 0.4561)


def test_the_overall_test_of_two_areas_is_the_square_of_the_paired_one() -> None:
    scores, positive, _ = asah()
    estimates = delong(scores[:2], positive)
    overall, pair = overall_test(estimates), paired_test(estimates, 0, 1)
    assert overall.statistic == pytest.approx(pair.statistic**2, rel=1e-10)
    assert overall.p == pytest.approx(pair.p_two_sided, rel=1e-10)


def test_the_overall_test_loses_a_degree_when_two_methods_rank_alike() -> None:
    scores, positive, _ = asah()
    with_copy = overall_test(delong(np.vstack((scores[:2], scores[0] * 2)), positive))
    pair = paired_test(delong(scores[:2], positive), 0, 1)
    assert with_copy.df == 1
    assert with_copy.statistic == pytest.approx(pair.statistic**2, rel=1e-8)
    alone = overall_test(delong(np.vstack((scores[0], scores[0])), positive))
    assert (alone.statistic, alone.df, alone.p) == (0.0, 0, 1.0)


def test_the_p_value_agrees_with_a_permutation_test() -> None:
    # Swapping the two scores of a case is free under the null hypothesis, once both are ranks.
    generator = np.random.default_rng(11)
    positive = np.arange(200) % 2 == 0
    shared = generator.normal(size=200) + positive
    scores = np.argsort(np.argsort(shared + generator.normal(size=(2, 200)) * [[1.0], [1.4]], axis=1), axis=1) * 1.0
    observed = abs(auc(scores[0], positive) - auc(scores[1], positive))
    hits = 0
    for _ in range(2000):
        swap = generator.random(200) < 0.5
        a, b = np.where(swap, scores[1], scores[0]), np.where(swap, scores[0], scores[1])
        hits += abs(auc(a, positive) - auc(b, positive)) >= observed - 1e-12
    assert paired_test(delong(scores, positive), 0, 1).p_two_sided == pytest.approx(hits / 2000, abs=0.04)


def test_identical_scores_test_as_equal_with_p_one() -> None:
    scores, positive, _ = asah()
    test = paired_test(delong(np.vstack((scores[0], scores[0])), positive), 0, 1)  # as pROC: Z = 0, p = 1
    assert (test.statistic, test.p_two_sided, test.difference) == (0.0, 1.0, 0.0)


def test_an_interval_past_one_is_given_as_computed_with_a_warning() -> None:
    interval = auc_interval(0.98, 0.0004)
    assert interval.high == pytest.approx(0.98 + 1.959963984540054 * 0.02, abs=1e-15)
    assert interval.warnings == ("the interval passes 1 (1.0192): given as computed, not clipped",)
    assert auc_interval(0.02, 0.0004).warnings == (
        "the interval passes 0 (-0.0191993): given as computed, not clipped",
    )


def test_the_logit_interval_is_the_delta_method_and_stays_inside() -> None:
    interval = auc_interval(0.98, 0.0004, 0.9, scale="logit")
    centre, width = math.log(49), 1.6448536269514722 * 0.02 / (0.98 * 0.02)
    assert interval.low == pytest.approx(1 / (1 + math.exp(-(centre - width))), abs=1e-15)
    assert interval.high == pytest.approx(1 / (1 + math.exp(-(centre + width))), abs=1e-15)
    assert (interval.level, interval.method, interval.warnings) == (0.9, "delong-logit", ())


def test_perfect_separation_states_the_point_and_says_that_it_is_no_interval() -> None:
    interval = auc_interval(1.0, 0.0)
    assert (interval.low, interval.high) == (1.0, 1.0)
    assert interval.warnings == ("the AUC is 1 with variance 0: DeLong gives no interval there, [1, 1] is the point",)
    logit = auc_interval(1.0, 0.0, scale="logit")
    assert math.isnan(logit.low)
    assert "the logit has no value" in logit.warnings[0]


def test_the_bound_of_a_perfect_area_is_clopper_and_pearsons() -> None:
    assert separation_bound(20, 50) == pytest.approx(0.025 ** (1 / 20), abs=1e-15)
    assert 1 - separation_bound(20, 50) == pytest.approx(0.1684335, abs=1e-7)  # R: binom.test(0, 20)$conf.int[2]


def test_an_undefined_variance_leaves_test_and_interval_null_with_a_reason() -> None:
    estimates = delong([[1.0, 2.0, 3.0], [2.0, 1.0, 3.0]], [False, False, True])
    test = paired_test(estimates, 0, 1)
    assert math.isnan(test.statistic)
    assert math.isnan(test.p_two_sided)
    assert "two cases" in test.warnings[0]
    assert math.isnan(auc_interval(1.0, math.nan).low)
    assert math.isnan(overall_test(estimates).statistic)


def test_areas_that_differ_without_variance_have_no_test() -> None:
    test = paired_test(delong([[1.0, 2.0, 3.0, 4.0], [4.0, 3.0, 2.0, 1.0]], [False, False, True, True]), 0, 1)
    assert test.difference == 1.0
    assert math.isnan(test.p_two_sided)
    assert "variance 0" in test.warnings[0]


@pytest.mark.parametrize("level", [0.0, 1.0, 95.0, -0.5, math.nan])
def test_a_level_outside_zero_to_one_is_refused(level: float) -> None:
    with pytest.raises(RadserveError, match="confidence level") as caught:
        auc_interval(0.8, 0.01, level)
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT


def test_an_unknown_scale_and_a_lone_overall_area_are_refused() -> None:
    with pytest.raises(RadserveError, match="interval scale: got 'probit'"):
        auc_interval(0.8, 0.01, scale="probit")  # type: ignore[arg-type]
    with pytest.raises(RadserveError, match="overall test: got 1 score"):
        overall_test(delong([1.0, 2.0], [False, True]))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_that_of_statsmodels(p_values: list[float]) -> None:
    expected = adjusted_by_statsmodels(p_values, "holm")
    assert np.allclose(holm(np.array(p_values)), expected, rtol=1e-12, atol=0)


def test_holm_leaves_undefined_p_values_out_of_the_count() -> None:
    adjusted = holm(np.array([0.01, math.nan, 0.03]))
    assert adjusted[[0, 2]].tolist() == [0.02, 0.03]
    assert math.isnan(adjusted[1])
