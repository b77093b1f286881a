"""Power and sample size against pROC's printed values and Obuchowski's table."""

from __future__ import annotations

import math

import pytest

from radserve.errors import RadserveError
from radserve.evaluation.delong import delong
from radserve.evaluation.power import detectable_auc, power_of_one, power_of_two, size_for_one, size_for_two
from tests.evaluation.published import asah

S100B_AUC = 0.73136856368563685
WFNS, S100B, NDKA = range(3)


def test_the_power_of_one_area_is_that_of_proc() -> None:
    # pROC tests/testthat/test-power.roc.test.R
    assert power_of_one(S100B_AUC, 41, 72) == pytest.approx(0.9904833, abs=5e-8)
    assert power_of_one(0.73, 41, 72) == pytest.approx(0.9897453, abs=5e-8)
    assert power_of_one(0.73, 41, 72, alpha=0.009238584) == pytest.approx(0.95, abs=5e-8)


def test_the_size_for_one_area_is_that_of_proc() -> None:
    # pROC tests/testthat/test-power.roc.test.R
    size = size_for_one(S100B_AUC, power=0.95, ratio=1.7)
    assert (size.n_positive, size.n_negative) == pytest.approx((29.29764, 49.806), rel=1e-6)
    size = size_for_one(S100B_AUC, power=0.9, ratio=72 / 41)
    assert (size.n_positive, size.n_negative) == pytest.approx((23.5598674, 41.3734257), rel=1e-8)
    assert size_for_one(S100B_AUC, power=0.9).n_negative == pytest.approx(29.5697422, rel=1e-8)


def test_the_detectable_area_is_that_of_proc() -> None:
    # pROC tests/testthat/test-power.roc.test.R; its root is found to about 1e-5
    assert detectable_auc(41, 72, power=0.95) == pytest.approx(0.6961054, abs=2e-5)
    assert power_of_one(detectable_auc(41, 72, power=0.95), 41, 72) == pytest.approx(0.95, abs=1e-9)


@pytest.mark.parametrize(
    ("ratio", "auc", "positives", "negatives"),
    [(1, 0.6, 135, 135), (1, 0.7, 33, 33), (2, 0.7, 25, 50), (0.5, 0.7, 49, 25), (4, 0.7, 21, 84)],
)
def test_sizes_are_those_of_obuchowskis_table(ratio: float, auc: float, positives: int, negatives: int) -> None:
    # Obuchowski, Clinical Chemistry 50 (2004) 1118, Table 4: one-sided 5 %, power 90 %
    size = size_for_one(auc, power=0.9, ratio=ratio, two_sided=False)
    assert (math.ceil(size.n_positive), math.ceil(size.n_negative)) == (positives, negatives)


def test_power_and_size_of_two_areas_are_those_of_proc() -> None:
    # pROC tests/testthat/test-power.roc.test.R, DeLong variance
    scores, positive, _ = asah()
    estimates = delong(scores, positive)
    assert power_of_two(estimates, NDKA, WFNS) == pytest.approx(0.7131594, abs=5e-8)
    size = size_for_two(estimates, NDKA, WFNS, power=0.9)
    assert (size.n_positive, size.n_negative) == pytest.approx((64.77777, 113.7561), rel=1e-6)
    size = size_for_two(estimates, S100B, NDKA, power=0.9)
    assert (size.n_positive, size.n_negative) == pytest.approx((213.117677, 374.255432), rel=1e-8)


def test_more_cases_give_more_power_and_the_size_found_gives_the_power_asked_for() -> None:
    assert power_of_one(0.7, 20, 20) < power_of_one(0.7, 40, 40)
    size = size_for_one(0.7, power=0.85, ratio=3, alpha=0.01)
    assert power_of_one(0.7, size.n_positive, size.n_negative, alpha=0.01) == pytest.approx(0.85, abs=1e-12)


def test_impossible_questions_are_refused() -> None:
    with pytest.raises(RadserveError, match=r"power: got 1\.0"):
        size_for_one(0.7, power=1.0)
    with pytest.raises(RadserveError, match="expected an auc other than"):
        size_for_one(0.5, power=0.9)
    with pytest.raises(RadserveError, match=r"no area reaches power 0\.9"):
        detectable_auc(1, 1, power=0.9)
    scores, positive, _ = asah()
    with pytest.raises(RadserveError, match="the two areas must differ"):
        power_of_two(delong(scores, positive), 1, 1)
