"""A fully crossed multi-reader multi-case study as one value: every reader rates every case under every treatment."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from radserve.evaluation.tables import refusal


@dataclass(frozen=True)
class ReaderStudy:
    """Ratings of a fully crossed study.

    Attributes:
        treatments, readers, cases: labels, in the order of the axes of `ratings`; at least one of each.
        truth: bool, shape (case,); True is diseased. Both classes are present.
        ratings: float64, shape (treatment, reader, case); finite, higher means more suspicious. Not writeable.

    Raises:
        RadserveError: INVALID_ARGUMENT when a shape, a value or the truth does not fit.
    """

    treatments: tuple[str, ...]
    readers: tuple[str, ...]
    cases: tuple[str, ...]
    truth: NDArray[np.bool_]
    ratings: NDArray[np.float64]

    def __post_init__(self) -> None:
        truth = np.array(self.truth, dtype=bool)
        ratings = np.array(self.ratings, dtype=np.float64)
        expected = (len(self.treatments), len(self.readers), len(self.cases))
        if ratings.shape != expected or truth.shape != expected[2:]:
            raise refusal(f"ratings of shape {ratings.shape} and truth of shape {truth.shape}, expected {expected}")
        if not np.isfinite(ratings).all():
            i, j, k = (int(axis[0]) for axis in np.nonzero(~np.isfinite(ratings)))
            where = f"reader {self.readers[j]!r}, treatment {self.treatments[i]!r}, case {self.cases[k]!r}"
            raise refusal(f"rating {ratings[i, j, k]} of {where} is not a finite number")
        if truth.all() or not truth.any():
            raise refusal(f"all {truth.size} cases have the same truth: AUC needs diseased and non-diseased cases")
        for name, array in (("truth", truth), ("ratings", ratings)):
            array.setflags(write=False)
            object.__setattr__(self, name, array)


def reader_study(
    *,
    reader: Sequence[str],
    treatment: Sequence[str],
    case: Sequence[str],
    truth: Sequence[bool] | NDArray[np.bool_],
    rating: Sequence[float] | NDArray[np.float64],
) -> ReaderStudy:
    """Arrange one row per reading (five columns of the same length, any order) into a `ReaderStudy`.

    Labels are sorted, as numbers where all of a column are numbers, so that the order of the rows changes nothing.
    Rows in messages count from 1 without the header.

    Raises:
        RadserveError: INVALID_ARGUMENT naming the reader, treatment and case of a missing or repeated reading, or the
            case whose truth differs between rows.
    """
    lengths = {len(column) for column in (reader, treatment, case, truth, rating)}
    if len(lengths) != 1:
        raise refusal(f"columns of different lengths {sorted(lengths)}, expected one row per reading")
    if lengths == {0}:
        raise refusal("no readings, expected one row per reader, treatment and case")
    treatments, readers, cases = sorted_labels(treatment), sorted_labels(reader), sorted_labels(case)
    index = [{label: at for at, label in enumerate(labels)} for labels in (treatments, readers, cases)]
    ratings = np.full((len(treatments), len(readers), len(cases)), np.nan)
    row_of = np.zeros(ratings.shape, dtype=np.int64)
    truth_of: dict[str, tuple[bool, int]] = {}
    for row, (r, t, c, is_diseased, value) in enumerate(
        zip(reader, treatment, case, truth, rating, strict=True), start=1
    ):
        cell = index[0][t], index[1][r], index[2][c]
        if row_of[cell]:
            raise refusal(f"row {row} repeats row {row_of[cell]}: reader {r!r}, treatment {t!r}, case {c!r}")
        known, first_row = truth_of.setdefault(c, (bool(is_diseased), row))
        if known != bool(is_diseased):
            raise refusal(f"truth of case {c!r} differs between row {first_row} and row {row}")
        ratings[cell], row_of[cell] = value, row
    _require_crossed(row_of, treatments, readers, cases)
    diseased = np.array([truth_of[label][0] for label in cases], dtype=bool)
    return ReaderStudy(treatments, readers, cases, diseased, ratings)


def _require_crossed(
    row_of: NDArray[np.int64], treatments: tuple[str, ...], readers: tuple[str, ...], cases: tuple[str, ...]
) -> None:
    missing = np.argwhere(row_of == 0)
    if missing.size:
        i, j, k = (int(at) for at in missing[0])
        raise refusal(
            f"the design is not fully crossed: reader {readers[j]!r} has no rating of case {cases[k]!r} "
            f"under treatment {treatments[i]!r} ({len(missing)} of {row_of.size} readings are missing)"
        )


def sorted_labels(labels: Iterable[str]) -> tuple[str, ...]:
    """Distinct labels, sorted as numbers where every one is a number, as text otherwise."""
    distinct = sorted(set(labels))
    try:
        numbers = {label: float(label) for label in distinct}
    except ValueError:
        return tuple(distinct)
    return tuple(sorted(distinct, key=numbers.__getitem__) if np.isfinite(list(numbers.values())).all() else distinct)
