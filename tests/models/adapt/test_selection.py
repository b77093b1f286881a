"""Chosen labels are worth more than random ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score

from radserve.errors import ErrorCode, RadserveError
from radserve.models.adapt.heads import fit_head
from radserve.models.adapt.selection import Pool, choose, read_pool

TARGET, BATCH, MOST = 0.87, 10, 250


def world(rng: np.random.Generator, count: int, *, hard: float) -> tuple[np.ndarray, np.ndarray]:
    """Plain negatives of one kind, and a share of `hard` cases, half of them positive by two of eight features."""
    is_hard = rng.random(count) < hard
    embeddings = rng.standard_normal((count, 8))
    positive = is_hard & (embeddings[:, 1] + embeddings[:, 2] > 0)
    embeddings[~is_hard, 0] -= 6
    return embeddings, positive


def labels_needed(seed: int, *, chosen: bool) -> int:
    """Labels until the head reaches the target on unseen hard cases, in batches, from the same first twenty."""
    rng = np.random.default_rng(seed)
    embeddings, positive = world(rng, 1000, hard=0.15)
    unseen, truth = world(rng, 2000, hard=1.0)
    order = rng.permutation(len(positive))
    first = [*order[positive[order]][:2], *order[~positive[order]][:18]]
    labelled = np.array(first)
    while len(labelled) < MOST:
        head = fit_head("logistic", embeddings[labelled], positive[labelled])
        if roc_auc_score(truth, head.logits(unseen)) >= TARGET:
            break
        left = np.setdiff1d(np.arange(len(positive)), labelled)
        probabilities = 1 / (1 + np.exp(-head.logits(embeddings[left])))
        pool = Pool(tuple(map(str, left)), probabilities, embeddings[left])
        rows = choose(pool, BATCH, seed=seed) if chosen else rng.permutation(len(left))[:BATCH]
        labelled = np.concatenate([labelled, left[rows]])
    return len(labelled)


def test_the_target_is_reached_with_fewer_labels_than_by_chance() -> None:
    needed = [(labels_needed(seed, chosen=True), labels_needed(seed, chosen=False)) for seed in range(10)]
    fewer = sum(one < other for one, other in needed)
    decided = sum(one != other for one, other in needed)
    assert binomtest(fewer, decided, alternative="greater").pvalue < 0.05, needed
    assert np.mean([one / other for one, other in needed]) < 0.8


def test_the_choice_is_unsure_and_of_different_kinds() -> None:
    rng = np.random.default_rng(0)
    kind = np.arange(200) % 4
    embeddings = 10 * np.eye(4)[kind] + 0.1 * rng.standard_normal((200, 4))
    probabilities = np.where(np.arange(200) < 40, 0.5, 0.99)
    rows = choose(Pool(tuple(map(str, range(200))), probabilities, embeddings), 4)
    assert (rows < 40).all()
    assert sorted(kind[rows]) == [0, 1, 2, 3]


def test_all_of_a_pool_may_be_chosen_and_no_more() -> None:
    pool = Pool(("a", "b", "c"), np.array([0.1, 0.5, 0.8]), np.eye(3))
    assert sorted(choose(pool, 3)) == [0, 1, 2]
    with pytest.raises(RadserveError, match="got 4, expected 1 to 3") as caught:
        choose(pool, 4)
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT


def test_a_table_is_read_and_a_bad_one_refused(tmp_path: Path) -> None:
    path = tmp_path / "pool.csv"
    path.write_text("case,probability,embedding_0,embedding_1\nx,0.25,1,2\ny,0.5,3,4\n")
    pool = read_pool(path)
    assert pool.cases == ("x", "y")
    assert pool.embeddings.tolist() == [[1, 2], [3, 4]]
    path.write_text("case,probability,embedding_0\nx,1.25,1\n")
    with pytest.raises(RadserveError, match=r"'probability'.*1\.25"):
        read_pool(path)
    path.write_text("case,probability\nx,0.5\n")
    with pytest.raises(RadserveError, match="has no columns embedding_0"):
        read_pool(path)
