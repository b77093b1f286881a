"""Rates against scikit-learn, statsmodels, Bayes' formula and their definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, precision_score, recall_score
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar
from statsmodels.stats.proportion import proportion_confint

from radserve.errors import ErrorCode, RadserveError
from radserve.evaluation import rates as subject

BOOLS = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=50)


@given(BOOLS)
def test_counts_and_rates_are_those_of_scikit_learn(rows: list[tuple[bool, bool]]) -> None:
    called, positive = (np.array(each) for each in zip(*rows, strict=True))
    counts = subject.confusion(called, positive)
    tn, fp, fn, tp = confusion_matrix(positive, called, labels=[False, True]).ravel()
    assert (counts.tp, counts.fp, counts.tn, counts.fn) == (tp, fp, tn, fn)
    found = subject.rates(counts)
    assert found.accuracy.value == pytest.approx(accuracy_score(positive, called), abs=1e-15)
    for rate, expected in (
        (found.sensitivity, recall_score(positive, called, zero_division=np.nan)),
        (found.specificity, recall_score(~positive, ~called, zero_division=np.nan)),
        (found.ppv, precision_score(positive, called, zero_division=np.nan)),
        (found.npv, precision_score(~positive, ~called, zero_division=np.nan)),
    ):
        assert rate.value == pytest.approx(expected, abs=1e-15, nan_ok=True)
    assert found.f1 == pytest.approx(f1_score(positive, called, zero_division=np.nan), abs=1e-15, nan_ok=True)


@given(st.integers(1, 300).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.floats(0.5, 0.999))
def test_intervals_are_those_of_statsmodels(share: tuple[int, int], level: float) -> None:
    count, of = share
    wilson = subject.proportion(count, of, level)
    exact = subject.proportion(count, of, level, "clopper-pearson")
    assert (wilson.low, wilson.high) == pytest.approx(proportion_confint(count, of, 1 - level, "wilson"), abs=1e-10)
    assert (exact.low, exact.high) == pytest.approx(proportion_confint(count, of, 1 - level, "beta"), abs=1e-10)
    assert 0.0 <= wilson.low <= count / of <= wilson.high <= 1.0


@given(st.integers(0, 10**6))
def test_multilabel_f1_is_that_of_scikit_learn(seed: int) -> None:
    generator = np.random.default_rng(seed)
    called, positive = generator.random((2, 60, 5)) < 0.4
    each, macro, micro = subject.multilabel_f1(called, positive)
    assert each == pytest.approx(f1_score(positive, called, average=None), abs=1e-12)
    assert macro == pytest.approx(f1_score(positive, called, average="macro"), abs=1e-12)
    assert micro == pytest.approx(f1_score(positive, called, average="micro"), abs=1e-12)


def test_a_label_without_positives_has_no_f1_and_is_not_in_the_mean() -> None:
    each, macro, _ = subject.multilabel_f1([[True, False], [False, False]], [[True, False], [True, False]])
    assert each[0] == pytest.approx(2 / 3)
    assert math.isnan(each[1])
    assert macro == each[0]
    with pytest.raises(RadserveError, match="multi-label F1: got shapes"):
        subject.multilabel_f1([True], [True])


def test_empty_denominators_are_undefined_with_a_reason() -> None:
    found = subject.rates(subject.Confusion(tp=0, fp=0, tn=5, fn=0))
    assert math.isnan(found.sensitivity.value)
    assert math.isnan(found.ppv.low)
    assert math.isnan(found.f1)
    assert found.warnings == (
        "sensitivity is null: no case in its denominator",
        "ppv is null: no case in its denominator",
        "f1 is null: no case is positive, called or true",
    )


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 40), st.integers(1, 40), st.floats(0.01, 0.99))
def test_predictive_values_follow_bayes(tp: int, fp: int, tn: int, fn: int, prevalence: float) -> None:
    sensitivity, specificity = tp / (tp + fn), tn / (tn + fp)
    ppv = subject.ppv_at(sensitivity, specificity, prevalence)
    odds = prevalence / (1 - prevalence) * sensitivity / (1 - specificity)  # posterior odds = prior odds x ratio
    assert ppv == pytest.approx(odds / (1 + odds), rel=1e-9)
    odds = (1 - prevalence) / prevalence * specificity / (1 - sensitivity)
    assert subject.npv_at(sensitivity, specificity, prevalence) == pytest.approx(odds / (1 + odds), rel=1e-9)


def test_at_the_samples_own_prevalence_the_ppv_is_the_counted_one() -> None:
    found = subject.rates(subject.Confusion(tp=26, fp=14, tn=58, fn=15))  # aSAH, s100b >= 0.205
    at = subject.ppv_at(found.sensitivity.value, found.specificity.value, 41 / 113)
    # pROC tests/testthat/helper-coords-expected.R: ppv 0.65, npv 0.794520547945205, accuracy 0.743362831858407
    assert at == pytest.approx(0.65, abs=1e-15)
    assert (found.npv.value, found.accuracy.value) == pytest.approx((0.794520547945205, 0.743362831858407), abs=1e-15)
    assert math.isnan(subject.ppv_at(0.0, 1.0, 0.5))


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_mcnemar_is_that_of_statsmodels(rows: list[tuple[bool, bool, bool]]) -> None:
    a, b, truth = (np.array(each) for each in zip(*rows, strict=True))
    found = subject.mcnemar(a, b, truth)
    right_a, right_b = a == truth, b == truth
    table = [[(right_a & right_b).sum(), (right_a & ~right_b).sum()], [(~right_a & right_b).sum(), 0]]
    assert found.p_exact == pytest.approx(statsmodels_mcnemar(table, exact=True).pvalue, abs=1e-12)
    if table[0][1] + table[1][0]:
        expected = statsmodels_mcnemar(table, exact=False, correction=False)
        assert (found.statistic, found.p_chi_square) == pytest.approx((expected.statistic, expected.pvalue), abs=1e-12)
    assert found.difference == pytest.approx(right_a.mean() - right_b.mean(), abs=1e-15)


def test_decisions_at_a_threshold_call_scores_from_it_on() -> None:
    counts = subject.confusion_at([0.1, 0.5, 0.5, 0.9], [False, False, True, True], 0.5)
    assert counts == subject.Confusion(tp=2, fp=1, tn=1, fn=0)


def test_impossible_counts_methods_and_lengths_are_refused() -> None:
    with pytest.raises(RadserveError, match="got 5 of 4") as caught:
        subject.proportion(5, 4)
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT
    with pytest.raises(RadserveError, match="interval method: got 'wald'"):
        subject.proportion(1, 4, 0.95, "wald")  # type: ignore[arg-type]
    with pytest.raises(RadserveError, match="call 1, label 2"):
        subject.confusion([True], [True, False])
    with pytest.raises(RadserveError, match="no negative count"):
        subject.Confusion(-1, 0, 0, 0)
    with pytest.raises(RadserveError, match="prevalence: got 2"):
        subject.ppv_at(0.5, 0.5, 2)
