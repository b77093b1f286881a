"""Label and entity F1 against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import f1_score, precision_recall_fscore_support

from radserve.errors import RadserveError
from radserve.evaluation.labeller import LABELS
from radserve.evaluation.labeller_context import Status
from radserve.evaluation.labeller_scores import entity_f1, label_f1

CHOICES = [Status.POSITIVE, Status.UNCERTAIN, Status.NEGATIVE, None]


def random_labels(seed: int, n: int = 80) -> list[dict[str, Status | None]]:
    drawn = np.random.default_rng(seed).integers(0, 4, size=(n, len(LABELS)))
    return [{label: CHOICES[each] for label, each in zip(LABELS, row, strict=True)} for row in drawn]


@pytest.mark.parametrize("uncertain_is_positive", [False, True])
def test_label_f1_equals_scikit_learn(uncertain_is_positive: bool) -> None:
    truth, said = random_labels(1), random_labels(2)
    wanted = {Status.POSITIVE, Status.UNCERTAIN} if uncertain_is_positive else {Status.POSITIVE}
    binary = [np.array([[each[label] in wanted for label in LABELS] for each in one]) for one in (truth, said)]
    ours = label_f1(truth, said, uncertain_is_positive=uncertain_is_positive)
    assert ours.micro == pytest.approx(f1_score(*binary, average="micro"), abs=1e-12)
    assert ours.macro == pytest.approx(f1_score(*binary, average="macro"), abs=1e-12)
    precision, recall, f1, support = precision_recall_fscore_support(*binary)
    for index, label in enumerate(LABELS):
        each = ours.per_label[label]
        assert (each.precision, each.recall, each.f1) == pytest.approx((precision[index], recall[index], f1[index]))
        assert each.support == support[index]


def test_a_label_nobody_has_is_undefined_and_not_in_the_macro_mean() -> None:
    score = label_f1([{"Edema": Status.POSITIVE}], [{"Edema": Status.POSITIVE}])
    assert score.per_label["Fracture"].f1 is None
    assert (score.micro, score.macro) == (1.0, 1.0)
    nothing = label_f1([{}], [{}])
    assert (nothing.micro, nothing.macro) == (None, None)


def test_entities_are_compared_as_sets_per_report() -> None:
    score = entity_f1([{"a", "b"}, {"c"}], [{"a"}, {"c", "d"}])
    assert (score.true_positives, score.false_positives, score.false_negatives) == (2, 1, 1)
    assert score.f1 == pytest.approx(2 / 3)


def test_lists_of_different_length_and_none_are_refused() -> None:
    with pytest.raises(RadserveError, match="got 1 predicted, expected 2"):
        label_f1([{}, {}], [{}])
    with pytest.raises(RadserveError, match="got none"):
        entity_f1([], [])
