"""radserve store list | rebuild | verify | erase | retention, radserve quarantine list | retry | drop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from radserve.errors import ErrorCode, RequestError, StorageError
from radserve.references import StudyRef
from radserve.server.console import settings_of, stdout, table_of
from radserve.server.settings import Settings
from radserve.work import QuarantineEntry, StudyState

if TYPE_CHECKING:  # they import the database and pydicom, for which other commands need not wait
    from radserve.dicom_io.integrity import Verification
    from radserve.dicom_io.retention import ExpiredStudy
    from radserve.dicom_io.store import StudyStore
    from radserve.server.records import Records

T = TypeVar("T")
DAY_S = 86400.0
store_app = typer.Typer(no_args_is_help=True, help="The stored studies and their index.")
quarantine_app = typer.Typer(no_args_is_help=True, help="What could not be stored, analysed or delivered.")

DataDir = Annotated[Path | None, typer.Option(help="The server's data folder.")]
Ids = Annotated[list[str] | None, typer.Argument(help="Ids from `radserve quarantine list`.")]
All = Annotated[bool, typer.Option("--all", help="Everything that is in quarantine.")]


@store_app.command("rebuild")
def rebuild(data_dir: DataDir = None) -> None:
    """Read all stored files anew and make the index from them. The server has to be stopped."""
    settings = settings_of(data_dir=data_dir)

    async def work(records: Records) -> int:
        async with _store(settings, records) as store:
            await store.open()
            try:
                return await store.rebuild()
            finally:
                await store.close()

    typer.echo(f"the index has {_on_records(settings, work)} instances")


@store_app.command("list")
def list_studies(
    state: Annotated[StudyState | None, typer.Option(help="Those of one state.")] = None,
    most: Annotated[int, typer.Option("--limit", min=1, help="So many, the newest first.")] = 100,
    data_dir: DataDir = None,
) -> None:
    """Show how far each study has come, those that something came for last first. A server may run meanwhile."""
    found = _on_records(settings_of(data_dir=data_dir), lambda records: records.progress.newest(state, most))
    table = table_of("study", "state", "instances", "last instance", "revision", "to be delivered", "in quarantine")
    for each in found:
        reached = f"{each.state}, with instances missing" if each.incomplete else each.state
        counts = map(str, (each.revision, each.undelivered, each.quarantined))
        table.add_row(each.study_instance_uid, reached, str(each.instances), _time(each.last_received_at), *counts)
    stdout().print(table)


@store_app.command("erase")
def erase(
    study: Annotated[str, typer.Option(help="Study Instance UID.")],
    data_dir: DataDir = None,
) -> None:
    """Remove a study for good: files, rows, results, quarantine. A running server does it within seconds."""
    settings = settings_of(data_dir=data_dir)
    reference = StudyRef(study)

    async def work(records: Records) -> str:
        if not await records.index.bury(reference.study_instance_uid, time.time()):
            stone = await records.index.tombstone(reference.study_instance_uid)
            if stone is None:
                raise RequestError(ErrorCode.STUDY_NOT_FOUND, "nothing of this study is stored here, nothing is erased")
            return f"the study was erased before: {stone.instances} instances{_at(stone.erased_at)}"
        if not await _erase_asked(settings, records):
            return "the erasure is asked for; the server that uses the store does it, or the next one to start"
        stone = await records.index.tombstone(reference.study_instance_uid)
        return f"the study is erased: {stone.instances if stone else 0} instances"

    typer.echo(_on_records(settings, work))


@store_app.command("retention")
def retention(
    days: Annotated[float | None, typer.Option(min=0, help="Instead of RADSERVE_RETENTION_DAYS.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be erased.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Erase the finished studies for which nothing came for so many days. A running server does it by itself."""
    settings = settings_of(data_dir=data_dir)
    kept_days = days if days is not None else settings.retention_days
    if kept_days is None:
        raise typer.BadParameter("neither --days nor RADSERVE_RETENTION_DAYS is given", param_hint="--days")
    now = time.time()
    before = now - kept_days * DAY_S

    async def work(records: Records) -> tuple[Sequence[ExpiredStudy], bool]:
        if dry_run:
            return await records.index.expired(before), False
        found = await records.index.expire(before, now)
        return found, await _erase_asked(settings, records)

    found, is_done = _on_records(settings, work)
    table = table_of("study", "state", "last instance", "instances")
    for study in found:
        table.add_row(study.study_instance_uid, study.state, _time(study.last_received_at), str(study.instances))
    if found:
        stdout().print(table)
    became = "would be erased" if dry_run else "are erased" if is_done else "are to be erased by the server"
    typer.echo(f"{len(found)} studies {became}")


