"""Area under the ROC curve for more than two classes.

D. J. Hand, R. J. Till, Machine Learning 45 (2001) 171: the mean over all pairs of classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from radserve.evaluation.roc import auc
from radserve.evaluation.tables import bad_cell, refusal


@dataclass(frozen=True)
class MulticlassAuc:
    """Hand and Till's M with the area of each pair of classes, and the one-versus-rest areas with their mean."""

    auc: float
    pairs: tuple[tuple[str, str, float], ...]
    one_versus_rest: tuple[tuple[str, float], ...]
    one_versus_rest_mean: float


def hand_till(scores: npt.ArrayLike, labels: Sequence[str], classes: Sequence[str]) -> MulticlassAuc:
    """Return M for `scores` (n, c), one column for each of the c `classes` in their order, and n `labels`.

    Each pair's area is the mean of two: class i against j by the scores of i, and j against i by those of j.
    Raises RadserveError INVALID_ARGUMENT for a shape that does not fit, an unknown label or a class without a case.
    """
    values, codes = np.asarray(scores, dtype=np.float64), _codes(labels, classes)
    if values.shape != (len(codes), len(classes)):
        raise refusal(f"scores: got shape {values.shape}, expected ({len(codes)}, {len(classes)})")

    def area(target: int, members: npt.NDArray[np.bool_]) -> float:
        return auc(values[members, target], codes[members] == target)

    pairs = []
    for i, j in combinations(range(len(classes)), 2):
        members = (codes == i) | (codes == j)
        pairs.append((classes[i], classes[j], (area(i, members) + area(j, members)) / 2))
    everyone = np.ones(len(codes), dtype=np.bool_)
    rest = [area(index, everyone) for index in range(len(classes))]
    mean = float(np.mean([each[2] for each in pairs]))
    return MulticlassAuc(mean, tuple(pairs), tuple(zip(classes, rest, strict=True)), float(np.mean(rest)))


def hand_till_of_one_score(scores: npt.ArrayLike, labels: Sequence[str], classes: Sequence[str]) -> float:
    """Return the mean over all pairs of classes of the area of one score, (n,), higher for the later class.

    pROC's univariate `multiclass.roc` with direction "<"; nothing is turned round.
    """
    values, codes = np.asarray(scores, dtype=np.float64), _codes(labels, classes)
    if values.shape != codes.shape:
        raise refusal(f"scores: got shape {values.shape}, expected ({len(codes)},)")
    areas = []
    for i, j in combinations(range(len(classes)), 2):
        members = (codes == i) | (codes == j)
        areas.append(auc(values[members], codes[members] == j))
    return float(np.mean(areas))


def _codes(labels: Sequence[str], classes: Sequence[str]) -> npt.NDArray[np.int64]:
    if len(classes) < 2 or len(set(classes)) != len(classes):
        raise refusal(f"classes: got {list(classes)}, expected two or more different ones")
    position = {name: index for index, name in enumerate(classes)}
    for row, label in enumerate(labels, start=1):
        if label not in position:
            raise bad_cell("label", row, label, f"one of {list(classes)}")
    absent = [name for name in classes if name not in set(labels)]
    if absent:
        raise refusal(f"classes {absent} have no case")
    return np.array([position[label] for label in labels], dtype=np.int64)
