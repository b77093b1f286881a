"""SUS, decision rates, edit rates, and the six forms of the ICC against published and printed values."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from radserve.errors import ErrorCode, RadserveError
from radserve.evaluation.icc import IccForm, icc
from radserve.evaluation.user_experience import Decision, decision_rates, edit_rate, mean_interval, sus_scores

# Shrout and Fleiss 1979, Table 2: six targets rated by four judges
JUDGES = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]])


def test_icc_equals_the_published_example_of_shrout_and_fleiss() -> None:
    published = (0.17, 0.29, 0.71, 0.44, 0.62, 0.91)  # their Table 4
    assert [round(icc(JUDGES)[form].value, 2) for form in IccForm] == list(published)


@pytest.mark.parametrize(
    ("form", "value", "interval", "p"),
    [
        # pingouin 0.7.0, intraclass_corr, same data; R's psych::ICC prints the same intervals to two digits
        (IccForm.ONE_SINGLE, 0.165741768405, (-0.13, 0.72), 0.164768808345),
        (IccForm.TWO_SINGLE, 0.289763779528, (0.02, 0.76), 0.000134566516),
        (IccForm.THREE_SINGLE, 0.714840714841, (0.34, 0.95), 0.000134566516),
        (IccForm.ONE_MEAN, 0.442797133679, (-0.88, 0.91), 0.164768808345),
        (IccForm.TWO_MEAN, 0.620050547599, (0.07, 0.93), 0.000134566516),
        (IccForm.THREE_MEAN, 0.909315542377, (0.68, 0.99), 0.000134566516),
    ],
)
def test_icc_equals_pingouin(form: IccForm, value: float, interval: tuple[float, float], p: float) -> None:
    each = icc(JUDGES)[form]
    assert each.value == pytest.approx(value, abs=1e-11)
    assert (round(each.low, 2), round(each.high, 2)) == interval
    assert each.p == pytest.approx(p, abs=1e-11)


def test_icc_3_does_not_see_a_shift_of_one_rater_but_icc_1_does() -> None:
    shifted = JUDGES + np.array([0, 5, 0, 0])
    assert icc(shifted)[IccForm.THREE_SINGLE].value == pytest.approx(icc(JUDGES)[IccForm.THREE_SINGLE].value)
    assert icc(shifted)[IccForm.ONE_SINGLE].value != pytest.approx(icc(JUDGES)[IccForm.ONE_SINGLE].value)


@pytest.mark.slow
def test_the_interval_of_icc_3_covers_the_truth_at_its_level() -> None:
    rng = np.random.default_rng(5)
    covered = 0
    for _ in range(400):
        ratings = rng.normal(0, 1, (20, 1)) + rng.normal(0, 1, (20, 3))  # true ICC is 0.5
        each = icc(ratings)[IccForm.THREE_SINGLE]
        covered += each.low <= 0.5 <= each.high
    assert covered / 400 == pytest.approx(0.95, abs=0.03)


def test_ratings_that_cannot_be_judged_are_refused() -> None:
    with pytest.raises(RadserveError, match="subject 2, rater 1"):
        icc(np.array([[1.0, 2.0], [np.nan, 1.0]]))
    with pytest.raises(RadserveError, match="at least 2 of each"):
        icc(np.ones((3, 1)))
    with pytest.raises(RadserveError, match="differ by constants only"):
        icc(np.array([[1, 2], [3, 4], [7, 8]]))


def test_sus_follows_brookes_formula() -> None:
    best, worst, neutral = [5, 1] * 5, [1, 5] * 5, [3] * 10
    example = [5, 4, 2, 1, 2, 3, 2, 4, 5, 2]  # contributions 4 1 1 4 1 2 1 1 4 3, sum 22, times 2.5: 55
    assert sus_scores(np.array([best, worst, neutral, example])).tolist() == [100, 0, 50, 55]


def test_a_wrong_sus_answer_is_named_by_item_row_and_value() -> None:
    answers = np.full((2, 10), 3.0)
    answers[1, 6] = 6
    with pytest.raises(RadserveError, match="item 7, row 2: got 6") as caught:
        sus_scores(answers)
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT
    with pytest.raises(RadserveError, match=r"expected \(people, 10\)"):
        sus_scores(np.ones((2, 9)))


def test_the_mean_has_students_interval_and_none_for_one_value() -> None:
    values = np.array([70.0, 85, 90, 62.5])
    low, high = stats.t.interval(0.95, 3, loc=values.mean(), scale=stats.sem(values))
    assert (mean_interval(values).low, mean_interval(values).high) == pytest.approx((low, high))
    assert (mean_interval(values[:1]).low, mean_interval(values[:1]).high) == (None, None)


def test_decision_rates_have_wilsons_interval_as_statsmodels() -> None:
    rates = decision_rates(["accepted"] * 12 + ["edited"] * 5 + ["rejected"] * 3)
    low, high = proportion_confint(5, 20, method="wilson")
    assert (rates[Decision.EDITED].low, rates[Decision.EDITED].high) == pytest.approx((low, high))
    assert sum(each.value for each in rates.values()) == pytest.approx(1)


def test_an_unknown_decision_is_named_by_its_row() -> None:
    with pytest.raises(RadserveError, match="row 2: got 'maybe'"):
        decision_rates(["accepted", "maybe"])
    with pytest.raises(RadserveError, match="got none"):
        decision_rates([])


@pytest.mark.parametrize(
    ("draft", "final", "rate"),
    [
        ("No effusion.", "no effusion", 0.0),
        ("No effusion.", "Small effusion.", 1 / 2),
        ("a b c d", "a c d", 1 / 4),
        ("", "", 0.0),
        ("a", "", 1.0),
    ],
)
def test_the_edit_rate_counts_changed_words(draft: str, final: str, rate: float) -> None:
    assert edit_rate(draft, final) == pytest.approx(rate)


@given(st.lists(st.sampled_from("abc"), max_size=8), st.lists(st.sampled_from("abc"), max_size=8))
def test_the_edit_rate_is_symmetric_and_between_0_and_1(one: list[str], other: list[str]) -> None:
    rate = edit_rate(" ".join(one), " ".join(other))
    assert rate == edit_rate(" ".join(other), " ".join(one))
    assert (rate == 0) == (one == other)
    assert 0 <= rate <= 1
