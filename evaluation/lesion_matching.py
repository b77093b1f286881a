"""Which mark hit which lesion: by distance or by overlap, one mark to at most one lesion and the other way round.

Two ways to resolve a choice. Greedy: the marks in order of falling rating (equal ratings in their given order), each
takes the nearest lesion that is still free, as a reader's surest mark should count first. Optimal: as many pairs as
possible, and among those the smallest total distance or greatest total overlap; ratings decide nothing.

A mark in reach of a lesion that another mark has is a duplicate. It is either ignored (neither a hit nor a false
mark: what CAD challenges do) or a false mark (what a strict reading does): the caller states which.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from scipy.optimize import linear_sum_assignment

from radserve.evaluation.tables import BoolArray, FloatArray, IntArray, refusal


class MatchMethod(StrEnum):
    """How competing pairs are resolved."""

    GREEDY = "greedy"
    OPTIMAL = "optimal"


class DuplicateRule(StrEnum):
    """What a mark on a lesion that another mark has counts as."""

    IGNORE = "ignore"
    FALSE_MARK = "false-mark"


@dataclass(frozen=True)
class Matching:
    """Outcome for the marks of one reader on one case; arrays of shape (mark,), not writeable.

    `lesion` is the index of the lesion that the mark hit, -1 for none. `duplicate` says that the mark is in reach of
    at least one lesion and got none.
    """

    lesion: IntArray
    duplicate: BoolArray

    def __post_init__(self) -> None:
        self.lesion.setflags(write=False)
        self.duplicate.setflags(write=False)

    def false_marks(self, duplicates: DuplicateRule) -> BoolArray:
        """Which marks count as false, shape (mark,)."""
        missed = self.lesion < 0
        return np.asarray(missed & ~self.duplicate if duplicates is DuplicateRule.IGNORE else missed)


def match_by_distance(
    marks: FloatArray,
    lesions: FloatArray,
    ratings: FloatArray,
    *,
    radius: float,
    spacing: tuple[float, ...] | None = None,
    method: MatchMethod = MatchMethod.GREEDY,
) -> Matching:
    """Match points: a mark reaches a lesion at a Euclidean distance of at most `radius`.

    Args:
        marks: shape (mark, axis). lesions: shape (lesion, axis), in the same frame.
        ratings: shape (mark,).
        radius: in the unit of the coordinates, or in mm where `spacing` says what one unit of each axis is in mm.

    Raises:
        RadserveError: INVALID_ARGUMENT when shapes do not fit or a number is not finite or not positive.
    """
    marks, lesions = np.asarray(marks, dtype=np.float64), np.asarray(lesions, dtype=np.float64)
    if marks.ndim != 2 or lesions.ndim != 2 or marks.shape[1] != lesions.shape[1]:
        raise refusal(f"marks of shape {marks.shape} and lesions of shape {lesions.shape}, expected (n, axis) for both")
    unit = np.ones(marks.shape[1]) if spacing is None else np.asarray(spacing, dtype=np.float64)
    if unit.shape != (marks.shape[1],) or not (unit > 0).all():
        raise refusal(f"spacing {spacing}, expected {marks.shape[1]} positive numbers")
    if not radius > 0 or not np.isfinite(radius):
        raise refusal(f"radius {radius}, expected a positive number")
    if not (np.isfinite(marks).all() and np.isfinite(lesions).all()):
        raise refusal("coordinates hold a number that is not finite")
    distance = np.linalg.norm((marks[:, None, :] - lesions[None, :, :]) * unit, axis=2)
    return _match(distance / radius, distance <= radius, ratings, method)


def match_by_iou(
    iou: FloatArray, ratings: FloatArray, *, threshold: float = 0.5, method: MatchMethod = MatchMethod.GREEDY
) -> Matching:
    """Match regions by intersection over union, shape (mark, lesion), as `iou_of_boxes` or `iou_of_masks` gives it.

    A mark reaches a lesion at an IoU of at least `threshold`, which lies above 0 and at most at 1.

    Raises:
        RadserveError: INVALID_ARGUMENT for a threshold or IoU outside its range.
    """
    iou = np.asarray(iou, dtype=np.float64)
    if not 0 < threshold <= 1:
        raise refusal(f"IoU threshold {threshold}, expected above 0 and at most 1")
    if iou.ndim != 2 or not ((iou >= 0) & (iou <= 1)).all():
        raise refusal(f"IoU of shape {iou.shape}, expected (mark, lesion) with values from 0 to 1")
    return _match(1 - iou, iou >= threshold, ratings, method)


def iou_of_boxes(marks: FloatArray, lesions: FloatArray) -> FloatArray:
    """IoU of boxes, shape (mark, lesion). A box is all its minima, then all its maxima: (x0, y0, x1, y1) in 2D.

    Raises:
        RadserveError: INVALID_ARGUMENT for a box whose maximum is not above its minimum.
    """
    halves = []
    for name, boxes in (("mark", marks), ("lesion", lesions)):
        low, high = np.split(np.asarray(boxes, dtype=np.float64), 2, axis=1)
        if not (np.isfinite(low).all() and np.isfinite(high).all() and (high > low).all()):
            raise refusal(f"a {name} box has a maximum that is not above its minimum")
        halves.append((low, high))
    (low_m, high_m), (low_l, high_l) = halves
    overlap = np.minimum(high_m[:, None], high_l[None]) - np.maximum(low_m[:, None], low_l[None])
    shared = np.clip(overlap, 0, None).prod(axis=2)
    sizes = (high_m - low_m).prod(axis=1)[:, None] + (high_l - low_l).prod(axis=1)[None, :]
    return np.asarray(shared / (sizes - shared))


def iou_of_masks(marks: BoolArray, lesions: BoolArray) -> FloatArray:
    """IoU of masks, shape (mark, lesion), from boolean masks of shape (mark, ...) and (lesion, ...) on one grid.

    Raises:
        RadserveError: INVALID_ARGUMENT for different grids or an empty mask.
    """
    if marks.shape[1:] != lesions.shape[1:]:
        raise refusal(f"masks on the grids {marks.shape[1:]} and {lesions.shape[1:]}, expected the same grid")
    flat_m, flat_l = (masks.reshape(len(masks), -1).astype(np.float64) for masks in (marks, lesions))
    if not (flat_m.any(axis=1).all() and flat_l.any(axis=1).all()):
        raise refusal("a mask is empty")
    shared = flat_m @ flat_l.T
    return np.asarray(shared / (flat_m.sum(axis=1)[:, None] + flat_l.sum(axis=1)[None, :] - shared))


def _match(cost: FloatArray, in_reach: BoolArray, ratings: FloatArray, method: MatchMethod) -> Matching:
    ratings = np.asarray(ratings, dtype=np.float64)
    if ratings.shape != cost.shape[:1] or np.isnan(ratings).any():
        raise refusal(f"ratings of shape {ratings.shape}, expected one number for each of {len(cost)} marks")
    pick = _greedy if method is MatchMethod.GREEDY else _optimal
    lesion = pick(cost, in_reach, ratings)
    return Matching(lesion, np.asarray((lesion < 0) & in_reach.any(axis=1)))


def _greedy(cost: FloatArray, in_reach: BoolArray, ratings: FloatArray) -> IntArray:
    lesion = np.full(len(cost), -1, dtype=np.int64)
    free = in_reach.copy()
    for mark in np.argsort(-ratings, kind="stable"):
        if free[mark].any():
            nearest = int(np.argmin(np.where(free[mark], cost[mark], np.inf)))
            lesion[mark] = nearest
            free[:, nearest] = False
    return lesion


def _optimal(cost: FloatArray, in_reach: BoolArray, _ratings: FloatArray) -> IntArray:
    lesion = np.full(len(cost), -1, dtype=np.int64)
    # A pair out of reach costs more than all pairs in reach together (each costs at most 1): it never displaces one.
    rows, columns = linear_sum_assignment(np.where(in_reach, cost, 1.0 + min(cost.shape)))
    kept = in_reach[rows, columns]
    lesion[rows[kept]] = columns[kept]
    return lesion
