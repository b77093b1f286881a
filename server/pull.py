"""`radserve pull`: studies from an archive into the data folder of the settings, or into a running server."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import BinaryIO, Protocol
from urllib.parse import urlsplit

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from radserve.dicom_io.dimse.archive import DimseArchive, MovingArchive
from radserve.dicom_io.dimse.query_scu import QueryScu
from radserve.dicom_io.found import FoundFile
from radserve.dicom_io.pull import Archive, PulledStudy, pull_study
from radserve.dicom_io.reserve import DiskReserve
from radserve.dicom_io.store import StoreLimits, StudyStore
from radserve.dicom_io.study_query import StudyQuery
from radserve.dicom_io.web_peer.archive import WebArchive
from radserve.errors import RadserveError, RequestError
from radserve.references import StudyRef
from radserve.results import StudyFailure
from radserve.server.client import RadserveClient
from radserve.server.console import REFUSED
from radserve.server.dimse import dimse_listener
from radserve.server.infer import OURS
from radserve.server.peers import DIMSE_SCHEMES, SitePeers
from radserve.server.records import Records, opened_records
from radserve.server.rpc.port import channel_credentials
from radserve.server.settings import MEBIBYTE, Settings
from radserve.server.stores import Stores
from radserve.work import Signal

IMPORT_BATCH = 100


@dataclass(frozen=True, slots=True)
class PullRequest:
    """What to pull and from where. `studies` by UID, or else all that match `query`.

    `move_to`: the AE title that a PACS is to send to (C-MOVE); "" pulls over our own association (C-GET). `server`:
    HOST:PORT of a running server, "" for the data folder of the settings, which no server may be using then.
    """

    url: str
    studies: tuple[str, ...] = ()
    query: StudyQuery = field(default_factory=StudyQuery)
    move_to: str = ""
    server: str = ""


@dataclass(slots=True)
class PullOutcome:
    """What came of it: the studies, and what failed, by instance or by study."""

    pulled: list[PulledStudy] = field(default_factory=list)
    failures: list[StudyFailure] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """0 when everything came, 1 where the archive or we failed, 3 when only some input was refused."""
        if any(failure.code in OURS for failure in self.failures):
            return 1
        return REFUSED if self.failures else 0


class Target(Protocol):
    """Where the studies go."""

    @property
    def store(self) -> StudyStore:
        """Where they are first."""
        ...

    async def finish(self, pulled: PulledStudy) -> list[StudyFailure]:
        """Do what is to be done once a study is in the store; what the target refused."""
        ...


def archive_of(request: PullRequest, settings: Settings) -> Archive:
    """The archive of a URL. Raises RadserveError INVALID_ARGUMENT."""
    peers = SitePeers(settings)
    reserve = DiskReserve(settings.data_dir, settings.disk_reserve_mib * MEBIBYTE)
    if urlsplit(request.url).scheme not in DIMSE_SCHEMES:
        return WebArchive(peers.web(request.url), reserve)
    peer = peers.dimse(request.url)
    if request.move_to:
        return MovingArchive(QueryScu(peer), peer.ae_title, request.move_to)
    return DimseArchive(QueryScu(peer), peer.ae_title, reserve)


async def pull(request: PullRequest, settings: Settings, console: Console) -> PullOutcome:
    """Pull what is asked for, study by study. A study that fails does not keep the others from coming.

    Raises RadserveError where the archive cannot be asked, or the target cannot be used.
    """
    archive = archive_of(request, settings)
    outcome = PullOutcome()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    async with opened_target(request, settings) as target:
        uids = request.studies or [each.study_instance_uid for each in await archive.find_studies(request.query)]
        with Progress(*columns, console=console, transient=True) as progress:
            whole = progress.add_task("Studies", total=len(uids))
            images = progress.add_task("Images", total=None)
            for uid in uids:
                told = partial(_tell, progress, images)
                try:
                    pulled = await pull_study(archive, StudyRef(uid), target.store, told)
                    outcome.failures += _failures(pulled) + await target.finish(pulled)
                    outcome.pulled.append(pulled)
                except RadserveError as error:
                    outcome.failures.append(StudyFailure(error.code, error.client_message, "", uid))
                progress.advance(whole)
    return outcome


@asynccontextmanager
async def opened_target(request: PullRequest, settings: Settings) -> AsyncIterator[Target]:
    """The data folder or the server that is asked for."""
    from radserve.server.app import decoder_pool

    async with AsyncExitStack() as stack:
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        workers = await stack.enter_async_context(decoder_pool(settings))
        stores = Stores(workers, StoreLimits(max_instance_bytes=settings.max_instance_mib * MEBIBYTE))
        if request.server:
            client = await stack.enter_async_context(RadserveClient(request.server, channel_credentials(settings)))
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix=".pull-", dir=settings.data_dir))
            store = await stack.enter_async_context(stores.opened(Path(folder)))
            yield _Server(store, client)
            return
        records = await stack.enter_async_context(opened_records(settings))
        store = await stack.enter_async_context(stores.opened(settings.data_dir / "studies", records))
        if request.move_to == settings.ae_title:
            await stack.enter_async_context(dimse_listener(settings, store, records.ledger))
        yield _Folder(store, records)


@dataclass(frozen=True, slots=True)
class _Folder:
    """The data folder: the server that starts on it next knows that the studies are complete, or are not."""

    store: StudyStore
    records: Records

    async def finish(self, pulled: PulledStudy) -> list[StudyFailure]:
        signal = Signal.INTERRUPTED if pulled.failures else Signal.COMPLETE
        await self.records.ledger.signal(StudyRef(pulled.study_instance_uid), signal)
        return []


@dataclass(frozen=True, slots=True)
class _Server:
    """A running server: what is in the store goes there, and is removed here."""

    store: StudyStore
    client: RadserveClient

    async def finish(self, pulled: PulledStudy) -> list[StudyFailure]:
        study = StudyRef(pulled.study_instance_uid)
        try:
            headers = self.store.headers(study)
        except RequestError:  # nothing came, or it went to the server directly (C-MOVE)
            return []
        files = [
            FoundFile(each.instance.sop_instance_uid, partial(_open, self.store.path(each.instance)))
            for each in headers
        ]
        failures = []
        for at in range(0, len(files), IMPORT_BATCH):
            for imported in await self.client.import_files(files[at : at + IMPORT_BATCH]):
                if error := imported.error:
                    text = error.client_message
                    failures.append(StudyFailure(error.code, text, imported.reference, study.study_instance_uid))
        await self.store.erase(study)
        return failures


def _open(path: Path) -> BinaryIO:
    return path.open("rb")


def _tell(progress: Progress, task: int, done: int, total: int) -> None:
    progress.update(task, completed=done, total=total)  # type: ignore[arg-type]  # rich's TaskID is an int


def _failures(pulled: PulledStudy) -> list[StudyFailure]:
    return [
        StudyFailure(error.code, error.client_message, uid, pulled.study_instance_uid)
        for uid, error in pulled.failures.items()
    ]


def summary(outcome: PullOutcome) -> str:
    """What was pulled, in a line."""
    pulled: Sequence[PulledStudy] = outcome.pulled
    images, others = sum(each.stored for each in pulled), sum(each.skipped for each in pulled)
    left = f", {others} objects that are no images left out" if others else ""
    return f"{images} images of {len(pulled)} studies pulled{left}, {len(outcome.failures)} failures"
