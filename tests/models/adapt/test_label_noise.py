"""Planted wrong labels come first, and nothing about a patient's own label is learned from the patient."""

from __future__ import annotations

import numpy as np
import pytest

from radserve.errors import RadserveError
from radserve.models.adapt.label_noise import suspicion
from tests.support.planted import planted_embeddings


@pytest.mark.parametrize("seed", range(5))
def test_flipped_labels_are_ranked_first(seed: int) -> None:
    data, embeddings = planted_embeddings(3.5, seed)
    rng = np.random.default_rng(seed)
    count = len(data.positive)
    flipped = rng.permutation(count)[: count // 20]
    labels = data.positive.copy()
    labels[flipped] ^= True
    ranked = np.argsort(-suspicion(embeddings, labels, data.patients))
    assert len(set(flipped) & set(ranked[: count // 10])) / len(flipped) >= 0.7


def test_labels_without_meaning_are_suspected_alike() -> None:
    data, embeddings = planted_embeddings(0.0)
    shuffled = np.random.default_rng(0).permutation(data.positive)
    found = suspicion(embeddings, shuffled, data.patients)
    assert abs(found.mean() - 0.5) < 0.05


def test_a_wrong_label_of_a_whole_patient_does_not_hide_itself() -> None:
    data, embeddings = planted_embeddings(3.5)
    patients = np.array([f"p{number // 10}" for number in range(len(embeddings))])
    labels, centre = data.positive.copy(), embeddings[data.positive].mean(axis=0)
    embeddings[:10] = centre
    labels[:10] = False
    assert suspicion(embeddings, labels, patients)[:10].min() > 0.9


def test_too_few_patients_are_refused() -> None:
    with pytest.raises(RadserveError, match="got 2 patients, expected at least 5"):
        suspicion(np.eye(4), np.array([True, False] * 2), np.array(["a", "a", "b", "b"]))
