"""Calibration, threshold and band against scikit-learn, brute force and cases that can be done by hand."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from radserve.models.train.calibrate import calibrate, conformal_band, youden_threshold


def _logits(temperature: float, count: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(1)
    true = generator.normal(0, 2, count)
    return true * temperature, generator.random(count) < 1 / (1 + np.exp(-true))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_that_distorted_the_logits_is_found(temperature: float) -> None:
    fitted = calibrate(*_logits(temperature))
    assert fitted.temperature == pytest.approx(temperature, rel=0.08)


def test_slope_and_offset_are_those_of_an_unpenalised_logistic_regression() -> None:
    logits, positive = _logits(2.0, 300)
    fitted = calibrate(logits + 1.5, positive)
    reference = LogisticRegression(C=np.inf).fit(logits[:, None] + 1.5, positive)
    assert 1 / fitted.temperature == pytest.approx(reference.coef_[0, 0], rel=1e-3)
    assert fitted.offset == pytest.approx(reference.intercept_[0], abs=1e-3)
    expected = log_loss(positive, reference.predict_proba(logits[:, None] + 1.5)[:, 1])
    assert fitted.negative_log_likelihood == pytest.approx(expected, abs=1e-6)


def test_perturbed_views_are_fitted_as_well_and_leave_the_threshold_where_it_was() -> None:
    logits, positive = _logits(1.0, 300)
    weaker = logits / 3
    plain, fitted = calibrate(logits, positive), calibrate(logits, positive, [weaker])
    reference = LogisticRegression(C=np.inf).fit(np.concatenate([logits, weaker])[:, None], np.tile(positive, 2))
    assert 1 / fitted.temperature == pytest.approx(reference.coef_[0, 0], rel=1e-3)
    assert fitted.operating_logit == pytest.approx(plain.operating_logit, abs=0.05)
    own = LogisticRegression(C=np.inf).fit(logits[:, None], positive)
    assert plain.negative_log_likelihood == pytest.approx(log_loss(positive, own.predict_proba(logits[:, None])[:, 1]))
    assert fitted.negative_log_likelihood > plain.negative_log_likelihood


def test_the_threshold_has_the_best_sensitivity_plus_specificity_of_all_cuts() -> None:
    logits, positive = _logits(1.0, 200)
    probabilities = 1 / (1 + np.exp(-logits))

    def youden(cut: float) -> float:
        return float((probabilities[positive] >= cut).mean() + (probabilities[~positive] < cut).mean())

    best = max(youden(cut) for cut in np.linspace(0, 1, 2001))
    assert youden(youden_threshold(probabilities, positive)) == pytest.approx(best, abs=1e-9)


def test_a_perfect_split_is_cut_in_the_middle_of_the_gap() -> None:
    probabilities, positive = np.array([0.1, 0.4, 0.8, 0.9]), np.array([False, False, True, True])
    assert youden_threshold(probabilities, positive) == pytest.approx(0.6)


def test_the_operating_logit_is_where_the_probability_is_the_threshold() -> None:
    fitted = calibrate(*_logits(2.0, 300))
    assert fitted.probabilities(np.array([fitted.operating_logit]))[0] == pytest.approx(fitted.threshold)


def test_the_band_leaves_the_stated_share_of_either_class_on_the_wrong_side() -> None:
    generator = np.random.default_rng(3)
    logits = np.concatenate([generator.normal(-0.7, 1, 20_000), generator.normal(0.7, 1, 20_000)])
    probabilities, positive = 1 / (1 + np.exp(-logits)), np.arange(40_000) >= 20_000
    fit, new = np.arange(40_000) % 2 == 0, np.arange(40_000) % 2 == 1
    band = conformal_band(probabilities[fit], positive[fit], 0.1)
    assert band is not None
    assert (probabilities[new & positive] < band[0]).mean() == pytest.approx(0.1, abs=0.01)
    assert (probabilities[new & ~positive] > band[1]).mean() == pytest.approx(0.1, abs=0.01)


def test_classes_that_are_apart_have_no_band() -> None:
    probabilities, positive = np.array([0.1, 0.2, 0.8, 0.9]), np.array([False, False, True, True])
    assert conformal_band(probabilities, positive, 0.1) is None


def test_the_threshold_lies_inside_the_band() -> None:
    fitted = calibrate(*_logits(1.0, 300))
    assert fitted.cannot_assess is not None
    assert fitted.cannot_assess[0] <= fitted.threshold <= fitted.cannot_assess[1]
