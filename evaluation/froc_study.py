"""A free-response reader study as one value: marks that hit lesions (LL), marks that hit none (NL), and the cases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from radserve.evaluation.mrmc_study import sorted_labels
from radserve.evaluation.tables import BoolArray, FloatArray, IntArray, refusal

WEIGHT_TOLERANCE = 1e-6  # lesion weights come as decimals: thirds do not sum to 1 exactly


@dataclass(frozen=True)
class Lesion:
    """A true lesion. `weight` is its clinical importance; the weights of a case sum to 1. None: all of a case equal."""

    case: str
    lesion: str
    weight: float | None = None


@dataclass(frozen=True)
class Mark:
    """A mark of a reader: on `lesion` of the case (LL), or on no lesion (NL) when it is None. Higher is surer."""

    treatment: str
    reader: str
    case: str
    lesion: str | None
    rating: float


@dataclass(frozen=True)
class FrocStudy:
    """Marks of a fully crossed free-response study, as arrays that are not writeable.

    Attributes:
        treatments, readers, cases: labels. A case with at least one lesion is diseased.
        lesion_case: int64, shape (lesion,); index of the case of each lesion.
        lesion_weights: float64, shape (lesion,); sum to 1 within each case.
        lesion_ratings: float64, shape (treatment, reader, lesion); -inf where the lesion is not marked.
        false_at: int64, shape (mark, 3); treatment, reader and case of each mark that hit no lesion.
        false_ratings: float64, shape (mark,).
        warnings: what was assumed while arranging the marks.
    """

    treatments: tuple[str, ...]
    readers: tuple[str, ...]
    cases: tuple[str, ...]
    lesion_case: IntArray
    lesion_weights: FloatArray
    lesion_ratings: FloatArray
    false_at: IntArray
    false_ratings: FloatArray
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        t, r, lesions, false_marks = len(self.treatments), len(self.readers), len(self.lesion_case), len(self.false_at)
        arrays = {
            "lesion_case": (self.lesion_case, np.int64, (lesions,)),
            "lesion_weights": (self.lesion_weights, np.float64, (lesions,)),
            "lesion_ratings": (self.lesion_ratings, np.float64, (t, r, lesions)),
            "false_at": (self.false_at, np.int64, (false_marks, 3)),
            "false_ratings": (self.false_ratings, np.float64, (false_marks,)),
        }
        for name, (value, dtype, shape) in arrays.items():
            array = np.array(value, dtype=dtype)
            if array.shape != shape:
                raise refusal(f"{name} has shape {array.shape}, expected {shape}")
            array.setflags(write=False)
            object.__setattr__(self, name, array)

    @property
    def n_lesions(self) -> IntArray:
        """Lesions of each case, shape (case,)."""
        return np.bincount(self.lesion_case, minlength=len(self.cases)).astype(np.int64)

    @property
    def diseased(self) -> BoolArray:
        """Which cases have a lesion, shape (case,)."""
        return np.asarray(self.n_lesions > 0)

    def highest_false(self) -> FloatArray:
        """Highest NL rating, shape (treatment, reader, case); -inf on a case without an NL mark."""
        highest = np.full((len(self.treatments), len(self.readers), len(self.cases)), -np.inf)
        np.maximum.at(highest, tuple(self.false_at.T), self.false_ratings)
        return highest

    def highest_any(self) -> FloatArray:
        """Highest rating of any mark, NL or LL, shape (treatment, reader, case); -inf on a case without a mark."""
        highest = self.highest_false()
        by_case = highest.reshape(-1, len(self.cases)).T  # a view: what is raised here is raised in `highest`
        np.maximum.at(by_case, self.lesion_case, self.lesion_ratings.reshape(-1, len(self.lesion_case)).T)
        return highest

    def true_counts(self) -> IntArray:
        """Number of marked lesions, shape (treatment, reader, case)."""
        counts = np.zeros((len(self.treatments), len(self.readers), len(self.cases)), dtype=np.int64)
        marked = np.isfinite(self.lesion_ratings).reshape(-1, len(self.lesion_case)).astype(np.int64)
        np.add.at(counts.reshape(-1, len(self.cases)).T, self.lesion_case, marked.T)
        return counts

    def false_counts(self) -> IntArray:
        """Number of NL marks, shape (treatment, reader, case)."""
        counts = np.zeros((len(self.treatments), len(self.readers), len(self.cases)), dtype=np.int64)
        np.add.at(counts, tuple(self.false_at.T), 1)
        return counts


def froc_study(cases: Sequence[str], lesions: Sequence[Lesion], marks: Sequence[Mark]) -> FrocStudy:
    """Arrange cases, lesions and marks (any order) into a `FrocStudy`.

    Treatments and readers are those of the marks, crossed: a reader without a mark under a treatment read all its
    cases and saw nothing, which is said in `warnings`. Of several marks on one lesion the highest rating counts, the
    others are dropped and counted in `warnings`. Rows in messages count from 1.

    Raises:
        RadserveError: INVALID_ARGUMENT for a repeated case or lesion, a mark on an unknown case or lesion, a rating
            that is not finite, weights of a case that do not sum to 1, no marks or no lesions.
    """
    if not marks or not lesions:
        raise refusal(f"got {len(marks)} marks and {len(lesions)} lesions, expected at least one of each")
    case_of = {label: at for at, label in enumerate(cases)}
    if len(case_of) != len(cases):
        raise refusal(f"case {next(label for label in case_of if cases.count(label) > 1)!r} is listed twice")
    lesion_of = _index_lesions(lesions, case_of)
    treatments = sorted_labels(mark.treatment for mark in marks)
    readers = sorted_labels(mark.reader for mark in marks)
    treatment_of = {label: at for at, label in enumerate(treatments)}
    reader_of = {label: at for at, label in enumerate(readers)}
    ratings = np.full((len(treatments), len(readers), len(lesions)), -np.inf)
    false_at: list[tuple[int, int, int]] = []
    false_ratings: list[float] = []
    repeated = 0
    for row, mark in enumerate(marks, start=1):
        where = f"mark in row {row}"
        if mark.case not in case_of:
            raise refusal(f"{where} is on case {mark.case!r}, which is not among the cases")
        if not np.isfinite(mark.rating):
            raise refusal(f"{where} has rating {mark.rating}, expected a finite number")
        cell = treatment_of[mark.treatment], reader_of[mark.reader]
        if mark.lesion is None:
            false_at.append((*cell, case_of[mark.case]))
            false_ratings.append(mark.rating)
            continue
        if (mark.case, mark.lesion) not in lesion_of:
            raise refusal(f"{where} is on lesion {mark.lesion!r} of case {mark.case!r}, which is not among the lesions")
        at = (*cell, lesion_of[mark.case, mark.lesion])
        repeated += bool(np.isfinite(ratings[at]))
        ratings[at] = max(ratings[at], mark.rating)
    return FrocStudy(
        treatments,
        readers,
        tuple(cases),
        np.array([case_of[lesion.case] for lesion in lesions]),
        _weights(lesions),
        ratings,
        np.array(false_at, dtype=np.int64).reshape(-1, 3),
        np.array(false_ratings),
        _marking_warnings(marks, treatments, readers, repeated),
    )


def _index_lesions(lesions: Sequence[Lesion], case_of: dict[str, int]) -> dict[tuple[str, str], int]:
    lesion_of: dict[tuple[str, str], int] = {}
    for at, lesion in enumerate(lesions):
        if lesion.case not in case_of:
            raise refusal(f"lesion in row {at + 1} is in case {lesion.case!r}, which is not among the cases")
        if (lesion.case, lesion.lesion) in lesion_of:
            raise refusal(f"lesion {lesion.lesion!r} of case {lesion.case!r} is listed twice")
        lesion_of[lesion.case, lesion.lesion] = at
    return lesion_of


def _weights(lesions: Sequence[Lesion]) -> FloatArray:
    of_case: dict[str, list[float | None]] = {}
    for lesion in lesions:
        of_case.setdefault(lesion.case, []).append(lesion.weight)
    for case, weights in of_case.items():
        given = [weight for weight in weights if weight is not None]
        if not given:
            continue
        if len(given) != len(weights) or min(given) < 0 or not abs(sum(given) - 1) <= WEIGHT_TOLERANCE:
            raise refusal(f"lesion weights of case {case!r} are {weights}, expected weights that sum to 1")
    return np.array([1 / len(of_case[lesion.case]) if lesion.weight is None else lesion.weight for lesion in lesions])


def _marking_warnings(
    marks: Sequence[Mark], treatments: tuple[str, ...], readers: tuple[str, ...], repeated: int
) -> tuple[str, ...]:
    seen = {(mark.treatment, mark.reader) for mark in marks}
    warnings = [
        f"reader {reader!r} has no mark under treatment {treatment!r}: taken as no finding in any case"
        for treatment in treatments
        for reader in readers
        if (treatment, reader) not in seen
    ]
    if repeated:
        warnings.append(f"{repeated} further marks on a lesion already marked were dropped: the highest rating counts")
    return tuple(warnings)
