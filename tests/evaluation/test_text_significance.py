"""Paired approximate randomisation against full enumeration; bootstrap intervals against the normal ones."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from radserve.errors import RadserveError
from radserve.evaluation.labeller_scores import f1_from_counts
from radserve.evaluation.text_significance import FloatArray, approximate_randomisation, bootstrap_interval

A = np.array([0.9, 0.8, 0.75, 0.6, 0.95, 0.7, 0.85, 0.5, 0.65, 0.9])
B = np.array([0.7, 0.85, 0.6, 0.55, 0.7, 0.72, 0.6, 0.45, 0.6, 0.8])


def exact_p(a: FloatArray, b: FloatArray) -> tuple[float, float]:
    """All 2^n swaps: two-sided and one-sided (A better) p."""
    observed = (a - b).mean()
    swaps = np.array(list(itertools.product((1, -1), repeat=len(a))))
    drawn = (swaps * (a - b)).mean(axis=1)
    return float((np.abs(drawn) >= abs(observed) - 1e-12).mean()), float((drawn >= observed - 1e-12).mean())


def test_p_values_are_those_of_all_swaps() -> None:
    two_sided, greater = exact_p(A, B)
    test = approximate_randomisation(A, B, samples=40_000, seed=3)
    assert test.difference == pytest.approx((A - B).mean())
    assert test.p_two_sided == pytest.approx(two_sided, abs=4 * np.sqrt(two_sided / 40_000))
    assert test.p_greater == pytest.approx(greater, abs=4 * np.sqrt(greater / 40_000))
    assert test.p_less > 0.9


def test_exchanging_the_systems_turns_the_sign_and_the_sides() -> None:
    forth, back = approximate_randomisation(A, B, seed=1), approximate_randomisation(B, A, seed=1)
    assert back.difference == -forth.difference
    assert back.p_two_sided == pytest.approx(forth.p_two_sided, abs=0.01)
    assert back.p_less == pytest.approx(forth.p_greater, abs=0.01)


def test_equal_systems_have_p_1() -> None:
    test = approximate_randomisation(A, A, samples=500)
    assert (test.difference, test.p_two_sided, test.p_greater, test.p_less) == (0.0, 1.0, 1.0, 1.0)


def test_the_seed_decides_and_nothing_else() -> None:
    assert approximate_randomisation(A, B, seed=5) == approximate_randomisation(A, B, seed=5)
    assert approximate_randomisation(A, B, seed=5).p_two_sided != approximate_randomisation(A, B, seed=6).p_two_sided


def test_p_is_never_0() -> None:
    rng = np.random.default_rng(0)
    test = approximate_randomisation(rng.normal(5, 1, 200), rng.normal(0, 1, 200), samples=999)
    assert test.p_two_sided == pytest.approx(1 / 1000)


def test_under_no_difference_p_is_uniform() -> None:
    rng = np.random.default_rng(11)
    p = [
        approximate_randomisation(rng.normal(size=30), rng.normal(size=30), samples=199, seed=each).p_two_sided
        for each in range(400)
    ]
    assert np.mean(np.array(p) <= 0.05) == pytest.approx(0.05, abs=0.035)
    assert np.mean(p) == pytest.approx(0.5, abs=0.05)


def test_corpus_scores_are_recomputed_from_sums() -> None:
    a = np.array([[3, 0, 1], [0, 2, 0], [4, 1, 1]])
    b = np.array([[1, 1, 3], [0, 0, 0], [2, 1, 3]])
    test = approximate_randomisation(a, b, lambda total, _: f1_from_counts(total.astype(np.int64)), samples=2000)
    assert test.difference == pytest.approx(14 / 19 - 6 / 14)


def test_the_bootstrap_interval_of_a_mean_is_near_the_normal_one() -> None:
    values = np.random.default_rng(2).normal(0.5, 0.1, 400)
    interval = bootstrap_interval(values, samples=4000, seed=1)
    reach = 1.96 * values.std() / 20
    assert interval.low == pytest.approx(values.mean() - reach, abs=0.1 * reach)
    assert interval.high == pytest.approx(values.mean() + reach, abs=0.1 * reach)


def test_different_shapes_a_nan_and_no_samples_are_refused() -> None:
    with pytest.raises(RadserveError, match="expected \\(10, 1\\) as for A"):
        approximate_randomisation(A, B[:9])
    with pytest.raises(RadserveError, match="for report 2"):
        approximate_randomisation(A, np.array([0.1, np.nan, *B[2:]]))
    with pytest.raises(RadserveError, match="samples: got 0"):
        approximate_randomisation(A, B, samples=0)
    with pytest.raises(RadserveError, match="level: got 1"):
        bootstrap_interval(A, level=1)


def test_an_undefined_score_is_refused() -> None:
    nothing = np.zeros((4, 3))
    with pytest.raises(RadserveError, match="undefined"):
        bootstrap_interval(nothing, lambda total, _: f1_from_counts(total.astype(np.int64)))
