"""The bootstrap: against a resampling written out, DeLong's error, and patients with several images."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from radserve.errors import ErrorCode, RadserveError
from radserve.evaluation.bootstrap import bootstrap
from radserve.evaluation.delong import clustered_delong, delong
from radserve.evaluation.roc import RocCurve, average_precision_of
from tests.evaluation.published import asah


def test_each_replicate_is_the_area_of_the_cases_drawn() -> None:
    scores, positive, _ = asah()
    found = bootstrap(scores, positive, replicates=20, seed=7).values
    generator = np.random.default_rng(7)  # the draw written out: positives, then negatives
    for replicate in found:
        classes = (np.flatnonzero(positive), np.flatnonzero(~positive))
        drawn = np.concatenate([each[generator.integers(0, len(each), len(each))] for each in classes])
        expected = [roc_auc_score(positive[drawn], each[drawn]) for each in scores]
        assert replicate == pytest.approx(expected, abs=1e-14)


def test_the_bootstrap_error_of_asah_is_near_delongs() -> None:
    scores, positive, _ = asah()
    replicates = bootstrap(scores, positive, replicates=2000, seed=1)
    delong_errors = np.sqrt(delong(scores, positive).variance)
    assert replicates.values.std(axis=0, ddof=1) == pytest.approx(delong_errors, rel=0.06)
    interval = replicates.interval(1)
    assert (interval.low, interval.high) == pytest.approx((0.6301, 0.8326), abs=0.02)  # near DeLong's
    assert interval.method == "bootstrap"


def test_the_interval_is_the_linear_quantile_of_the_replicates() -> None:
    scores, positive, _ = asah()
    replicates = bootstrap(scores, positive, replicates=100, seed=3)
    ordered = np.sort(replicates.values[:, 0])
    interval = replicates.interval(0, 0.9)
    assert interval.low == pytest.approx(ordered[4] + 0.95 * (ordered[5] - ordered[4]), abs=1e-14)  # R's type 7
    difference = replicates.difference_interval(0, 2, 0.9)
    assert difference.low == pytest.approx(np.quantile(replicates.values[:, 0] - replicates.values[:, 2], 0.05))


def test_the_same_seed_gives_the_same_numbers_and_another_does_not() -> None:
    scores, positive, _ = asah()
    first, again, other = (bootstrap(scores, positive, replicates=5, seed=seed).values for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert not first.flags.writeable


def test_any_statistic_of_the_curve_can_be_resampled() -> None:
    scores, positive, _ = asah()

    def points(curve: RocCurve) -> float:
        return float(len(curve.scores))

    assert bootstrap(scores[1], positive, replicates=3, seed=0, statistic=points).values.max() < len(set(scores[1]))
    values = bootstrap(scores[1], positive, replicates=200, seed=0, statistic=average_precision_of).values
    assert 0.5 < values.mean() < 0.9


def test_drawing_patients_is_wider_than_drawing_their_images() -> None:
    scores, positive, _ = asah()
    images, labels = np.repeat(scores[1], 4), np.repeat(positive, 4)
    patients = np.repeat(np.arange(len(positive)), 4)
    by_image = bootstrap(images, labels, replicates=500, seed=1).interval(0)
    clustered = bootstrap(images, labels, replicates=500, seed=1, clusters=patients)
    by_patient = clustered.interval(0)
    assert by_patient.high - by_patient.low > 1.7 * (by_image.high - by_image.low)  # in theory twice
    assert by_patient.method == "cluster-bootstrap"
    expected = math.sqrt(clustered_delong(images, labels, patients).variance[0])
    assert clustered.values.std(ddof=1) == pytest.approx(expected, rel=0.1)


def test_resamples_with_one_class_are_left_out_and_counted() -> None:
    replicates = bootstrap(
        [1.0, 2.0, 3.0, 4.0], [False, False, True, True], replicates=400, seed=0, clusters=["a", "a", "b", "b"]
    )
    assert 150 < replicates.n_dropped < 250  # half of the pairs of draws hold one patient alone
    assert len(replicates.values) == 400 - replicates.n_dropped
    assert f"{replicates.n_dropped} of 400 resamples held one class" in replicates.interval(0).warnings[0]


def test_no_usable_resample_leaves_the_interval_null() -> None:
    replicates = bootstrap([1.0, 2.0], [False, True], replicates=1, seed=0, clusters=["a", "b"])
    one = bootstrap([1.0, 2.0], [False, True], replicates=1, seed=1, clusters=["a", "b"])
    empty = replicates if replicates.n_dropped else one
    assert empty.n_dropped == 1
    interval = empty.interval(0)
    assert math.isnan(interval.low)
    assert interval.warnings[-1] == "no resample has a value: the interval is null"


def test_no_replicates_and_clusters_of_another_length_are_refused() -> None:
    with pytest.raises(RadserveError, match="replicates: got 0") as caught:
        bootstrap([1.0, 2.0], [False, True], replicates=0, seed=0)
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT
    with pytest.raises(RadserveError, match="cluster 1, label 2"):
        bootstrap([1.0, 2.0], [False, True], replicates=1, seed=0, clusters=["a"])
