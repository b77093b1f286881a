"""What is held of a study, for retrieval: received instances and the objects of results, each with its file."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import sqlalchemy as sa

from radserve.dicom_io import index_schema as schema
from radserve.dicom_io.dicomweb.header_cache import BATCH, HeaderCache, Headers
from radserve.dicom_io.dicomweb.held import Held
from radserve.dicom_io.index import StudyIndex
from radserve.dicom_io.result_rows import ResultRows, current_objects
from radserve.dicom_io.store import StudyStore
from radserve.errors import ErrorCode, RadserveError, RequestError
from radserve.references import InstanceRef, StudyRef
from radserve.workers import WorkerPool

READ_AHEAD = 2  # batches


@dataclass(frozen=True, slots=True)
class Holdings:
    """Finds files. Raises RequestError STUDY_NOT_FOUND, SERIES_NOT_FOUND, INSTANCE_NOT_FOUND, StorageError."""

    store: StudyStore
    index: StudyIndex
    result_rows: ResultRows
    workers: WorkerPool
    cache: HeaderCache

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

    async def several(self, study_by_sop: Mapping[str, str]) -> dict[str, Held]:
        """Instances by their SOP Instance UIDs and those of their studies; those that are not there are left out."""
        found: dict[str, Held] = {}
        for sop, study in study_by_sop.items():
            header = self.store.header(sop)
            if header is not None and header.instance.study_instance_uid == study:
                found[sop] = Held(header.instance, header.transfer_syntax_uid, self.store.path(header.instance))
        left = [sop for sop in study_by_sop if sop not in found]
        objects = schema.result_objects.c
        for at in range(0, len(left), 500):  # SQLite bounds the parameters of a statement
            part = left[at : at + 500]
            rows = await self._result_objects(partial(_one_of, objects.sop_instance_uid, part))
            found.update({held.instance.sop_instance_uid: held for held in rows})
        return found

    async def headers(self, held: Sequence[Held]) -> AsyncGenerator[Headers, None]:
        """The headers of instances as DICOM JSON (see HeaderCache.read), in batches; the next are read ahead."""
        tasks: deque[asyncio.Task[Headers]] = deque()
        try:
            for at in range(0, len(held), BATCH):
                tasks.append(asyncio.create_task(self.cache.read(held[at : at + BATCH], self.workers)))
                if len(tasks) > READ_AHEAD:
                    yield await tasks.popleft()
            while tasks:
                yield await tasks.popleft()
        finally:
            for task in tasks:
                task.cancel()

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
        wanted = objects.study_instance_uid == study
        return await self._result_objects(
            lambda: wanted & (objects.series_instance_uid == series) if series else wanted
        )

    async def _result_objects(self, condition: Callable[[], sa.ColumnElement[bool]]) -> Sequence[Held]:
        objects = schema.result_objects.c

        def query() -> sa.Select[tuple[object, ...]]:
            order = objects.series_number, objects.series_instance_uid, objects.sop_instance_uid
            return current_objects().where(condition()).order_by(*order)

        uids = "study_instance_uid", "series_instance_uid", "sop_instance_uid", "sop_class_uid"
        return [
            Held(
                InstanceRef(**{name: row[name] for name in uids}),
                row["transfer_syntax_uid"],
                self.result_rows.path(row),
            )
            for row in await self.index.query(query)
        ]


def _one_of(column: sa.Column[str], values: Sequence[str]) -> sa.ColumnElement[bool]:
    return column.in_(values)
