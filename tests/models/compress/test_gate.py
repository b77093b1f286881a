"""The gate: the bound is that of DeLong's paired test, and only a variant shown not to be worse passes."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from radserve.evaluation.auc_tests import paired_test
from radserve.evaluation.delong import delong
from radserve.models.compress.gate import MARGIN, non_inferiority, passes


def scores(noise: float, seed: int = 0, count: int = 400) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    positive = np.arange(count) % 3 == 0
    before = rng.normal(positive * 2.0)
    return before, before + rng.normal(0, noise, count), positive


def alone(positive: np.ndarray) -> np.ndarray:
    return np.arange(len(positive)).astype(str)


def test_areas_are_those_of_scikit_learn_and_the_bound_that_of_the_paired_test() -> None:
    before, after, positive = scores(0.3)
    first, second, loss, bound = non_inferiority(before, after, positive, alone(positive))
    assert first == pytest.approx(roc_auc_score(positive, before))
    assert second == pytest.approx(roc_auc_score(positive, after))
    test = paired_test(delong(np.stack([before, after]), positive), 0, 1, level=0.90)
    assert loss == pytest.approx(test.difference)
    assert bound == pytest.approx(test.interval.high)  # a two-sided 90 % interval ends at the one-sided 95 % bound
    assert stats.norm.cdf((bound - loss) / test.se) == pytest.approx(0.95)


def test_the_bound_holds_as_often_as_it_says_when_the_variant_is_as_good() -> None:
    held = []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        positive = np.arange(200) % 2 == 0
        shared = rng.normal(positive * 1.5)
        before, after = (shared + rng.normal(0, 0.5, 200) for _ in range(2))  # equally good, differing by chance
        held.append(non_inferiority(before, after, positive, alone(positive))[3] >= 0)
    assert 0.90 <= np.mean(held) <= 0.99


def test_a_variant_that_ranks_alike_loses_nothing() -> None:
    before, _, positive = scores(0.0)
    assert non_inferiority(before, 3 * before - 1, positive, alone(positive))[2:] == (0.0, 0.0)


def test_a_worse_variant_and_one_that_too_few_cases_speak_for_do_not_pass() -> None:
    worse, few, good = scores(2.0), scores(0.5, count=24), scores(0.01)
    assert non_inferiority(*worse, alone(worse[2]))[3] > MARGIN
    assert non_inferiority(*few, alone(few[2]))[3] > MARGIN
    assert non_inferiority(*good, alone(good[2]))[3] < MARGIN


def test_every_image_taken_ten_times_says_no_more_than_once() -> None:
    before, after, positive = scores(0.3, count=60)
    once = non_inferiority(before, after, positive, alone(positive))
    patients = np.repeat(alone(positive), 10)
    again = non_inferiority(*(np.repeat(each, 10) for each in (before, after, positive)), patients)
    assert again == pytest.approx(once)
    independent = np.arange(600).astype(str)
    assert non_inferiority(*(np.repeat(each, 10) for each in (before, after, positive)), independent)[3] < once[3]


@pytest.mark.parametrize(("positives", "negatives", "enough"), [(10, 10, True), (9, 200, False), (200, 9, False)])
def test_a_label_told_apart_on_a_handful_of_images_does_not_pass(positives: int, negatives: int, enough: bool) -> None:
    positive = np.arange(positives + negatives) < positives
    *_, bound = non_inferiority(positive.astype(float), positive.astype(float), positive, alone(positive))
    assert bound == 0  # of a variance that so few images cannot show
    assert passes(bound, positive) is enough
