"""radserve pull: studies from a PACS or a DICOMweb archive."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from radserve.server.console import settings_of

MOST_SHOWN = 50  # failures that are printed


def pull(
    source: Annotated[
        str, typer.Option("--from", help="dicom(s)://AE_TITLE@HOST:PORT, or the URL of a DICOMweb service.")
    ],
    study: Annotated[list[str] | None, typer.Option(help="Study Instance UID; repeatable.")] = None,
    patient_id: Annotated[str, typer.Option(help="Pull the studies of a patient.")] = "",
    accession: Annotated[str, typer.Option(help="Pull by accession number.")] = "",
    date: Annotated[str, typer.Option(help="Pull by study date: 20260131, or 20260101-20260131.")] = "",
    modality: Annotated[str, typer.Option(help="Only studies with this modality.")] = "",
    move_to: Annotated[
        str, typer.Option(help="Have a PACS send to this AE title (C-MOVE) instead of asking for C-GET.")
    ] = "",
    server: Annotated[str, typer.Option(help="HOST:PORT of a running server; the data folder without.")] = "",
    data_dir: Annotated[Path | None, typer.Option(help="The data folder; no server may be using it.")] = None,
) -> None:
    """Pull studies from an archive: exit code 0 all came, 1 the archive or we failed, 3 some were refused."""
    from radserve.dicom_io.study_query import StudyQuery
    from radserve.server.infer import failure_lines
    from radserve.server.pull import PullRequest, summary
    from radserve.server.pull import pull as pull_studies

    query = StudyQuery(patient_id=patient_id, accession_number=accession, study_date=date, modality=modality)
    if bool(study) == (query != StudyQuery()):
        raise typer.BadParameter("expected --study, or one or more of --patient-id --accession --date --modality")
    settings = settings_of(data_dir=data_dir)
    request = PullRequest(source, tuple(study or ()), query, move_to, server)
    console = Console(soft_wrap=True)
    outcome = asyncio.run(pull_studies(request, settings, console))
    for line in failure_lines(outcome.failures)[:MOST_SHOWN]:
        console.out(line, highlight=False)
    if len(outcome.failures) > MOST_SHOWN:
        console.out(f"... and {len(outcome.failures) - MOST_SHOWN} more", highlight=False)
    console.out(summary(outcome), highlight=False)
    raise typer.Exit(outcome.exit_code)
