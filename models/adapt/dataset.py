"""The labelled images of a manifest, with splits that share no patient."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from radserve._checks import read_only
from radserve.errors import ErrorCode, RadserveError
from radserve.evaluation.tables import BoolArray, bad_cell, read_table
from radserve.models.adapt.manifest import DataTable, Manifest

SPLITS = ("train", "val", "test")
Pixels = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class LabelledImages:
    """`images` of (rows, columns) uint8 or uint16, with `positive`, `patients` and `splits` (N,).

    `rows` are those of the manifest's table, counted from 1 (of an .npz: train, then val, then test). `sha256` is over
    all pixels and labels. Valid on construction: INVALID_ARGUMENT for a patient in two splits, a split
    that is missing, and one with fewer than two images of a class.
    """

    images: Sequence[Pixels]
    positive: BoolArray
    patients: npt.NDArray[np.str_]
    splits: npt.NDArray[np.str_]
    warnings: tuple[str, ...] = ()
    rows: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name in ("positive", "patients", "splits"):
            object.__setattr__(self, name, read_only(getattr(self, name)))
        if not self.rows:
            object.__setattr__(self, "rows", tuple(range(1, len(self.positive) + 1)))
        for split in SPLITS:
            rows = self.of(split)
            present = int(self.positive[rows].sum())
            absent = len(rows) - present
            if min(present, absent) < 2 and (split != "test" or len(rows)):
                raise _refused(
                    f"split {split!r} has {present} positive and {absent} negative images, expected 2 of each"
                )
        seen: dict[str, str] = {}
        for row, (patient, split) in enumerate(zip(self.patients.tolist(), self.splits.tolist(), strict=True)):
            if seen.setdefault(patient, split) != split:
                raise _refused(f"row {self.rows[row]}: its patient is in the splits {seen[patient]!r} and {split!r}")

    def of(self, split: str) -> npt.NDArray[np.intp]:
        """The rows of a split."""
        return np.flatnonzero(self.splits == split)

    @property
    def sha256(self) -> str:
        digest = hashlib.sha256()
        for image in self.images:
            digest.update(f"{image.shape} {image.dtype}\0".encode() + np.ascontiguousarray(image).tobytes())
        digest.update(self.positive.tobytes() + "\0".join([*self.patients, *self.splits]).encode())
        return digest.hexdigest()


def read_images(manifest: Manifest) -> LabelledImages:
    """Read the images of a manifest. Raises INVALID_ARGUMENT naming file, column or row at fault."""
    path = manifest.folder / manifest.data.file
    if path.suffix == ".npz":
        return _read_arrays(path, manifest.data)
    if path.suffix == ".csv":
        return _read_files(path, manifest.data)
    raise _refused(f"data.file: got {manifest.data.file!r}, expected an .npz or a .csv")


def read_reference(manifest: Manifest) -> list[Pixels] | None:
    """The images of `data.reference`, train_images of an .npz; None where none is named. Raises INVALID_ARGUMENT."""
    name = manifest.data.reference
    if not name:
        return None
    try:
        with np.load(manifest.folder / name, allow_pickle=False) as arrays:
            images = arrays["train_images"]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise _refused(
            f"data.reference {name!r}: expected an .npz with train_images ({type(error).__name__})"
        ) from None
    if images.ndim != 3 or not len(images) or images.dtype not in (np.uint8, np.uint16):
        raise _refused(f"train_images: got {images.dtype} {images.shape}, expected uint8 or uint16 (N, rows, columns)")
    return list(images)


def _read_arrays(path: Path, data: DataTable) -> LabelledImages:
    images: list[Pixels] = []
    values: list[str] = []
    splits: list[str] = []
    patients: list[str] = []
    named = False
    try:
        with np.load(path, allow_pickle=False) as arrays:
            for split in (each for each in SPLITS if f"{each}_images" in arrays):
                part = arrays[f"{split}_images"]
                if part.ndim != 3 or part.dtype not in (np.uint8, np.uint16):
                    got = f"{part.dtype} {part.shape}"
                    raise _refused(f"{split}_images: got {got}, expected uint8 or uint16 (N, rows, columns)")
                cells = [str(value) for value in arrays[f"{split}_labels"].ravel().tolist()]
                named = f"{split}_patients" in arrays
                people = arrays[f"{split}_patients"].ravel().tolist() if named else _alone(split, len(part))
                if not len(part) == len(cells) == len(people):
                    raise _refused(f"{split}: {len(part)} images, {len(cells)} labels and {len(people)} patients")
                images += list(part)
                values += cells
                splits += [split] * len(part)
                patients += [str(person) for person in people]
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise _refused(f"{path.name!r} cannot be read: {error}") from error
    warnings = () if named else ("the data name no patients: each image counts as one of its own",)
    positive = np.array([value == data.positive for value in values], dtype=np.bool_)
    return LabelledImages(images, positive, np.array(patients), np.array(splits), warnings)


def _alone(split: str, count: int) -> list[str]:
    return [f"{split} {number}" for number in range(count)]


def _read_files(path: Path, data: DataTable) -> LabelledImages:
    table = read_table(path)
    splits = table.categories(data.split)
    for row, split in enumerate(splits, start=1):
        if split not in SPLITS:
            raise bad_cell(data.split, row, split, "train, val or test")
    positive = np.array([cell == data.positive for cell in table.categories(data.label)], dtype=np.bool_)
    folder = path.parent.resolve()
    images = [_read_file(folder, name, row) for row, name in enumerate(table.categories(data.image), start=1)]
    return LabelledImages(images, positive, np.array(table.categories(data.patient)), np.array(splits))


def _read_file(folder: Path, name: str, row: int) -> Pixels:
    path = (folder / name).resolve()
    if not path.is_relative_to(folder):
        raise _refused(f"row {row}: the image lies outside the table's folder")
    try:
        with Image.open(path) as image:
            if image.mode not in ("L", "I;16"):
                raise _refused(f"row {row}: got an image of mode {image.mode!r}, expected 8 or 16 bits of grey")
            return np.asarray(image)
    except (OSError, UnidentifiedImageError) as error:
        raise _refused(f"row {row}: the image cannot be read ({type(error).__name__})") from error


def _refused(cause: str) -> RadserveError:
    return RadserveError(ErrorCode.INVALID_ARGUMENT, f"adaptation data: {cause}")
