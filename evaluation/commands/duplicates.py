"""`radserve evaluate duplicates`: do the splits share images or patients?

The input is a CSV with one row per image (its file, its split, its patient), or a .npz with arrays `train_images`,
`val_images`, `test_images` of shape (n, rows, columns). Files are PNG, JPEG or .npy of one grey image; DICOM is decoded
elsewhere. Exit code 1, with the result written, when splits overlap, unless --allow-overlap. The JSON object:

- `n`, `n_by_split`, `near_threshold`
- `pairs`: `rows` (from 1; of a .npz, its splits one after another), `kind` ("exact" or "near"), `similarity`,
  `splits`, `same_patient`
- `inside`: {split: {`exact`, `near`}} pairs within a split
- `overlaps`: `splits`, `exact`, `near` pairs and `shared_patients` of each two splits that share anything
- `warnings`: why a value is null
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import typer
from PIL import Image as PillowImage

from radserve.evaluation.duplicates import NEAR_THRESHOLD, check_splits, overlap_error
from radserve.evaluation.fingerprints import Fingerprint, fingerprint
from radserve.evaluation.output import STDOUT, write_json
from radserve.evaluation.tables import Table, bad_cell, read_table, refusal

_SUFFIX = "_images"


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("duplicates")(duplicates)


def duplicates(
    images: Annotated[Path, typer.Argument(metavar="IMAGES", help="CSV with one row for each image, or .npz.")],
    file: Annotated[str, typer.Option(help="Column of the image file, relative to --root.")] = "file",
    split: Annotated[str, typer.Option(help="Column of the split: train, val, test ...")] = "split",
    patient: Annotated[str | None, typer.Option(help="Column of the patient.")] = None,
    root: Annotated[Path | None, typer.Option(help="Folder of the files; that of the CSV unless given.")] = None,
    near_threshold: Annotated[float, typer.Option(help="Least similarity of near duplicates.")] = NEAR_THRESHOLD,
    allow_overlap: Annotated[bool, typer.Option("--allow-overlap", help="Do not fail on an overlap.")] = False,
    json_out: Annotated[str, typer.Option("--json", metavar="OUT|-", help="File of the result.")] = STDOUT,
) -> None:
    """Exact and near duplicates inside and between splits; an overlap is refused."""
    patients: tuple[str, ...] | None = None
    if images.suffix.lower() == ".npz":
        if patient is not None:
            raise refusal(f"--patient: {images.name} is a .npz, which has no patients")
        prints, splits = _from_npz(images)
    else:
        table = read_table(images)
        splits = list(table.categories(split))
        patients = None if patient is None else table.categories(patient)
        prints = list(_from_files(table, file, images.parent if root is None else root))
    found = check_splits(prints, splits, patients, near_threshold=near_threshold)
    write_json(found, json_out)
    error = overlap_error(found)
    if error is not None and not allow_overlap:
        raise error


def _from_npz(path: Path) -> tuple[list[Fingerprint], list[str]]:
    prints: list[Fingerprint] = []
    splits: list[str] = []
    try:
        with np.load(path, allow_pickle=False) as arrays:
            for name in (each for each in arrays.files if each.endswith(_SUFFIX)):
                prints += [fingerprint(image) for image in arrays[name]]
                splits += [name.removesuffix(_SUFFIX)] * (len(prints) - len(splits))
    except (OSError, ValueError) as error:
        raise refusal(f"cannot read {path.name}: it is not a .npz of plain arrays") from error
    if not prints:
        raise refusal(f"{path.name} has no image in an array named like train{_SUFFIX}")
    return prints, splits


def _from_files(table: Table, column: str, root: Path) -> Iterator[Fingerprint]:
    for row, name in enumerate(table.categories(column), start=1):
        try:
            yield fingerprint(_read_image(root / name))
        except (OSError, ValueError, PillowImage.DecompressionBombError) as error:
            raise bad_cell(column, row, name, "a PNG, JPEG or .npy file of one image") from error


def _read_image(path: Path) -> npt.NDArray[Any]:
    if path.suffix.lower() == ".npy":
        return np.asarray(np.load(path, allow_pickle=False))
    with PillowImage.open(path) as opened:
        grey = opened if opened.mode in {"L", "I", "F", "I;16"} else opened.convert("L")
        return np.asarray(grey)
