"""Support by label, and predictive values under a shifted prevalence: against Bayes, weights and published formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import precision_score
from statsmodels.stats.proportion import proportion_confint

from radserve.errors import ErrorCode, RadserveError
from radserve.evaluation.prevalence import GRID, PrevalenceShift, prevalence_shift, support
from radserve.evaluation.tables import BoolArray, FloatArray


def cohort(n: int = 400, seed: int = 0) -> tuple[BoolArray, FloatArray]:
    rng = np.random.default_rng(seed)
    labels = rng.random(n) < 0.35
    return labels, rng.normal(labels * 1.5, 1)


def test_the_table_counts_each_label_over_all_and_by_group() -> None:
    positive = np.array([True, False, False, True, False, False])
    known = np.array([True, True, True, True, True, False])
    rows = support({"Mass": (positive, known)}, ["b", "b", "a", "a", "a", "a"])
    assert [(r.label, r.group, r.n, r.n_missing, r.n_positive, r.n_negative) for r in rows] == [
        ("Mass", "(all)", 5, 1, 2, 3),
        ("Mass", "a", 3, 1, 1, 2),
        ("Mass", "b", 2, 0, 1, 1),
    ]
    share = rows[0].prevalence
    assert share.value == 0.4
    assert (share.low, share.high) == pytest.approx(proportion_confint(2, 5, method="wilson"), abs=1e-14)


def test_predictive_values_are_those_of_bayes_over_the_whole_grid() -> None:
    labels, scores = cohort()
    found = prevalence_shift(labels, scores, threshold=0.8, draws=10)
    sensitivity, specificity = np.mean(scores[labels] >= 0.8), np.mean(scores[~labels] < 0.8)
    assert [each.prevalence for each in found.grid] == list(GRID)
    for each in found.grid:
        p = each.prevalence
        positive_call = sensitivity * p + (1 - specificity) * (1 - p)
        assert each.ppv == pytest.approx(sensitivity * p / positive_call, abs=1e-14)
        assert each.npv == pytest.approx(specificity * (1 - p) / (1 - positive_call), abs=1e-14)


def test_predictive_values_are_the_precision_of_cases_weighted_to_the_prevalence() -> None:
    labels, scores = cohort(seed=1)
    for each in prevalence_shift(labels, scores, threshold=0.5, draws=10).grid:
        p = each.prevalence
        weights = np.where(labels, p / labels.mean(), (1 - p) / (1 - labels.mean()))
        ppv = precision_score(labels, scores >= 0.5, sample_weight=weights)
        npv = precision_score(~labels, scores < 0.5, sample_weight=weights)
        assert (each.ppv, each.npv) == pytest.approx((ppv, npv), abs=1e-12)


def test_at_the_prevalence_of_the_data_they_are_the_datas_own() -> None:
    labels, scores = cohort(seed=2)
    found = prevalence_shift(labels, scores, threshold=0.5, grid=[float(labels.mean())], draws=10)
    assert found.observed_prevalence == pytest.approx(labels.mean())
    assert found.grid[0].ppv == pytest.approx(labels[scores >= 0.5].mean(), abs=1e-14)


def test_the_logit_intervals_cover_at_their_level() -> None:
    # normal scores: sensitivity and specificity at 0.75 are both Phi(0.75), so the true PPV is known
    share, p = 0.7733726476231317, 0.05
    true = share * p / (share * p + (1 - share) * (1 - p))
    hits = []
    for seed in range(400):
        each = prevalence_shift(*cohort(300, 100 + seed), threshold=0.75, grid=[p], draws=1).grid[0]
        hits.append(each.ppv_ci[0] <= true <= each.ppv_ci[1])
    assert np.mean(hits) == pytest.approx(0.95, abs=3 * math.sqrt(0.95 * 0.05 / 400))


def shifted(**options: int) -> PrevalenceShift:
    labels, scores = cohort(seed=3)
    return prevalence_shift(labels, scores, threshold=0.5, grid=[0.1], **options)


def test_simulated_cohorts_agree_with_bayes_and_narrow_with_their_size() -> None:
    small, large = shifted(studies=200, draws=4000).grid[0], shifted(studies=20_000, draws=4000).grid[0]
    assert large.simulated_ppv.mean == pytest.approx(large.ppv, abs=0.002)
    assert large.simulated_npv.mean == pytest.approx(large.npv, abs=0.002)
    assert small.simulated_ppv.low < small.ppv < small.simulated_ppv.high
    ratio = (small.simulated_ppv.high - small.simulated_ppv.low) / (large.simulated_ppv.high - large.simulated_ppv.low)
    assert ratio == pytest.approx(10, rel=0.15)  # 1 / sqrt of the studies
    assert shifted(draws=50) == shifted(draws=50)
    assert shifted(draws=50, seed=1) != shifted(draws=50)


def test_a_perfect_score_has_no_logit_interval_and_says_so() -> None:
    labels = np.array([True, False] * 10)
    found = prevalence_shift(labels, labels * 1.0, threshold=0.5, grid=[0.01], draws=10)
    assert (found.grid[0].ppv, found.grid[0].npv) == (1.0, 1.0)
    assert math.isnan(found.grid[0].ppv_ci[0])
    assert "sensitivity is 1: the logit intervals of PPV and NPV are null" in found.warnings


def test_a_threshold_that_calls_nobody_has_no_ppv() -> None:
    labels, scores = cohort()
    found = prevalence_shift(labels, scores, threshold=99.0, grid=[0.1], draws=10)
    assert math.isnan(found.grid[0].ppv) and math.isnan(found.grid[0].simulated_ppv.mean)
    assert found.grid[0].npv == pytest.approx(0.9)
    assert "no case is called positive: PPV is null" in found.warnings


@pytest.mark.parametrize("grid", [[], [0.0], [0.5, 1.0], [math.nan]])
def test_a_grid_outside_0_to_1_is_refused(grid: list[float]) -> None:
    labels, scores = cohort()
    with pytest.raises(RadserveError, match="prevalence grid") as caught:
        prevalence_shift(labels, scores, threshold=0.5, grid=grid)
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT
