"""Calibration measures against their definitions, torch's bucketing, scikit-learn and statsmodels."""

from __future__ import annotations

from itertools import product

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss
from statsmodels.stats.proportion import proportion_confint

from radserve.errors import ErrorCode, RadserveError
from radserve.evaluation.calibration import (
    Binning,
    assess_calibration,
    bin_index,
    brier_parts,
    brier_score,
    calibration_errors,
    debiased_square,
    reliability_curve,
)

Labels = npt.NDArray[np.bool_]
Scores = npt.NDArray[np.float64]


def sample(n: int = 500, seed: int = 1) -> tuple[Labels, Scores]:
    rng = np.random.default_rng(seed)
    probabilities = rng.beta(0.6, 0.9, n)
    return rng.random(n) < probabilities**1.4, probabilities


def errors_by_loop(labels: Labels, probabilities: Scores, n_bins: int) -> tuple[float, float, float]:
    """torchmetrics' binary calibration error by its definition: buckets [k/b, (k+1)/b), and one for exactly 1."""
    gaps = []
    for k in range(n_bins + 1):
        inside = [i for i, p in enumerate(probabilities) if k / n_bins <= p < (k + 1) / n_bins]
        if inside:
            gap = abs(sum(probabilities[i] for i in inside) - sum(bool(labels[i]) for i in inside)) / len(inside)
            gaps.append((len(inside) / len(labels), gap))
    return sum(w * g for w, g in gaps), sum(w * g * g for w, g in gaps) ** 0.5, max(g for _, g in gaps)


def test_the_errors_of_the_torchmetrics_documentation_are_found() -> None:
    """torchmetrics 1.x, BinaryCalibrationError, docstring example: 0.2900 (l1), 0.2918 (l2), 0.3167 (max)."""
    labels = np.array([False, False, True, True, True])
    bins = reliability_curve(labels, np.array([0.25, 0.25, 0.55, 0.75, 0.75]), n_bins=2)
    errors = calibration_errors(bins)
    assert errors.l1 == pytest.approx(0.2900, abs=5e-5)
    assert errors.l2 == pytest.approx(0.2918, abs=5e-5)
    assert errors.max == pytest.approx(0.3167, abs=5e-5)


@pytest.mark.parametrize("n_bins", [1, 7, 10, 15])
def test_errors_equal_the_definition_by_loop_with_ones_in_their_own_bucket(n_bins: int) -> None:
    labels, probabilities = sample()
    probabilities = probabilities.copy()
    probabilities[:5], probabilities[5:9] = 1.0, 0.0
    probabilities[9:30] = np.round(probabilities[9:30], 1)  # on the edges of bins
    errors = calibration_errors(reliability_curve(labels, probabilities, n_bins=n_bins))
    assert (errors.l1, errors.l2, errors.max) == pytest.approx(errors_by_loop(labels, probabilities, n_bins), abs=1e-13)


def test_the_debiased_square_is_the_true_one_on_average_over_every_possible_outcome() -> None:
    """All 2^9 outcomes of nine rows in three bins, each weighted by its probability."""
    stated, true, n_bins = np.repeat([0.2, 0.5, 0.8], [2, 3, 4]), np.repeat([0.3, 0.2, 0.9], [2, 3, 4]), 3
    debiased = plain = 0.0
    for outcome in product([False, True], repeat=9):
        labels = np.array(outcome)
        weight = float(np.prod(np.where(labels, true, 1 - true)))
        bins = reliability_curve(labels, stated, n_bins=n_bins)
        debiased += weight * debiased_square(bins)
        plain += weight * calibration_errors(bins).l2 ** 2
    expected = float(np.mean((stated - true) ** 2))
    assert debiased == pytest.approx(expected, abs=1e-12)
    assert plain > expected + 0.02


def test_what_chance_alone_explains_is_no_error_and_a_single_row_says_nothing() -> None:
    fair = reliability_curve(np.array([True, False, True, False]), np.full(4, 0.5), n_bins=5)
    assert debiased_square(fair) == pytest.approx(-1 / 12) and calibration_errors(fair).l2_debiased == 0
    alone = reliability_curve(np.array([True, False]), np.array([0.1, 0.9]), n_bins=5)
    assert debiased_square(alone) == 0 and calibration_errors(alone).l2 == pytest.approx(0.9)


def test_bins_of_equal_width_are_those_of_torch_bucketize() -> None:
    torch = pytest.importorskip("torch")
    _, probabilities = sample(3000)
    edges = torch.linspace(0, 1, 16, dtype=torch.float64)
    expected = torch.bucketize(torch.from_numpy(probabilities), edges, right=True).numpy() - 1
    np.testing.assert_array_equal(bin_index(probabilities, 15, Binning.EQUAL_WIDTH), expected)


def test_bins_of_equal_mass_have_equal_numbers_and_keep_ties_together_in_any_order() -> None:
    _, probabilities = sample(1000)
    counts = np.bincount(bin_index(probabilities, 10, Binning.EQUAL_MASS))
    assert counts.tolist() == [100] * 10
    tied = np.array([0.2] * 6 + [0.1, 0.9, 0.95, 0.3])
    order = np.random.default_rng(0).permutation(10)
    index = bin_index(tied, 5, Binning.EQUAL_MASS)
    assert len(set(index[:6].tolist())) == 1
    np.testing.assert_array_equal(bin_index(tied[order], 5, Binning.EQUAL_MASS), index[order])


def test_the_curve_equals_scikit_learn_and_its_intervals_statsmodels() -> None:
    labels, probabilities = sample()
    bins = reliability_curve(labels, probabilities, n_bins=10, ci_level=0.9)
    observed, mean = calibration_curve(labels, probabilities, n_bins=10)
    np.testing.assert_allclose([each.observed for each in bins], observed, atol=1e-15)
    np.testing.assert_allclose([each.mean_probability for each in bins], mean, atol=1e-15)
    for each in bins:
        expected = proportion_confint(each.n_positive, each.n, 0.1, method="wilson")
        assert each.observed_ci == pytest.approx(expected, abs=1e-12)


def test_the_brier_score_equals_scikit_learn() -> None:
    labels, probabilities = sample()
    assert brier_score(labels, probabilities) == pytest.approx(brier_score_loss(labels, probabilities), abs=1e-15)


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 1)), min_size=2, max_size=60), st.integers(1, 12))
@settings(max_examples=200, deadline=None)
def test_the_brier_parts_add_up_exactly(cases: list[tuple[bool, float]], n_bins: int) -> None:
    labels, probabilities = np.array([c[0] for c in cases]), np.array([c[1] for c in cases])
    for binning in Binning:
        parts = brier_parts(
            labels, probabilities, reliability_curve(labels, probabilities, n_bins=n_bins, binning=binning)
        )
        total = parts.reliability - parts.resolution + parts.uncertainty + parts.within_bin
        assert total == pytest.approx(parts.score, abs=1e-12)
        assert min(parts.reliability, parts.resolution, parts.uncertainty) >= 0


def test_slope_and_intercept_equal_statsmodels_logistic_regression() -> None:
    import statsmodels.api as sm

    labels, probabilities = sample()
    found = assess_calibration(labels, probabilities)
    design = sm.add_constant(np.log(probabilities / (1 - probabilities)))
    expected = sm.Logit(labels.astype(float), design).fit(disp=0, tol=1e-12, maxiter=100).params
    assert (found.intercept, found.slope) == pytest.approx(tuple(expected), rel=1e-8)
    assert found.observed_to_expected == pytest.approx(labels.sum() / probabilities.sum())


def test_undefined_values_of_a_small_site_are_null_with_their_reason() -> None:
    one_class = assess_calibration(np.array([False, False]), np.array([0.0, 0.0]))
    assert (one_class.slope, one_class.intercept, one_class.observed_to_expected) == (None, None, None)
    assert "one class only" in one_class.warnings[1]
    assert "all probabilities are 0" in one_class.warnings[0]
    separated = assess_calibration(np.array([False, False, True]), np.array([0.1, 0.2, 0.9]))
    assert separated.slope is None
    assert "separated" in separated.warnings[0]


@pytest.mark.parametrize("bad", [1.5, -0.01, float("nan"), float("inf")])
def test_a_value_that_is_no_probability_is_refused_with_row_and_value(bad: float) -> None:
    with pytest.raises(RadserveError, match=rf"row 2: got {bad}".replace("+", "")) as caught:
        brier_score(np.array([True, False]), np.array([0.5, bad]))
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT


def test_different_lengths_and_no_bins_are_refused() -> None:
    with pytest.raises(RadserveError, match="differ in length"):
        brier_score(np.array([True, False]), np.array([0.5]))
    with pytest.raises(RadserveError, match="bins: got 0"):
        reliability_curve(np.array([True, False]), np.array([0.5, 0.2]), n_bins=0)
