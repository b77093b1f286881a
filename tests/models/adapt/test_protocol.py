"""Heads learn what is planted, more from more examples, and the gate asks DeLong."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from radserve.errors import RadserveError
from radserve.models.adapt.heads import draw_shots, fit_head, hold_out
from radserve.models.adapt.manifest import TaskTable
from radserve.models.adapt.protocol import learn
from tests.support.planted import planted_embeddings

TASK = TaskTable(label="Planted", input="any", seeds=tuple(range(10)))


def test_the_area_does_not_fall_with_more_examples_and_no_seed_is_hidden() -> None:
    data, embeddings = planted_embeddings(2.5)
    learned = learn(TASK, data, embeddings, np.zeros(len(embeddings)))
    for kind in ("prototype", "logistic"):
        points = [point for point in learned.curve if point.method == kind]
        assert [point.shots for point in points] == [1, 4, 16, "all"]
        means = [point.mean for point in points]
        assert means == sorted(means)
        assert means[-1] > 0.94
        assert all(len(point.auroc) == 10 for point in points)
        assert points[0].spread == pytest.approx(np.std(points[0].auroc, ddof=1))
        assert points[0].spread > points[-1].spread


def test_the_gate_passes_a_head_that_knows_more_and_refuses_one_that_knows_nothing() -> None:
    data, embeddings = planted_embeddings(2.5)
    guess = np.random.default_rng(1).standard_normal(len(embeddings))
    learned = learn(TASK, data, embeddings, guess, test=True)
    assert learned.passed
    rows = data.of("val")
    assert learned.val.auroc_before == pytest.approx(roc_auc_score(data.positive[rows], guess[rows]))
    expected = roc_auc_score(data.positive[rows], learned.model.logits(rows))
    assert learned.val.auroc_after == pytest.approx(expected)
    assert learned.val.gain_lower_bound < learned.val.gain
    assert learned.val.ece_after < 0.1
    assert learned.test is not None
    assert learned.test.images == 200
    assert not learn(TASK, *planted_embeddings(0.0), guess).passed


def test_the_validation_and_test_splits_teach_nothing() -> None:
    data, embeddings = planted_embeddings(2.5)
    other = embeddings.copy()
    other[np.concatenate([data.of("val"), data.of("test")])] += 5
    one, two = (learn(TASK, data, each, np.zeros(len(each))) for each in (embeddings, other))
    assert one.model.tensors()["weight"].tobytes() == two.model.tensors()["weight"].tobytes()
    assert one.calibrated == two.calibrated


def test_calibration_and_learning_share_no_patient() -> None:
    patients = np.repeat(np.array([f"p{number}" for number in range(50)]), 3)
    positive = np.arange(150) % 5 == 0
    learning, held = hold_out(positive, patients, 0.2, seed=3)
    assert sorted([*learning, *held]) == list(range(150))
    assert not set(patients[learning]) & set(patients[held])
    assert positive[held].any()


def test_the_prototype_head_takes_the_side_of_the_nearer_mean() -> None:
    _, embeddings = planted_embeddings(2.0)
    positive = np.arange(len(embeddings)) % 2 == 0
    head = fit_head("prototype", embeddings, positive)
    means = [embeddings[positive == state].mean(axis=0) for state in (False, True)]
    distances = [np.linalg.norm(embeddings - mean, axis=1) ** 2 for mean in means]
    np.testing.assert_allclose(head.logits(embeddings), distances[0] - distances[1])


def test_draws_of_one_seed_hold_each_other_and_too_many_are_refused() -> None:
    rows, positive = np.arange(40), np.arange(40) % 4 == 0
    few, more = (set(draw_shots(rows, positive, count, seed=1).tolist()) for count in (2, 8))
    assert few < more
    assert [positive[list(more)].sum(), len(more)] == [8, 16]
    with pytest.raises(RadserveError, match=r"got 16, but only 10 positive"):
        draw_shots(rows, positive, 16, seed=1)