@store_app.command("verify")
def verify(
    study: Annotated[str, typer.Option(help="Study Instance UID; all studies without.")] = "",
    data_dir: DataDir = None,
) -> None:
    """Compare the stored files with the SHA-256 taken when they came; exit code 1 where one is another or gone."""
    from radserve.dicom_io import integrity
    from radserve.server.app import decoder_pool

    settings = settings_of(data_dir=data_dir)

    async def work(records: Records) -> Verification:
        async with decoder_pool(settings) as workers:
            wanted = StudyRef(study) if study else None
            return await integrity.verify(settings.data_dir / "studies", records.index, workers, wanted)

    found = _on_records(settings, work)
    table = table_of("study", "instance", "damage")
    for each in found.damaged:
        table.add_row(each.instance.study_instance_uid, each.instance.sop_instance_uid, each.damage)
    if found.damaged:
        stdout().print(table)
    typer.echo(
        f"{found.checked} instances, {found.signed} with digital signatures (unchecked): {len(found.damaged)} damaged"
    )
    raise typer.Exit(1 if found.damaged else 0)


@quarantine_app.command("list")
def list_entries(data_dir: DataDir = None) -> None:
    """Show what is in quarantine and why, oldest first."""
    entries = _on_records(settings_of(data_dir=data_dir), lambda records: records.ledger.quarantined())
    table = table_of("id", "kind", "since", "code", "reason", "study", "destination")
    for entry in entries:
        since, study = _time(entry.created_at), entry.study_instance_uid
        table.add_row(entry.quarantine_id, entry.kind, since, entry.code, entry.reason, study, entry.destination)
    stdout().print(table)


@quarantine_app.command("retry")
def retry(ids: Ids = None, everything: All = False, data_dir: DataDir = None) -> None:
    """Try again: the analysis of a study, or a delivery, with all its attempts. The running server does it."""
    released = _release(ids, everything, data_dir, retry=True)
    typer.echo(f"{len(released)} will be tried again")


@quarantine_app.command("drop")
def drop(ids: Ids = None, everything: All = False, data_dir: DataDir = None) -> None:
    """Take entries off the list, and remove set-aside bytes."""
    released = _release(ids, everything, data_dir, retry=False)
    typer.echo(f"{len(released)} dropped")


def _release(ids: list[str] | None, everything: bool, data_dir: Path | None, *, retry: bool) -> list[QuarantineEntry]:
    if bool(ids) == everything:
        raise typer.BadParameter("expected ids, or --all")

    async def work(records: Records) -> list[QuarantineEntry]:
        wanted = ids or [entry.quarantine_id for entry in await records.ledger.quarantined()]
        released = []
        for quarantine_id in wanted:
            released.append(await records.ledger.release(quarantine_id, retry=retry, now=time.time()))
            if not retry:
                records.quarantine.remove(quarantine_id)
        return released

    return _on_records(settings_of(data_dir=data_dir), work)


def _at(seconds: float | None) -> str:
    return f" at {_time(seconds)}" if seconds else ""


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


async def _erase_asked(settings: Settings, records: Records) -> bool:
    """Do the erasures that were asked for; False where that is left to the server, or the next one to start."""
    async with _store(settings, records) as store:
        try:
            await store.open()  # which does them
        except StorageError:  # the folder is the server's, or it failed: the request stays until it is done
            return False
        await store.close()
    return True


@asynccontextmanager
async def _store(settings: Settings, records: Records) -> AsyncIterator[StudyStore]:
    """The site's store, not opened yet: a running server holds it."""
    from radserve.dicom_io.store import StudyStore
    from radserve.server.app import decoder_pool

    async with decoder_pool(settings) as workers:
        yield StudyStore(settings.data_dir / "studies", workers, None, records.index, records.options)


def _on_records(settings: Settings, work: Callable[[Records], Awaitable[T]]) -> T:
    """Work on what a server has kept; a folder that is not there is a slip of the pen, and is not made."""
    from radserve.server.records import opened_records

    if not (settings.index_url or settings.data_dir.is_dir()):
        text = f"data_dir: got {str(settings.data_dir)!r}, which is no folder: no server has kept anything there"
        raise StorageError(ErrorCode.INVALID_ARGUMENT, text)

    async def run() -> T:
        async with opened_records(settings) as records:
            return await work(records)

    return asyncio.run(run())
