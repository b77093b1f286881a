"""Hand and Till's area against scikit-learn and pROC."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from radserve.errors import ErrorCode, RadserveError
from radserve.evaluation.multiclass import hand_till, hand_till_of_one_score
from tests.evaluation.published import asah


def test_it_is_scikit_learns_one_versus_one_mean() -> None:
    generator = np.random.default_rng(4)
    codes = np.arange(300) % 4
    scores = generator.random((300, 4)).round(2) + np.eye(4)[codes] / 3
    scores /= scores.sum(axis=1, keepdims=True)
    classes = ["a", "b", "c", "d"]
    found = hand_till(scores, [classes[code] for code in codes], classes)
    assert found.auc == pytest.approx(roc_auc_score(codes, scores, multi_class="ovo"), abs=1e-14)
    assert found.one_versus_rest_mean == pytest.approx(roc_auc_score(codes, scores, multi_class="ovr"), abs=1e-14)
    assert [pair[:2] for pair in found.pairs][:2] == [("a", "b"), ("a", "c")]


def test_two_classes_give_the_ordinary_area() -> None:
    scores, positive, _ = asah()
    both = np.column_stack((-scores[1], scores[1]))
    labels = ["poor" if each else "good" for each in positive]
    assert hand_till(both, labels, ["good", "poor"]).auc == pytest.approx(0.73136856368563685, abs=1e-14)


def test_one_score_over_the_outcome_scale_of_asah_is_that_of_proc() -> None:
    # pROC tests/testthat/test-multiclass.R: multiclass.roc(gos6, s100b) with direction "<" and ">"
    scores, _, table = asah()
    levels = sorted(set(table.text("gos6")))
    assert hand_till_of_one_score(scores[1], table.text("gos6"), levels) == pytest.approx(0.3487473175, abs=1e-10)
    assert hand_till_of_one_score(-scores[1], table.text("gos6"), levels) == pytest.approx(0.6512526825, abs=1e-10)


@pytest.mark.parametrize(
    ("labels", "classes", "message"),
    [
        (["a", "x"], ["a", "b"], "column 'label', row 2: got 'x', expected one of"),
        (["a", "a"], ["a", "b"], "classes ['b'] have no case"),
        (["a", "b"], ["a"], "classes: got ['a'], expected two or more different ones"),
        (["a", "b", "a"], ["a", "b"], "scores: got shape (2, 2), expected (3, 2)"),
    ],
)
def test_labels_that_do_not_fit_are_refused(labels: list[str], classes: list[str], message: str) -> None:
    with pytest.raises(RadserveError) as caught:
        hand_till(np.eye(2), labels, classes)
    assert caught.value.client_message.startswith(message)
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT
