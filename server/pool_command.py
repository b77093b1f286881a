"""radserve pool: the stored studies as the table that radserve select chooses from."""

from __future__ import annotations

import asyncio
import csv
from pathlib import Path
from typing import Annotated

import typer

from radserve.errors import ErrorCode, RadserveError
from radserve.models.onnx_runner import OnnxRunner
from radserve.models.pack import ModelPack
from radserve.pipelines.pool import PoolCase, pool_cases
from radserve.ports import InstanceSource
from radserve.server.console import PackDirs, settings_of, stderr, stdout
from radserve.server.packs import site_catalogue
from radserve.server.settings import Settings


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("pool")(pool)


def pool(
    pack: Annotated[str, typer.Option(metavar="NAME[@VERSION]", help="The pack that is unsure.")],
    label: Annotated[str, typer.Option(help="Of which label.")],
    out: Annotated[Path, typer.Option(help="CSV: case, probability, embedding_0 ...; it must not exist.")],
    data_dir: Annotated[Path | None, typer.Option(help="Of the server, which has to be stopped.")] = None,
    pack_dir: PackDirs = None,
) -> None:
    """Write the stored studies as a table for `radserve select`; a case is called by its Study Instance UID."""
    settings = settings_of(data_dir=data_dir, pack_dirs=pack_dir)
    base = site_catalogue(settings).get(pack)
    base.label(label)
    cases, unread = asyncio.run(_on_store(settings, base, label))
    write_pool(out, cases)
    for study, error in unread:
        stderr().out(f"note: {study} is left out: {error.code}")
    stdout().out(f"{len(cases)} studies are in {out}")


Unread = list[tuple[str, RadserveError]]


async def _on_store(settings: Settings, pack: ModelPack, label: str) -> tuple[list[PoolCase], Unread]:
    from radserve.dicom_io.store import StudyStore
    from radserve.server.app import decoder_pool
    from radserve.server.records import opened_records

    async with opened_records(settings) as records, decoder_pool(settings) as workers:
        store = StudyStore(settings.data_dir / "studies", workers, None, records.index, records.options)
        await store.open()
        try:
            return await gather(pack, label, store)
        finally:
            await store.close()


async def gather(pack: ModelPack, label: str, source: InstanceSource) -> tuple[list[PoolCase], Unread]:
    """The cases of a source, and the studies that could not be read with their errors."""
    runner = OnnxRunner([pack])
    cases: list[PoolCase] = []
    unread: Unread = []
    async for each in pool_cases(pack, label, source, runner):
        if isinstance(each, PoolCase):
            cases.append(each)
        else:
            unread.append(each)
    await runner.close()
    return cases, unread


def write_pool(path: Path, cases: list[PoolCase]) -> None:
    """Write the table; raises INVALID_ARGUMENT for no cases and where the file exists or cannot be written."""
    if not cases:
        raise RadserveError(ErrorCode.INVALID_ARGUMENT, "no stored study has an image that the label is answered on")
    header = ["case", "probability", *(f"embedding_{place}" for place in range(len(cases[0].embedding)))]
    rows = [[each.study_instance_uid, repr(each.probability), *map(repr, each.embedding.tolist())] for each in cases]
    try:
        with path.open("x", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([header, *rows])
    except OSError as error:
        raise RadserveError(ErrorCode.INVALID_ARGUMENT, f"{path.name!r} cannot be written: {error.strerror}") from error
