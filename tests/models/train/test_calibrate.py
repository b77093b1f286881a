"""Temperature and threshold against brute force and cases that can be done by hand."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import log_loss

from radserve.models.train.calibrate import calibrate, youden_threshold


def _logits(temperature: float, count: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(1)
    true = generator.normal(0, 2, count)
    return true * temperature, generator.random(count) < 1 / (1 + np.exp(-true))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_that_distorted_the_logits_is_found(temperature: float) -> None:
    fitted = calibrate(*_logits(temperature))
    assert fitted.temperature == pytest.approx(temperature, rel=0.08)


def test_no_temperature_of_a_fine_grid_has_a_lower_loss() -> None:
    logits, positive = _logits(2.0, 300)
    grid = [log_loss(positive, 1 / (1 + np.exp(-logits / each))) for each in np.linspace(0.2, 8, 400)]
    assert calibrate(logits, positive).negative_log_likelihood <= min(grid) + 1e-6


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
    assert 1 / (1 + np.exp(-fitted.operating_logit / fitted.temperature)) == pytest.approx(fitted.threshold)
