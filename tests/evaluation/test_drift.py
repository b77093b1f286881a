"""Drift against scipy and double loops; planted shifts alarm, null runs do so at the stated rate only."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from radserve.errors import RadserveError
from radserve.evaluation.drift import cohort_drift, mmd, monitor, psi


def features(n: int, seed: int, shift: float = 0.0) -> dict[str, npt.NDArray[np.float64]]:
    rng = np.random.default_rng(seed)
    return {"score": rng.beta(2, 5, n), "age": rng.normal(50 + 15 * shift, 15, n), "mean_grey": rng.normal(0, 1, n)}


def test_the_index_equals_its_definition_bin_by_bin() -> None:
    rng = np.random.default_rng(0)
    reference, current = rng.normal(size=400), rng.normal(0.5, 1.2, size=300)
    edges = [-np.inf, *np.quantile(reference, np.arange(1, 10) / 10), np.inf]
    expected = 0.0
    for low, high in itertools.pairwise(edges):
        before = sum(bool(low < x <= high) for x in reference) / 400
        after = sum(bool(low < x <= high) for x in current) / 300
        expected += (after - before) * np.log(after / before)
    index, p = psi(reference, current)
    assert index == pytest.approx(expected, abs=1e-12)
    assert p < 1e-6
    assert psi(reference, reference)[0] == 0


def test_the_index_alarms_at_its_rate_on_null_data_and_stays_finite_with_an_empty_bin() -> None:
    rng = np.random.default_rng(1)
    p_values = [psi(rng.normal(size=500), rng.normal(size=300))[1] for _ in range(400)]
    assert np.mean(np.array(p_values) <= 0.05) <= 0.05 + 3 * (0.05 * 0.95 / 400) ** 0.5
    assert np.isfinite(psi(rng.normal(size=100), rng.normal(50, 1, size=100))[0])


def test_mmd_equals_the_unbiased_estimate_by_double_loops() -> None:
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(9, 2)), rng.normal(0.7, 1, size=(7, 2))
    squared, p, bandwidth = mmd(x, y, n_permutations=50, seed=0)

    def k(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> float:
        return float(np.exp(-np.sum((a - b) ** 2) / (2 * bandwidth**2)))

    xx = sum(k(a, b) for i, a in enumerate(x) for j, b in enumerate(x) if i != j) / (9 * 8)
    yy = sum(k(a, b) for i, a in enumerate(y) for j, b in enumerate(y) if i != j) / (7 * 6)
    xy = sum(k(a, b) for a in x for b in y) / (9 * 7)
    assert squared == pytest.approx(xx + yy - 2 * xy, abs=1e-12)
    assert 0 < p <= 1
    assert mmd(x, y, n_permutations=50, seed=0) == (squared, p, bandwidth)


def test_ks_is_scipys_and_a_planted_shift_of_one_feature_alarms() -> None:
    reference, current = features(400, 1), features(200, 2, shift=0.8)
    found = cohort_drift(reference, current, alpha=0.01, n_permutations=199, seed=0)
    expected = stats.ks_2samp(reference["age"], current["age"])
    assert found.features["age"].ks_statistic == expected.statistic
    assert found.features["age"].p == expected.pvalue
    assert found.alarm
    assert [name for name, each in found.features.items() if each.alarm] == ["age"]


def test_a_change_of_correlation_alone_is_found_by_the_joint_test_only() -> None:
    rng = np.random.default_rng(3)
    independent = rng.multivariate_normal([0, 0], np.eye(2), 400)
    dependent = rng.multivariate_normal([0, 0], [[1, 0.9], [0.9, 1]], 400)
    found = cohort_drift(
        {"a": independent[:, 0], "b": independent[:, 1]},
        {"a": dependent[:, 0], "b": dependent[:, 1]},
        alpha=0.02,
        n_permutations=199,
    )
    assert found.joint.alarm
    assert not any(each.alarm for each in found.features.values())


def test_null_cohorts_alarm_at_most_at_the_stated_rate() -> None:
    alarms = [
        cohort_drift(features(120, 2 * s), features(80, 2 * s + 1), alpha=0.05, n_permutations=79, seed=s).alarm
        for s in range(150)
    ]
    assert np.mean(alarms) <= 0.05 + 3 * (0.05 * 0.95 / 150) ** 0.5


def test_20_null_streams_do_not_alarm_and_a_planted_shift_alarms_within_100_studies() -> None:
    reference = features(1000, 99)["age"]
    for seed in range(20):
        assert monitor(reference, features(1000, seed)["age"], window=50, alpha=0.001).first_alarm_study is None
    stream = np.concatenate([features(500, 5)["age"], features(500, 6, shift=1.0)["age"]])
    found = monitor(reference, stream, window=50, alpha=0.001)
    assert found.first_alarm_study is not None
    assert 500 < found.first_alarm_study <= 600
    assert len(found.p_values) == 20


def test_bad_input_is_refused() -> None:
    good = features(50, 1)
    for arguments, message in (
        ((good, {"score": good["score"]}, {}), "expected those of the reference"),
        ((good, {**good, "age": good["age"][:9]}, {}), "one length"),
        (({"a": np.ones(3)}, {"a": np.ones(3)}, {}), "at least 5"),
        ((good, good, {"alpha": 1.5}), "alpha: got 1.5"),
        ((good, good, {"alpha": 0.001, "n_permutations": 99}), "expected at least 1999"),
    ):
        reference, current, options = arguments
        with pytest.raises(RadserveError, match=message):
            cohort_drift(reference, current, **options)
    with pytest.raises(RadserveError, match="window: got 3"):
        monitor(good["age"], good["age"], window=3)
