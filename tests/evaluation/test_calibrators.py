"""Calibrators against scikit-learn, scipy's minimiser, and what each of them may not change."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize, minimize_scalar
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import roc_auc_score

from radserve.errors import RadserveError
from radserve.evaluation.calibration import assess_calibration
from radserve.evaluation.calibrators import Isotonic, Method, Platt, Temperature, fit, logits, scores_for

Labels = npt.NDArray[np.bool_]
Scores = npt.NDArray[np.float64]


def overconfident(n: int = 2000, seed: int = 3) -> tuple[Labels, Scores]:
    """Logits that are 2.5 times too large."""
    rng = np.random.default_rng(seed)
    true = rng.normal(-0.5, 1.5, n)
    return rng.random(n) < 1 / (1 + np.exp(-true)), 2.5 * true


def log_loss(labels: Labels, scores: Scores) -> float:
    return float(np.sum(np.logaddexp(0, np.where(labels, -scores, scores))))


def test_temperature_finds_the_planted_one_and_equals_a_minimiser() -> None:
    labels, scores = overconfident()
    fitted = fit(Method.TEMPERATURE, labels, scores)
    assert isinstance(fitted, Temperature)
    best = minimize_scalar(
        lambda t: log_loss(labels, scores / t), bounds=(0.1, 10), method="bounded", options={"xatol": 1e-10}
    )
    assert fitted.temperature == pytest.approx(best.x, rel=1e-6)
    assert fitted.temperature == pytest.approx(2.5, abs=0.25)


@given(st.floats(0.05, 20))
@settings(max_examples=50, deadline=None)
def test_temperature_never_changes_the_auc(temperature: float) -> None:
    labels, scores = overconfident(300)
    changed = Temperature(temperature).apply(logits(1 / (1 + np.exp(-scores / 5))))
    assert roc_auc_score(labels, changed) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)


def test_a_temperature_fit_lowers_the_calibration_error_of_another_set_and_keeps_its_auc() -> None:
    labels, scores = overconfident(seed=3)
    other_labels, other_scores = overconfident(seed=4)
    fitted = fit(Method.TEMPERATURE, labels, scores)
    before = 1 / (1 + np.exp(-other_scores))
    after = fitted.apply(other_scores)
    assert assess_calibration(other_labels, after).errors.l1 < assess_calibration(other_labels, before).errors.l1 / 2
    assert roc_auc_score(other_labels, after) == roc_auc_score(other_labels, other_scores)


def test_platt_equals_the_minimum_of_his_loss() -> None:
    labels, scores = overconfident()
    fitted = fit(Method.PLATT, labels, scores)
    assert isinstance(fitted, Platt)
    positives, negatives = labels.sum(), (~labels).sum()
    targets = np.where(labels, (positives + 1) / (positives + 2), 1 / (negatives + 2))

    def loss(weights: Scores) -> float:
        z = weights[0] * scores + weights[1]
        return float(np.sum(np.logaddexp(0, z) - targets * z))

    best = minimize(loss, [1.0, 0.0], method="Nelder-Mead", options={"xatol": 1e-10, "fatol": 1e-10}).x
    assert (fitted.slope, fitted.intercept) == pytest.approx(tuple(best), rel=1e-5, abs=1e-7)


def test_platt_is_finite_on_separated_classes_and_on_large_scores() -> None:
    fitted = fit(Method.PLATT, np.array([False, False, True, True]), np.array([-900.0, -1.0, 1.0, 800.0]))
    assert np.isfinite(fitted.apply(np.array([-1e3, 0.0, 1e3]))).all()


def test_isotonic_equals_scikit_learn_also_between_and_outside_the_knots() -> None:
    labels, scores = overconfident(400)
    probabilities = np.round(1 / (1 + np.exp(-scores)), 2)  # ties
    fitted = fit(Method.ISOTONIC, labels, probabilities)
    assert isinstance(fitted, Isotonic)
    reference = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(probabilities, labels)
    at = np.linspace(0, 1, 1001)
    np.testing.assert_allclose(fitted.apply(at), reference.predict(at), atol=1e-12)
    assert not fitted.scores.flags.writeable


def test_probabilities_of_0_and_1_are_fitted_with_a_warning_and_stay_where_they_are() -> None:
    probabilities = np.array([0.0, 0.2, 0.6, 0.7, 1.0, 0.4])
    labels = np.array([False, True, False, True, True, False])
    fitted = fit(Method.TEMPERATURE, labels, scores_for(Method.TEMPERATURE, probabilities))
    assert "0 or 1" in fitted.warnings[0]
    after = fitted.apply(scores_for(Method.TEMPERATURE, probabilities))
    assert (after[0], after[4]) == (0.0, 1.0)


def test_scores_that_fall_with_the_label_stop_at_the_limit_and_say_so() -> None:
    labels, scores = overconfident(300)
    fitted = fit(Method.TEMPERATURE, ~labels, scores)
    assert "do not rise" in fitted.warnings[0]
    assert "not positive" in fit(Method.PLATT, ~labels, scores).warnings[0]
    perfect = fit(Method.TEMPERATURE, scores > 0, scores)
    assert "separates" in perfect.warnings[0]


@pytest.mark.parametrize("method", list(Method))
def test_one_class_and_equal_scores_are_refused(method: Method) -> None:
    with pytest.raises(RadserveError, match="one class only"):
        fit(method, np.array([True, True]), np.array([0.1, 0.2]))
    with pytest.raises(RadserveError, match="same score"):
        fit(method, np.array([True, False]), np.array([0.1, 0.1]))
