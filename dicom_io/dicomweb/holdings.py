"""What is held of a study, for retrieval: received instances and the objects of results, each with its file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from radserve.dicom_io import index_schema as schema
from radserve.dicom_io.index import StudyIndex
from radserve.dicom_io.result_rows import ResultRows, current_objects
from radserve.dicom_io.store import StudyStore
from radserve.errors import ErrorCode, RadserveError, RequestError
from radserve.references import InstanceRef, StudyRef
from radserve.workers import WorkerPool


@dataclass(frozen=True, slots=True)
class Held:
    """An instance and its file."""

    instance: InstanceRef
    transfer_syntax_uid: str
    path: Path

    @property
    def url(self) -> str:
        """Its place below the address of the service."""
        uids = self.instance
        return f"/studies/{uids.study_instance_uid}/series/{uids.series_instance_uid}/instances/{uids.sop_instance_uid}"


@dataclass(frozen=True, slots=True)
class Holdings:
    """Finds files. Raises RequestError STUDY_NOT_FOUND, SERIES_NOT_FOUND, INSTANCE_NOT_FOUND, StorageError."""

    store: StudyStore
    index: StudyIndex
    result_rows: ResultRows
    workers: WorkerPool

    async def instances(self, study: str, series: str = "") -> list[Held]:
        """All of a study or of a series: received ones in their order, then those of results."""
        found = [*self._received(study, series), *await self._results(study, series)]
        if not found:
            self.store.headers(StudyRef(study), series)  # raises what is missing
            raise RequestError(ErrorCode.SERIES_NOT_FOUND, f"the series is not stored in the study {study}")
        return found

    async def instance(self, study: str, series: str, sop: str) -> Held:
        """One instance."""
        header = self.store.header(sop)
        if header is not None:
            uids = header.instance
            if (uids.study_instance_uid, uids.series_instance_uid) == (study, series):
                return Held(uids, header.transfer_syntax_uid, self.store.path(uids))
        for held in await self._results(study, series):
            if held.instance.sop_instance_uid == sop:
                return held
        raise RequestError(ErrorCode.INSTANCE_NOT_FOUND, f"the instance {sop} is not stored in this series")

    async def refresh(self) -> None:
        """Read the objects of new results."""
        await self.result_rows.refresh(self.workers)

    def _received(self, study: str, series: str) -> Sequence[Held]:
        try:
            headers = self.store.headers(StudyRef(study), series)
        except RadserveError as error:
            if error.code not in (ErrorCode.STUDY_NOT_FOUND, ErrorCode.SERIES_NOT_FOUND):
                raise
            return ()
        return [Held(each.instance, each.transfer_syntax_uid, self.store.path(each.instance)) for each in headers]

    async def _results(self, study: str, series: str) -> Sequence[Held]:
        await self.refresh()
        objects = schema.result_objects.c

        def query() -> sa.Select[tuple[object, ...]]:
            found = current_objects().where(objects.study_instance_uid == study)
            if series:
                found = found.where(objects.series_instance_uid == series)
            return found.order_by(objects.series_number, objects.series_instance_uid, objects.sop_instance_uid)

        uids = "study_instance_uid", "series_instance_uid", "sop_instance_uid", "sop_class_uid"
        return [
            Held(
                InstanceRef(**{name: row[name] for name in uids}),
                row["transfer_syntax_uid"],
                self.result_rows.path(row),
            )
            for row in await self.index.query(query)
        ]
