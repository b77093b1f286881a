"""Reading a free-response study from three tables: cases, lesions, and marks either classified or placed.

- cases: `case`; optional `truth` (1 where the case has a lesion) and `n_lesions`, which are checked
- lesions: `case`, `lesion`; optional `weight` (equal weights without it)
- marks: reader and treatment columns, `case`, `rating`, and either `type` (`LL` hit a lesion, `NL` did not) with
  `lesion`, or a position (`x`, `y` and optionally `z`) to be matched to positions in the lesions table
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from radserve.evaluation.froc_study import FrocStudy, Lesion, Mark, froc_study
from radserve.evaluation.lesion_matching import DuplicateRule, MatchMethod, match_by_distance
from radserve.evaluation.tables import FloatArray, Table, bad_cell, refusal

TYPES = frozenset({"LL", "NL"})


@dataclass(frozen=True)
class Matching:
    """How placed marks are matched; `radius` is in the unit of the coordinates (mm or pixels)."""

    radius: float
    method: MatchMethod = MatchMethod.GREEDY
    duplicates: DuplicateRule = DuplicateRule.IGNORE


def study_from_tables(
    cases: Table,
    lesions: Table,
    marks: Table,
    *,
    reader: str = "reader",
    treatment: str = "modality",
    matching: Matching | None = None,
) -> FrocStudy:
    """Arrange the three tables; with `matching`, marks have positions instead of types.

    Raises:
        RadserveError: INVALID_ARGUMENT naming the column, row and value, or the case, that does not fit.
    """
    case_labels = cases.categories("case")
    weights = lesions.numbers("weight").tolist() if "weight" in lesions.columns else [None] * lesions.n_rows
    true_lesions = [
        Lesion(case, lesion, weight)
        for case, lesion, weight in zip(lesions.categories("case"), lesions.categories("lesion"), weights, strict=True)
    ]
    _check_truth(cases, case_labels, true_lesions)
    known = set(case_labels)
    for row, case in enumerate(marks.categories("case"), start=1):
        if case not in known:
            raise bad_cell("case", row, case, f"a case of {cases.source}")
    placed = (
        _classified(marks, treatment, reader)
        if matching is None
        else _matched(marks, lesions, true_lesions, treatment, reader, matching)
    )
    return froc_study(case_labels, true_lesions, placed)


def _check_truth(cases: Table, labels: tuple[str, ...], lesions: list[Lesion]) -> None:
    counts = dict.fromkeys(labels, 0)
    for lesion in lesions:
        counts[lesion.case] = counts.get(lesion.case, 0) + 1
    if "n_lesions" in cases.columns:
        for row, (case, stated) in enumerate(zip(labels, cases.whole_numbers("n_lesions"), strict=True), start=1):
            if stated != counts[case]:
                raise bad_cell("n_lesions", row, int(stated), f"{counts[case]}, the lesions listed for this case")
    if "truth" in cases.columns:
        for row, (case, stated) in enumerate(zip(labels, cases.whole_numbers("truth"), strict=True), start=1):
            if stated != (counts[case] > 0):
                raise bad_cell("truth", row, int(stated), f"{int(counts[case] > 0)}: lesions decide the truth")


def _classified(marks: Table, treatment: str, reader: str) -> list[Mark]:
    columns = (marks.categories(treatment), marks.categories(reader), marks.categories("case"))
    types, lesions = marks.categories("type"), marks.text("lesion")
    found = []
    for row, (t, r, c, kind, lesion, rating) in enumerate(
        zip(*columns, types, lesions, marks.numbers("rating").tolist(), strict=True), start=1
    ):
        if kind not in TYPES:
            raise bad_cell("type", row, kind, "LL or NL")
        if (kind == "LL") != bool(lesion.strip()):
            raise bad_cell("lesion", row, lesion, "a lesion" if kind == "LL" else "nothing, as the mark is NL")
        found.append(Mark(t, r, c, lesion.strip() or None, rating))
    return found


def _matched(
    marks: Table, table: Table, lesions: list[Lesion], treatment: str, reader: str, matching: Matching
) -> list[Mark]:
    axes = [axis for axis in ("x", "y", "z") if axis in table.columns or axis in marks.columns]
    if len(axes) < 2:
        raise refusal("matching needs the columns 'x' and 'y' (and 'z' in volumes) in the marks and in the lesions")
    where, lesion_where = _positions(marks, axes), _positions(table, axes)
    lesions_of: dict[str, list[int]] = defaultdict(list)
    for at, lesion in enumerate(lesions):
        lesions_of[lesion.case].append(at)
    columns = list(zip(marks.categories(treatment), marks.categories(reader), marks.categories("case"), strict=True))
    groups: dict[tuple[str, str, str], list[int]] = defaultdict(list)
    for at, key in enumerate(columns):
        groups[key].append(at)
    ratings = marks.numbers("rating")
    found: list[Mark | None] = [None] * len(columns)
    for (t, r, c), rows in groups.items():
        candidates = lesions_of.get(c, [])
        outcome = match_by_distance(
            where[rows],
            lesion_where[candidates],
            ratings[rows],
            radius=matching.radius,
            method=matching.method,
        )
        false_mark = outcome.false_marks(matching.duplicates)
        for row, hit, is_false in zip(rows, outcome.lesion.tolist(), false_mark.tolist(), strict=True):
            if hit >= 0 or is_false:
                name = lesions[candidates[hit]].lesion if hit >= 0 else None
                found[row] = Mark(t, r, c, name, float(ratings[row]))
    return [mark for mark in found if mark is not None]


def _positions(table: Table, axes: list[str]) -> FloatArray:
    return np.stack([table.numbers(axis) for axis in axes], axis=1)
