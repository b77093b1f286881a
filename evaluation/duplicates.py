"""Exact and near duplicates inside and between splits, by patient; an overlap of splits refuses the run.

Exact: equal pixels. Near: equal but for re-encoding, a small crop, another grey window or another size. Candidates are
pairs with close perceptual hashes whose detail already correlates; they are confirmed after alignment.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import combinations, product

import numpy as np
import numpy.typing as npt

from radserve.errors import RadserveError
from radserve.evaluation.alignment import similarity
from radserve.evaluation.fingerprints import Fingerprint
from radserve.evaluation.tables import check_same_length, refusal

NEAR_THRESHOLD = 0.92  # similarity: on 80,000 pairs of different chest radiographs (28 pixels) the largest was 0.87
MOST_DIFFERENT_BITS = 12  # of either hash
LEAST_CORRELATION = 0.62  # of the detail before alignment
CHUNK = 512  # rows compared with all the others at once

Float32 = npt.NDArray[np.float32]


class Kind(StrEnum):
    """How alike two images are."""

    EXACT = "exact"
    NEAR = "near"


@dataclass(frozen=True)
class Pair:
    """Two duplicates by their position, from 0, first < second. `similarity` is 1 for exact ones."""

    first: int
    second: int
    kind: Kind
    similarity: float


@dataclass(frozen=True)
class PlacedPair:
    """A pair and where it stands. `rows` count from 1; `same_patient` is null where patients are not known."""

    rows: tuple[int, int]
    kind: Kind
    similarity: float
    splits: tuple[str, str]
    same_patient: bool | None


@dataclass(frozen=True)
class Overlap:
    """What two splits share. `shared_patients` is null where patients are not known."""

    splits: tuple[str, str]
    exact: int
    near: int
    shared_patients: int | None


@dataclass(frozen=True)
class Duplicates:
    """All pairs. `inside` counts pairs within a split by kind, `overlaps` has each pair of splits that share anything.

    Patients are counted, never named; rows say where to look.
    """

    n: int
    n_by_split: Mapping[str, int]
    near_threshold: float
    pairs: tuple[PlacedPair, ...]
    inside: Mapping[str, Mapping[str, int]]
    overlaps: tuple[Overlap, ...]
    warnings: tuple[str, ...]


def find_pairs(prints: Sequence[Fingerprint], *, near_threshold: float = NEAR_THRESHOLD) -> tuple[Pair, ...]:
    """Return all duplicates among n images, by position. Images of one grey value have exact duplicates only."""
    if not 0 < near_threshold <= 1:
        raise refusal(f"near threshold: got {near_threshold}, expected above 0 and at most 1")
    members: dict[str, list[int]] = defaultdict(list)
    for position, each in enumerate(prints):
        members[each.digest].append(position)
    groups = list(members.values())
    pairs = [Pair(a, b, Kind.EXACT, 1.0) for group in groups for a, b in combinations(group, 2)]
    for one, other in _candidates([prints[group[0]] for group in groups]):
        alike = similarity(prints[groups[one][0]], prints[groups[other][0]])
        if alike >= near_threshold:
            pairs += [Pair(min(p), max(p), Kind.NEAR, alike) for p in product(groups[one], groups[other])]
    return tuple(sorted(pairs, key=lambda pair: (pair.first, pair.second)))


def check_splits(
    prints: Sequence[Fingerprint],
    splits: Sequence[str],
    patients: Sequence[str] | None = None,
    *,
    near_threshold: float = NEAR_THRESHOLD,
) -> Duplicates:
    """Return duplicates inside and between splits; `splits` and `patients` have one text for each image."""
    given = {"images": prints, "splits": splits} | ({} if patients is None else {"patients": patients})
    check_same_length(given)
    names = list(dict.fromkeys(splits))
    pairs = tuple(_place(pair, splits, patients) for pair in find_pairs(prints, near_threshold=near_threshold))
    overlaps = (_overlap(two, pairs, splits, patients) for two in combinations(names, 2))
    blank = sum(not each.detail.any() for each in prints)
    return Duplicates(
        n=len(prints),
        n_by_split={name: sum(each == name for each in splits) for name in names},
        near_threshold=near_threshold,
        pairs=pairs,
        inside={name: {kind.value: _count(pairs, (name, name), kind) for kind in Kind} for name in names},
        overlaps=tuple(each for each in overlaps if each.exact or each.near or each.shared_patients),
        warnings=tuple(_warnings(patients, blank)),
    )


def overlap_error(found: Duplicates) -> RadserveError | None:
    """Return (not raise) the INVALID_ARGUMENT error of a run on overlapping splits, None when they do not overlap."""
    if not found.overlaps:
        return None
    parts = [
        f"{each.splits[0]} and {each.splits[1]} share {each.exact} exact and {each.near} near duplicate pairs"
        + ("" if each.shared_patients is None else f" and {each.shared_patients} patients")
        for each in found.overlaps
    ]
    return refusal(f"splits overlap: {'; '.join(parts)} (--allow-overlap goes on all the same)")


def check_split_by_patient(splits: Sequence[str], patients: Sequence[str]) -> None:
    """Raise INVALID_ARGUMENT when a patient has rows in two splits (a text of each for every row).

    The message counts the patients and never names them.
    """
    check_same_length({"split": splits, "patient": patients})
    pairs = combinations(dict.fromkeys(splits), 2)
    shared = [(one, other, _shared_patients((one, other), splits, patients)) for one, other in pairs]
    found = [f"{one} and {other} share {count} patients" for one, other, count in shared if count]
    if found:
        raise refusal(f"splits overlap: {'; '.join(found)}")


def _shared_patients(two: tuple[str, str], splits: Sequence[str], patients: Sequence[str]) -> int:
    owners = [{p for p, split in zip(patients, splits, strict=True) if split == name} for name in two]
    return len(owners[0] & owners[1])


def _candidates(prints: Sequence[Fingerprint]) -> Iterator[tuple[int, int]]:
    """Pairs with a close hash and correlated detail, first < second. Time O(n^2), memory O(n)."""
    if not prints:
        return
    hashes = [_signs([getattr(each, name) for each in prints]) for name in ("difference_hash", "frequency_hash")]
    detail = _unit_rows([each.detail for each in prints])
    for start in range(0, len(prints), CHUNK):
        rows = slice(start, start + CHUNK)
        close = np.zeros((len(detail[rows]), len(prints)), np.bool_)
        for signs in hashes:
            different_bits = (signs.shape[1] - signs[rows] @ signs.T) / 2
            close |= different_bits <= MOST_DIFFERENT_BITS
        close &= detail[rows] @ detail.T >= LEAST_CORRELATION
        for row, column in np.argwhere(np.triu(close, start + 1)).tolist():
            yield start + row, column


def _signs(bits: Sequence[npt.NDArray[np.bool_]]) -> Float32:
    return np.where(np.array(bits), np.float32(1), np.float32(-1))


def _unit_rows(images: Sequence[npt.NDArray[np.float64]]) -> Float32:
    rows = np.array([each.ravel() for each in images], np.float32)
    rows -= rows.mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)


def _place(pair: Pair, splits: Sequence[str], patients: Sequence[str] | None) -> PlacedPair:
    return PlacedPair(
        rows=(pair.first + 1, pair.second + 1),
        kind=pair.kind,
        similarity=pair.similarity,
        splits=(splits[pair.first], splits[pair.second]),
        same_patient=None if patients is None else patients[pair.first] == patients[pair.second],
    )


def _overlap(
    two: tuple[str, str], pairs: Sequence[PlacedPair], splits: Sequence[str], patients: Sequence[str] | None
) -> Overlap:
    shared = None if patients is None else _shared_patients(two, splits, patients)
    return Overlap(two, _count(pairs, two, Kind.EXACT), _count(pairs, two, Kind.NEAR), shared)


def _count(pairs: Sequence[PlacedPair], two: tuple[str, str], kind: Kind) -> int:
    return sum(pair.kind is kind and sorted(pair.splits) == sorted(two) for pair in pairs)


def _warnings(patients: Sequence[str] | None, blank: int) -> Iterator[str]:
    if patients is None:
        yield "patients are not known: shared patients are null"
    if blank:
        yield f"{blank} images of one grey value were compared exactly only"
