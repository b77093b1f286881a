"""`radserve evaluate segmentation`: how well segments agree with those of a reference.

It stands here and not beside the other commands because it reads DICOM, which the evaluation does without.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from radserve.errors import ErrorCode, RadserveError

if TYPE_CHECKING:
    from radserve.segments import SegmentedVolume

SEG_FILES = "seg*.dcm"  # of a result folder


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("segmentation")(segmentation)


def segmentation(
    cases: Annotated[
        Path, typer.Argument(help="CSV: case, prediction, reference (files, or result folders); perhaps patient.")
    ],
    json: Annotated[str, typer.Option("--json", metavar="OUT|-", help="Where to write the result; - is stdout.")],
    structures: Annotated[
        Path | None,
        typer.Option(help="CSV: value (of a label map, or the label of a segment), structure; needed for NIfTI."),
    ] = None,
    tolerance_mm: Annotated[float, typer.Option(min=0, help="Distance within which surfaces agree.")] = 2.0,
    bootstrap: Annotated[int, typer.Option(min=1, help="Resamples of patients for the intervals.")] = 2000,
    seed: Annotated[int, typer.Option(help="Of the resamples.")] = 0,
    ci: Annotated[float, typer.Option(help="Level of the intervals.")] = 0.95,
) -> None:
    """Dice, distances of surfaces and volumes of each structure, from SEG or NIfTI against SEG or NIfTI."""
    from radserve.evaluation.output import write_json
    from radserve.evaluation.segmentation_summary import Resampling, compare_case, summarise
    from radserve.evaluation.tables import read_table

    resampling = Resampling(bootstrap, seed, ci)
    names = _names(structures) if structures else None
    table = read_table(cases)
    columns = [table.categories(name) for name in ("case", "prediction", "reference")]
    patients = table.categories("patient") if "patient" in table.columns else columns[0]
    if len(set(columns[0])) < table.n_rows:
        raise _refusal(f"column 'case' of {cases.name} names a case twice")
    found = []
    for case, prediction, reference, patient in zip(*columns, patients, strict=True):
        truth = _read(cases.parent / reference, names)
        found += compare_case(case, patient, truth, _read(cases.parent / prediction, names), tolerance_mm)
    write_json(summarise(found, resampling, tolerance_mm), json)


def _names(path: Path) -> Mapping[str, str]:
    from radserve.evaluation.tables import read_table

    table = read_table(path)
    values, structures = table.categories("value"), table.categories("structure")
    if len(set(values)) < len(values):
        raise _refusal(f"column 'value' of {path.name} has a value twice")
    return dict(zip(values, structures, strict=True))


def _read(path: Path, names: Mapping[str, str] | None) -> SegmentedVolume:
    """The segments of a file, or of all SEGs of a result folder."""
    from radserve.dicom_io.read_masks import read_masks
    from radserve.evaluation.segmentation import joined

    files: Sequence[Path] = sorted(path.glob(SEG_FILES)) if path.is_dir() else [path]
    if not files:
        raise _refusal(f"the folder {path.name!r} has no {SEG_FILES}")
    return joined([read_masks(each, names) for each in files])


def _refusal(message: str) -> RadserveError:
    return RadserveError(ErrorCode.INVALID_ARGUMENT, message)
