"""Cuts images into folds that keep twins (the same picture, cut or lit a little differently) on the same side."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.model_selection import StratifiedGroupKFold

from radserve.evaluation.duplicates import find_pairs
from radserve.evaluation.fingerprints import fingerprint

IntArray = npt.NDArray[np.int64]


def twin_groups(images: npt.NDArray[np.uint8]) -> IntArray:
    """A number (N,) for each of `images` (N, H, W): the same for twins, and twins of twins."""
    pairs = find_pairs([fingerprint(image) for image in images])
    ends = np.array([(each.first, each.second) for each in pairs], dtype=np.int64).reshape(-1, 2)
    graph = coo_array((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), shape=(len(images), len(images)))
    return np.asarray(connected_components(graph, directed=False)[1], dtype=np.int64)


def left_out(positive: npt.NDArray[np.bool_], groups: IntArray, repeat: int, folds: int) -> tuple[IntArray, ...]:
    """The images of every fold, stratified by `positive` (N,), of one cut; another `repeat` is another cut."""
    cut = StratifiedGroupKFold(folds, shuffle=True, random_state=repeat)
    return tuple(held for _, held in cut.split(positive, positive, groups))
