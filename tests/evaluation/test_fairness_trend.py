"""The periodic review: planted gaps and slopes are found, null data do not alarm beyond the stated rate."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm

from radserve.errors import ErrorCode, RadserveError
from radserve.evaluation.delong import delong
from radserve.evaluation.fairness import assess_fairness
from radserve.evaluation.fairness_trend import Period, fairness_trend


def period(number: int, seed: int, *, weaker: float = 0.0, n: int = 200) -> Period:
    """Scores of separation 1.5; for group F it is smaller by `weaker`."""
    rng = np.random.default_rng([seed, number])
    labels = rng.random(n) < 0.4
    sex = rng.choice(["F", "M"], n)
    scores = rng.normal(labels * np.where(sex == "F", 1.5 - weaker, 1.5), 1)
    return Period(f"2026-Q{number}", labels, scores, {"sex": tuple(sex.tolist())})


def test_each_period_has_the_gaps_and_tests_of_its_own_fairness_report() -> None:
    periods = [period(number, 1) for number in (1, 2)]
    found = fairness_trend(periods, threshold=0.75)
    for given, review in zip(periods, found.reviews, strict=True):
        alone = assess_fairness(given.labels, given.scores, given.attributes, threshold=0.75)
        assert review.gaps == alone.gaps
        assert [each.p_adjusted for each in review.tests] == [each.p_adjusted for each in alone.tests]
        assert (review.period, review.n, review.slopes) == (given.name, 200, ())  # two periods have no slope yet


def test_the_slope_is_weighted_least_squares_with_known_variances() -> None:
    periods = [period(number, 2) for number in (1, 2, 3, 4)]
    slope = fairness_trend(periods, threshold=0.75).reviews[-1].slopes[0]
    differences, variances = [], []
    for each in periods:
        sex = np.array(each.attributes["sex"])
        areas = {s: delong(each.scores[sex == s], each.labels[sex == s]) for s in "FM"}
        differences.append(float(areas[slope.group].auc[0] - areas[slope.versus].auc[0]))
        variances.append(float(areas["F"].variance[0] + areas["M"].variance[0]))
    fitted = sm.WLS(differences, sm.add_constant(np.arange(4)), weights=1 / np.array(variances)).fit(
        cov_type="fixed scale", cov_kwds={"scale": 1.0}, use_t=False
    )
    assert slope.slope == pytest.approx(fitted.params[1], abs=1e-12)
    assert slope.p == pytest.approx(fitted.pvalues[1], abs=1e-12)
    assert slope.ci == pytest.approx(tuple(fitted.conf_int()[1]), abs=1e-12)
    assert slope.n_periods == 4


def test_runs_without_a_difference_alarm_at_most_at_the_stated_rate() -> None:
    runs = 100
    alarms = [
        fairness_trend([period(number, 1000 + seed) for number in (1, 2, 3, 4)], threshold=0.75, alpha=0.1).alarm
        for seed in range(runs)
    ]
    assert np.mean(alarms) <= 0.1 + 3 * (0.1 * 0.9 / runs) ** 0.5


def test_null_slopes_have_uniform_p_values() -> None:
    p_values = [
        fairness_trend([period(number, 5000 + seed) for number in (1, 2, 3)], threshold=0.75).reviews[-1].slopes[0].p
        for seed in range(100)
    ]
    assert 0.4 < np.mean(p_values) < 0.6
    assert np.mean(np.array(p_values) <= 0.05) <= 0.05 + 3 * (0.05 * 0.95 / 100) ** 0.5


def test_a_group_that_gets_worse_alarms_and_the_first_period_of_it_is_named() -> None:
    weaker = (0.0, 0.0, 0.0, 1.4)
    periods = [period(number, 3, weaker=w, n=1200) for number, w in enumerate(weaker, start=1)]
    found = fairness_trend(periods, threshold=0.75)
    assert [each.alarm for each in found.reviews] == [False, False, False, True]
    assert (found.alarm, found.first_alarm) == (True, "2026-Q4")
    last = found.reviews[-1]
    assert next(gap for gap in last.gaps if gap.measure == "auroc").lowest_group == "F"


def test_a_slow_rise_is_found_by_its_slope() -> None:
    periods = [period(number, 4, weaker=0.3 * number, n=1500) for number in range(6)]
    slope = fairness_trend(periods, threshold=0.75).reviews[-1].slopes[0]
    assert (slope.group, slope.versus, slope.alarm) == ("M", "F", True)
    assert slope.ci[0] > 0


def test_a_separation_of_0_7_in_place_of_1_5_alarms_in_nine_of_ten_runs_of_four_periods_of_400() -> None:
    runs = [[period(number, 9000 + seed, weaker=0.8, n=400) for number in (1, 2, 3, 4)] for seed in range(20)]
    assert np.mean([fairness_trend(periods, threshold=0.75).alarm for periods in runs]) >= 0.9


def test_an_alarm_does_not_depend_on_the_periods_that_follow_when_the_reviews_are_planned() -> None:
    periods = [period(number, 6, weaker=0.5) for number in (1, 2, 3, 4)]
    whole = fairness_trend(periods, threshold=0.75, planned=8)
    early = fairness_trend(periods[:3], threshold=0.75, planned=8)
    assert whole.reviews[:3] == early.reviews
    assert whole.planned == 8


def test_small_groups_are_reported_and_raise_nothing() -> None:
    found = fairness_trend([period(number, 7, n=40) for number in (1, 2, 3)], threshold=0.75)
    assert not found.alarm
    assert any("insufficient" in note for note in found.reviews[0].warnings)


def test_bad_periods_are_refused() -> None:
    one = period(1, 8)
    healthy = Period("2027", np.zeros(200, np.bool_), one.scores, one.attributes)
    for periods, planned, message in (
        ([], None, "got \\[\\], expected one or more"),
        ([one, one], None, "expected one or more different ones"),
        ([one, period(2, 8)], 1, "planned reviews: got 1, expected at least the 2"),
        ([one, healthy], None, "period '2027': its 200 cases are of one class only"),
    ):
        with pytest.raises(RadserveError, match=message) as caught:
            fairness_trend(periods, threshold=0.5, planned=planned)
        assert caught.value.code is ErrorCode.INVALID_ARGUMENT
