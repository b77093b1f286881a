"""Partial areas against pROC's and ROCR's printed values and scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from radserve.errors import ErrorCode, RadserveError
from radserve.evaluation.partial_auc import partial_auc
from radserve.evaluation.roc import roc_curve
from radserve.evaluation.tables import read_table
from tests.evaluation.published import asah, published

WFNS, S100B, NDKA = range(3)
SP, SE = "specificity", "sensitivity"


@pytest.mark.parametrize(
    ("score", "bounds", "focus", "raw", "corrected"),
    [  # pROC tests/testthat/test-auc.R
        (WFNS, (1, 0.9), SP, 0.0334417344173442, 0.649693339038653),
        (WFNS, (0.9, 0.8), SP, 0.0598373983739837, 0.763749402199904),
        (WFNS, (0.5, 0), SP, 0.488134475939354, 0.952537903757416),
        (NDKA, (1, 0.9), SP, 0.0107046070460705, 0.530024247610897),
        (NDKA, (0.9, 0.8), SP, 0.0277777777777778, 0.575163398692811),
        (NDKA, (0.5, 0), SP, 0.416836043360434, 0.667344173441734),
        (WFNS, (1, 0.9), SE, 0.0400999322493225, 0.68473648552275),
        (WFNS, (0.9, 0.8), SE, 0.0609953703703703, 0.770561002178649),
        (WFNS, (0.5, 0), SE, 0.483358739837398, 0.933434959349593),
        (NDKA, (0.9, 0.8), SE, 0.0242547425474255, 0.554439662043679),
        (NDKA, (0.5, 0), SE, 0.428523035230352, 0.714092140921409),
        (WFNS, (1, 0), SP, 0.823678861788618, 0.823678861788618),
        (NDKA, (1, 0), SE, 0.611957994579946, 0.611957994579946),
        # pROC tests/testthat/helper-partial-auc-boundary-expected.R, "between" and "between.low"
        (S100B, (0.95, 0.9), SP, 0.017208672086720844, None),
        (S100B, (0.45, 0.05), SP, 0.36003871467286097, None),
        (S100B, (0.95, 0.9), SE, 0.0098331639566395547, None),
        (S100B, (0.45, 0.05), SE, 0.38641556571815716, None),
    ],
)
def test_partial_areas_of_asah_are_those_of_proc(
    score: int, bounds: tuple[float, float], focus: str, raw: float, corrected: float | None
) -> None:
    scores, positive, _ = asah()
    found = partial_auc(roc_curve(scores[score], positive), bounds, focus)  # type: ignore[arg-type]
    assert found.raw == pytest.approx(raw, abs=1e-14)
    if corrected is not None:
        assert found.corrected == pytest.approx(corrected, abs=1e-13)
    swapped = partial_auc(roc_curve(scores[score], positive), bounds[::-1], focus)  # type: ignore[arg-type]
    assert swapped == found


def test_an_area_below_chance_has_no_correction_as_in_proc() -> None:
    # pROC tests/testthat/test-auc.R: NA with a warning
    scores, positive, _ = asah()
    found = partial_auc(roc_curve(scores[NDKA], positive), (1, 0.9), "sensitivity")
    assert found.raw == pytest.approx(0.0037940379403794, abs=1e-15)
    assert math.isnan(found.corrected)
    assert "below that of chance" in found.warnings[0]


@pytest.mark.parametrize(("false_positive_rate", "area"), [(0.01, 0.0003296151), (0.1, 0.02780625)])
def test_partial_areas_of_rocr_simple_are_those_rocr_prints(false_positive_rate: float, area: float) -> None:
    # ROCR 1.0's performance(..., "auc", fpr.stop = x), as the tests of ROC.jl cite it
    table = read_table(published("rocr_simple.csv"))
    curve = roc_curve(table.numbers("score"), table.labels("label"))
    assert partial_auc(curve, (1 - false_positive_rate, 1)).raw == pytest.approx(area, abs=5e-9)


@given(st.integers(0, 10**6), st.floats(0.05, 1.0))
def test_the_corrected_area_over_high_specificity_is_scikit_learns(seed: int, max_fpr: float) -> None:
    generator = np.random.default_rng(seed)
    positive = np.arange(50) % 3 == 0
    scores = (generator.normal(size=50) + 2 * positive).round(1)
    found = partial_auc(roc_curve(scores, positive), (1 - max_fpr, 1))
    expected = roc_auc_score(positive, scores, max_fpr=max_fpr)
    if not math.isnan(found.corrected):
        assert found.corrected == pytest.approx(expected, abs=1e-9)


def test_a_perfect_score_fills_its_range() -> None:
    found = partial_auc(roc_curve([1.0, 2.0], [False, True]), (1, 0.8))
    assert (found.raw, found.corrected) == pytest.approx((0.2, 1.0), abs=1e-15)


@pytest.mark.parametrize("bounds", [(1, 1), (1.2, 0.8), (1, -0.1), (math.nan, 0.5)])
def test_bounds_that_make_no_range_are_refused(bounds: tuple[float, float]) -> None:
    with pytest.raises(RadserveError, match="partial AUC bounds") as caught:
        partial_auc(roc_curve([1.0, 2.0], [False, True]), bounds)
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT


def test_another_focus_is_refused() -> None:
    with pytest.raises(RadserveError, match="focus: got 'precision'"):
        partial_auc(roc_curve([1.0, 2.0], [False, True]), (1, 0.9), "precision")  # type: ignore[arg-type]
