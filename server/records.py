"""The site's memory: the index database and what lies beside it in the data folder."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from radserve.dicom_io.annotations import AnnotationTable
from radserve.dicom_io.database import Database, sqlite_url
from radserve.dicom_io.dicomweb.header_cache import HeaderCache
from radserve.dicom_io.index import StudyIndex
from radserve.dicom_io.outbox_ledger import SqlOutboxLedger
from radserve.dicom_io.quarantine import QuarantineFolder
from radserve.dicom_io.result_folders import ResultFolders
from radserve.dicom_io.result_rows import ResultRows
from radserve.dicom_io.store import IndexedOptions
from radserve.dicom_io.study_progress import SqlStudyProgress
from radserve.dicom_io.work_ledger import SqlWorkLedger
from radserve.errors import ErrorCode, StorageError
from radserve.server.operation.shadow_store import ShadowStore
from radserve.server.reviews import ReviewStore
from radserve.server.settings import Settings


@dataclass(frozen=True, slots=True)
class Records:
    """Everything that is remembered of studies besides their files."""

    index: StudyIndex
    annotations: AnnotationTable
    ledger: SqlWorkLedger
    outbox: SqlOutboxLedger
    progress: SqlStudyProgress
    results: ResultFolders
    result_rows: ResultRows
    quarantine: QuarantineFolder
    shadows: ShadowStore
    reviews: ReviewStore
    header_cache: HeaderCache
    refuse_erased: bool

    @property
    def options(self) -> IndexedOptions:
        """How a store uses them."""
        return IndexedOptions(
            self.quarantine,
            self.refuse_erased,
            remove_result=self.results.remove,
            remove_study=self._remove_study,
        )

    async def _remove_study(self, study_instance_uid: str) -> None:
        await self.shadows.remove(study_instance_uid)
        await self.reviews.remove(study_instance_uid)
        await self.header_cache.remove_study(study_instance_uid)


@asynccontextmanager
async def opened_records(settings: Settings) -> AsyncIterator[Records]:
    """The records of a site; another process may use them at the same time. Raises StorageError."""
    folder = settings.data_dir
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        text = f"data_dir: got {str(folder)!r}, which cannot be made or used: {error.strerror}"
        raise StorageError(ErrorCode.INVALID_ARGUMENT, text) from None
    database = Database(settings.index_url or sqlite_url(folder / "index.db"))
    await database.open()
    ledger = SqlWorkLedger(database)
    results = ResultFolders(folder / "results")
    header_cache = HeaderCache(folder / "headers.db")
    try:
        yield Records(
            index=StudyIndex(database),
            annotations=AnnotationTable(database),
            ledger=ledger,
            outbox=SqlOutboxLedger(database, settings.node_name),
            progress=SqlStudyProgress(database),
            results=results,
            result_rows=ResultRows(database, results),
            quarantine=QuarantineFolder(folder / "quarantine", ledger),
            shadows=ShadowStore(folder / "shadow"),
            reviews=ReviewStore(folder / "reviews"),
            header_cache=header_cache,
            refuse_erased=settings.erased_studies == "refuse",
        )
    finally:
        await header_cache.close()
        await database.close()
