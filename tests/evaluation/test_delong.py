"""DeLong's covariance against pROC's printed values, SAS's, and the O(n^2) definition; Obuchowski's for clusters."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from radserve.errors import RadserveError
from radserve.evaluation.delong import clustered_delong, delong, placements
from radserve.evaluation.tables import BoolArray, FloatArray, read_table
from tests.evaluation.published import asah, published


def covariance_by_definition(scores: FloatArray, positive: BoolArray) -> FloatArray:
    """DeLong et al. (1988), equations 2 to 6, pair by pair."""
    kernels = [np.heaviside(row[positive][:, None] - row[~positive][None, :], 0.5) for row in scores]
    of_positives = np.array([kernel.mean(axis=1) for kernel in kernels])
    of_negatives = np.array([kernel.mean(axis=0) for kernel in kernels])
    m, n = of_positives.shape[1], of_negatives.shape[1]
    return np.atleast_2d(np.cov(of_positives)) / m + np.atleast_2d(np.cov(of_negatives)) / n


def random_scores(seed: int, k: int = 3, n: int = 60, ties: bool = True) -> tuple[FloatArray, BoolArray]:
    generator = np.random.default_rng(seed)
    positive = np.arange(n) % 3 == 0
    scores = generator.normal(size=(k, n)) + generator.normal(size=n) + positive
    return (scores.round() if ties else scores), positive


@given(st.integers(0, 10**6), st.booleans())
@settings(max_examples=50)
def test_the_covariance_is_that_of_the_definition(seed: int, ties: bool) -> None:
    scores, positive = random_scores(seed, ties=ties)
    assert np.allclose(delong(scores, positive).covariance, covariance_by_definition(scores, positive), atol=1e-15)


def test_variances_and_covariances_of_asah_are_those_of_proc() -> None:
    # pROC tests/testthat/test-var.R and test-cov.R
    scores, positive, _ = asah()
    estimates = delong(scores, positive)
    assert estimates.variance == pytest.approx(
        [0.00146991470882363, 0.00266868245717244, 0.0031908105493913], abs=1e-16
    )
    assert estimates.covariance[0, 2] == pytest.approx(-0.000532967856762438, abs=1e-16)
    assert estimates.covariance[2, 1] == pytest.approx(-0.000756164938056579, abs=1e-16)
    assert estimates.covariance[1, 0] == pytest.approx(0.00119615567376754, abs=1e-16)
    assert (estimates.n_positive, estimates.n_negative) == (41, 72)


def test_areas_and_errors_of_the_ovarian_data_are_those_of_sas() -> None:
    # SAS/STAT User's Guide, PROC LOGISTIC, "Comparing Receiver Operating Characteristic Curves" (DeLong et al. 1988)
    table = read_table(published("delong1988_ovarian.csv"))
    scores = np.array([table.numbers(column) for column in ("albumin", "kg_score_10minus", "total_protein")])
    estimates = delong(scores, table.labels("popind"))
    assert estimates.auc.round(4).tolist() == [0.7366, 0.7258, 0.6478]
    assert np.sqrt(estimates.variance).round(4).tolist() == [0.0927, 0.1028, 0.1000]


@given(st.integers(0, 10**6))
@settings(max_examples=25)
def test_the_variance_of_a_difference_agrees_with_the_covariance(seed: int) -> None:
    scores, positive = random_scores(seed)
    estimates = delong(scores, positive)
    expected = estimates.covariance[0, 0] + estimates.covariance[1, 1] - 2 * estimates.covariance[0, 1]
    assert estimates.difference_variance[0, 1] == pytest.approx(expected, abs=1e-15)
    assert np.array_equal(estimates.difference_variance, estimates.difference_variance.T)


@given(st.integers(0, 10**6))
@settings(max_examples=25)
def test_label_swaps_and_monotone_transforms_keep_the_covariance(seed: int) -> None:
    scores, positive = random_scores(seed)
    estimates, swapped = delong(scores, positive), delong(scores, ~positive)
    assert np.allclose(swapped.auc, 1 - estimates.auc, rtol=0, atol=1e-15)
    assert np.allclose(swapped.covariance, estimates.covariance, rtol=1e-10, atol=1e-18)
    assert np.array_equal(delong(np.arctan(scores / 9), positive).covariance, estimates.covariance)


@given(st.integers(0, 10**6), st.integers(2, 4))
@settings(max_examples=25)
def test_copies_of_all_cases_shrink_the_variance_as_the_definition_does(seed: int, times: int) -> None:
    scores, positive = random_scores(seed, k=1)
    once, copied = delong(scores, positive), delong(np.tile(scores, times), np.tile(positive, times))
    placed = placements(scores, positive)
    m, n = once.n_positive, once.n_negative
    of_positives, of_negatives = placed.of_positives[0].var(), placed.of_negatives[0].var()
    assert copied.covariance[0, 0] == pytest.approx(
        of_positives / (times * m - 1) + of_negatives / (times * n - 1), rel=1e-10, abs=0
    )


def test_methods_that_rank_alike_have_a_difference_of_variance_zero_exactly() -> None:
    scores, positive = random_scores(1, k=1, n=999, ties=False)
    estimates = delong(np.array([scores[0], np.exp(scores[0] / 3)]), positive)
    assert estimates.difference_variance[0, 1] == 0.0


def test_a_difference_in_one_pair_of_cases_of_many_keeps_its_variance() -> None:
    n = 200_000
    first = np.arange(n, dtype=np.float64)
    positive = np.arange(n) % 2 == 1
    second = first.copy()
    second[[0, 1]] = second[[1, 0]]
    estimates = delong(np.array([first, second]), positive)
    # one placement of each class changes, by 1 / (n / 2)
    half = n / 2
    by_hand = 2 * ((1 / half) ** 2 - half * (1 / half**2) ** 2) / (half * (half - 1))
    assert estimates.difference_variance[0, 1] == pytest.approx(by_hand, rel=1e-6, abs=0)
    naive = estimates.covariance[0, 0] + estimates.covariance[1, 1] - 2 * estimates.covariance[0, 1]
    assert naive != pytest.approx(by_hand, rel=1e-2, abs=0)  # the usual formula loses its digits


def test_perfect_separation_has_variance_zero() -> None:
    estimates = delong([1.0, 2.0, 3.0, 4.0], [False, False, True, True])
    assert (estimates.auc[0], estimates.covariance[0, 0]) == (1.0, 0.0)


def test_a_single_case_of_a_class_leaves_the_variance_undefined() -> None:
    estimates = delong([1.0, 2.0, 3.0], [False, False, True])
    assert estimates.auc[0] == 1.0
    assert math.isnan(estimates.covariance[0, 0])


def test_arrays_between_stages_cannot_be_written() -> None:
    placed = placements([1.0, 2.0], [False, True])
    for array in (placed.auc, placed.of_positives, placed.of_negatives, delong([1.0, 2.0], [0, 1]).covariance):
        assert not array.flags.writeable


def test_an_error_names_the_score() -> None:
    with pytest.raises(RadserveError, match="column 'b', row 2: got nan"):
        delong([[0.0, 1.0], [0.0, math.nan]], [0, 1], names=["a", "b"])


@given(st.integers(0, 10**6))
@settings(max_examples=25)
def test_clusters_of_one_case_give_delong(seed: int) -> None:
    scores, positive = random_scores(seed)
    clustered = clustered_delong(scores, positive, np.arange(len(positive)))
    assert np.allclose(clustered.covariance, delong(scores, positive).covariance, rtol=1e-12, atol=0)


def test_the_clustered_variance_is_obuchowskis_formula() -> None:
    scores, positive = random_scores(5, k=1)
    clusters = np.arange(60) // 4
    placed = placements(scores, positive)
    theta, m, n = placed.auc[0], positive.sum(), (~positive).sum()
    sums = {}
    for cluster in range(15):  # Obuchowski 1997, section 3, written out
        of_positives = placed.of_positives[0][clusters[positive] == cluster]
        of_negatives = placed.of_negatives[0][clusters[~positive] == cluster]
        sums[cluster] = (of_positives.sum() - len(of_positives) * theta, of_negatives.sum() - len(of_negatives) * theta)
    with_positive = len({int(c) for c in clusters[positive]})
    with_negative = len({int(c) for c in clusters[~positive]})
    s10 = with_positive / ((with_positive - 1) * m) * sum(x**2 for x, _ in sums.values())
    s01 = with_negative / ((with_negative - 1) * n) * sum(y**2 for _, y in sums.values())
    s11 = 15 / 14 * sum(x * y for x, y in sums.values())
    expected = s10 / m + s01 / n + 2 * s11 / (m * n)
    assert clustered_delong(scores, positive, clusters).covariance[0, 0] == pytest.approx(expected, rel=1e-12)


def test_copies_of_a_patient_do_not_narrow_the_clustered_variance() -> None:
    scores, positive = random_scores(9, k=1, ties=False)
    patients = np.arange(len(positive))
    once = delong(scores, positive).covariance[0, 0]
    four_times = (np.tile(scores, 4), np.tile(positive, 4))
    naive = delong(*four_times).covariance[0, 0]
    clustered = clustered_delong(*four_times, np.tile(patients, 4)).covariance[0, 0]
    assert naive < 0.3 * once
    assert clustered == pytest.approx(once, rel=1e-9)


def test_a_class_in_one_cluster_only_leaves_the_variance_undefined() -> None:
    estimates = clustered_delong([1.0, 2.0, 3.0, 4.0], [0, 0, 1, 1], ["a", "b", "c", "c"])
    assert math.isnan(estimates.covariance[0, 0])
