"""Matching of marks and lesions against exhaustive search, and its stated rules."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from radserve.errors import ErrorCode, RadserveError
from radserve.evaluation.lesion_matching import (
    DuplicateRule,
    MatchMethod,
    iou_of_boxes,
    iou_of_masks,
    match_by_distance,
    match_by_iou,
)


def best_by_search(distance: np.ndarray, radius: float) -> tuple[int, float]:
    """Most pairs within the radius, then the smallest total distance, over all assignments."""
    marks, lesions = distance.shape
    best = (0, 0.0)
    for choice in itertools.product(range(-1, lesions), repeat=marks):
        taken = [(mark, lesion) for mark, lesion in enumerate(choice) if lesion >= 0]
        if len({lesion for _, lesion in taken}) < len(taken) or any(distance[pair] > radius for pair in taken):
            continue
        best = min(best, (-len(taken), float(sum(distance[pair] for pair in taken))))
    return -best[0], best[1]


@pytest.mark.parametrize("seed", range(25))
def test_the_optimal_matching_is_the_best_of_all_assignments(seed: int):
    rng = np.random.default_rng(seed)
    marks, lesions = rng.uniform(0, 20, (rng.integers(1, 6), 2)), rng.uniform(0, 20, (rng.integers(1, 5), 2))
    distance = np.hypot(*(marks[:, None] - lesions[None]).transpose(2, 0, 1))
    found = match_by_distance(marks, lesions, np.zeros(len(marks)), radius=8, method=MatchMethod.OPTIMAL).lesion
    hits = np.flatnonzero(found >= 0)
    number, total = best_by_search(distance, 8)
    assert len(hits) == number
    assert distance[hits, found[hits]].sum() == pytest.approx(total, abs=1e-9)


@pytest.mark.parametrize("method", list(MatchMethod))
@pytest.mark.parametrize("seed", range(10))
def test_a_mark_hits_at_most_one_lesion_in_reach_and_a_lesion_has_at_most_one_mark(method: MatchMethod, seed: int):
    rng = np.random.default_rng(seed)
    marks, lesions, ratings = rng.uniform(0, 20, (8, 3)), rng.uniform(0, 20, (5, 3)), rng.integers(0, 4, 8)
    outcome = match_by_distance(marks, lesions, ratings, radius=9, method=method)
    hits = np.flatnonzero(outcome.lesion >= 0)
    distance = np.linalg.norm(marks[:, None] - lesions[None], axis=2)
    assert len(set(outcome.lesion[hits])) == len(hits)
    assert (distance[hits, outcome.lesion[hits]] <= 9).all()
    free = np.setdiff1d(np.arange(5), outcome.lesion[hits])
    missed = np.flatnonzero(outcome.lesion < 0)
    assert not (distance[np.ix_(missed, free)] <= 9).any()  # nothing left that could still be paired
    assert (outcome.duplicate[missed] == (distance[missed] <= 9).any(axis=1)).all()


def test_greedy_lets_the_surest_mark_choose_and_optimal_pairs_more():
    marks, lesions = np.array([[4.0, 0.0], [0.0, 0.0]]), np.array([[3.0, 0.0], [8.0, 0.0]])
    ratings = np.array([9.0, 1.0])
    greedy = match_by_distance(marks, lesions, ratings, radius=4)
    optimal = match_by_distance(marks, lesions, ratings, radius=4, method=MatchMethod.OPTIMAL)
    assert greedy.lesion.tolist() == [0, -1]
    assert optimal.lesion.tolist() == [1, 0]


def test_equal_ratings_choose_in_their_order():
    marks = np.array([[1.0, 0.0], [0.0, 0.0]])
    assert match_by_distance(marks, np.zeros((1, 2)), np.array([2.0, 2.0]), radius=3).lesion.tolist() == [0, -1]


def test_a_second_mark_on_a_lesion_is_ignored_or_false_as_stated():
    marks = np.array([[0.0, 0.0], [1.0, 0.0], [50.0, 0.0]])
    outcome = match_by_distance(marks, np.zeros((1, 2)), np.array([1.0, 2.0, 3.0]), radius=3)
    assert outcome.lesion.tolist() == [-1, 0, -1]
    assert outcome.false_marks(DuplicateRule.IGNORE).tolist() == [False, False, True]
    assert outcome.false_marks(DuplicateRule.FALSE_MARK).tolist() == [True, False, True]


def test_the_radius_is_inclusive_and_in_mm_with_a_spacing():
    marks, lesions = np.array([[0.0, 3.0]]), np.array([[0.0, 0.0]])
    assert match_by_distance(marks, lesions, np.ones(1), radius=3).lesion.tolist() == [0]
    assert match_by_distance(marks, lesions, np.ones(1), radius=3, spacing=(1, 1.1)).lesion.tolist() == [-1]
    assert match_by_distance(marks, lesions, np.ones(1), radius=1.5, spacing=(1, 0.5)).lesion.tolist() == [0]


@pytest.mark.parametrize("method", list(MatchMethod))
def test_no_marks_and_no_lesions_match_nothing(method: MatchMethod):
    none, some = np.empty((0, 2)), np.ones((2, 2))
    assert match_by_distance(none, some, np.empty(0), radius=1, method=method).lesion.tolist() == []
    assert match_by_distance(some, none, np.ones(2), radius=1, method=method).lesion.tolist() == [-1, -1]


def test_iou_of_boxes_equals_the_iou_of_their_masks():
    rng = np.random.default_rng(0)
    low = rng.integers(0, 12, (9, 2))
    boxes = np.concatenate([low, low + rng.integers(1, 9, (9, 2))], axis=1)
    masks = np.zeros((9, 24, 24), dtype=bool)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes, strict=True):
        mask[x0:x1, y0:y1] = True
    expected = [[(a & b).sum() / (a | b).sum() for b in masks[5:]] for a in masks[:5]]
    assert iou_of_boxes(boxes[:5], boxes[5:]) == pytest.approx(np.array(expected), abs=1e-12)
    assert iou_of_masks(masks[:5], masks[5:]) == pytest.approx(np.array(expected), abs=1e-12)
    assert np.max(expected) > 0


def test_regions_match_from_the_threshold_on():
    iou = np.array([[0.5, 0.49], [0.9, 0.6]])
    ratings = np.array([2.0, 1.0])
    assert match_by_iou(iou, ratings, threshold=0.5).lesion.tolist() == [0, 1]
    assert match_by_iou(iou, ratings, threshold=0.7).lesion.tolist() == [-1, 0]
    assert match_by_iou(iou, ratings[::-1], threshold=0.5).lesion.tolist() == [-1, 0]
    assert match_by_iou(iou, ratings[::-1], threshold=0.5, method=MatchMethod.OPTIMAL).lesion.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: match_by_distance(np.ones((1, 2)), np.ones((1, 3)), np.ones(1), radius=1), "expected \\(n, axis\\)"),
        (lambda: match_by_distance(np.ones((1, 2)), np.ones((1, 2)), np.ones(1), radius=0), "radius 0"),
        (lambda: match_by_distance(np.ones((1, 2)), np.ones((1, 2)), np.ones(1), radius=np.inf), "radius inf"),
        (lambda: match_by_distance(np.ones((1, 2)), np.ones((1, 2)), np.ones(2), radius=1), "each of 1 marks"),
        (lambda: match_by_distance(np.full((1, 2), np.nan), np.ones((1, 2)), np.ones(1), radius=1), "not finite"),
        (
            lambda: match_by_distance(np.ones((1, 2)), np.ones((1, 2)), np.ones(1), radius=1, spacing=(1, -1)),
            "2 positive numbers",
        ),
        (lambda: match_by_iou(np.ones((1, 1)), np.ones(1), threshold=0), "threshold 0"),
        (lambda: match_by_iou(np.full((1, 1), 1.2), np.ones(1)), "from 0 to 1"),
        (lambda: iou_of_boxes(np.array([[0, 0, 0, 5]]), np.array([[0, 0, 5, 5]])), "mark box"),
        (lambda: iou_of_masks(np.zeros((1, 2, 2), bool), np.ones((1, 2, 2), bool)), "empty"),
        (lambda: iou_of_masks(np.ones((1, 2, 2), bool), np.ones((1, 2, 3), bool)), "same grid"),
    ],
)
def test_what_cannot_be_matched_is_refused(call, message):
    with pytest.raises(RadserveError, match=message) as caught:
        call()
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT
