"""radserve annotations import | export: what people and programs saw, from DICOM SR, SEG or a table."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from radserve.server.console import settings_of
from radserve.server.settings import Settings

annotations_app = typer.Typer(no_args_is_help=True, help="Annotations of stored images.")

DataDir = Annotated[Path | None, typer.Option(help="The server's data folder.")]


@annotations_app.command("import")
def import_files(
    files: Annotated[
        list[Path], typer.Argument(exists=True, dir_okay=False, help="DICOM SR (TID 1500), SEG or CSV files.")
    ],
    data_dir: DataDir = None,
) -> None:
    """Take annotations in; those that are there already stay as they are."""
    from radserve.dicom_io.annotation_files import is_dicom, read_dicom
    from radserve.dicom_io.annotations import AnnotationTable, read_csv
    from radserve.server.app import decoder_pool
    from radserve.server.records import opened_records

    async def work(settings: Settings) -> tuple[int, int]:
        read = added = 0
        async with opened_records(settings) as records, decoder_pool(settings) as workers:
            table: AnnotationTable = records.annotations
            for path in files:
                found = await workers.run(read_dicom, path) if is_dicom(path) else read_csv(path)
                read += len(found)
                added += await table.add(found)
        return read, added

    read, added = asyncio.run(work(settings_of(data_dir=data_dir)))
    typer.echo(f"{read} annotations read, {added} of them new")


@annotations_app.command("export")
def export(
    out: Annotated[Path, typer.Argument(help="CSV file to write.")],
    data_dir: DataDir = None,
) -> None:
    """Write all annotations as a table: the same ones, the same file."""
    from radserve.dicom_io.annotations import write_csv
    from radserve.server.records import opened_records

    async def work(settings: Settings) -> int:
        async with opened_records(settings) as records:
            found = await records.annotations.all()
        out.write_text(write_csv(found), encoding="utf-8", newline="")
        return len(found)

    typer.echo(f"{asyncio.run(work(settings_of(data_dir=data_dir)))} annotations are in {out}")
