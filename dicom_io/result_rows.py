"""The DICOM objects of results as rows beside those of received instances, for who asks for the objects of a study.

A result is a folder with a manifest. Its objects are read when they are first asked for, so that results that were
written before are found as well, and the rows can be dropped at any time.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from radserve.dicom_io import attributes
from radserve.dicom_io import index_schema as schema
from radserve.dicom_io.database import Database
from radserve.dicom_io.index_entry import UIDS, clean, patient_and_study_of
from radserve.dicom_io.index_schema import ACQUISITION_TEXTS, PATIENT_AND_STUDY
from radserve.dicom_io.parse import instance_ref
from radserve.dicom_io.part10 import open_dicom, quiet
from radserve.dicom_io.result_folders import ResultFolders
from radserve.errors import RadserveError
from radserve.workers import WorkerPool

logger = logging.getLogger(__name__)


class ResultRows:
    """Brings the rows of result_objects up to date. Raises StorageError."""

    def __init__(self, database: Database, results: ResultFolders) -> None:
        self._database = database
        self._results = results
        self._read: set[str] = set()  # also those that have no object, or none that can be read

    async def refresh(self, workers: WorkerPool) -> None:
        """Read the results that have no rows yet."""
        for result_uid in await self._unread():
            rows = await self._rows(result_uid, workers)
            await self._database.run(partial(self._add, rows))
            self._read.add(result_uid)

    def path(self, row: Mapping[str, Any]) -> Path:
        """The file of a row."""
        return self._results.path(row["result_uid"], row["file_name"])

    async def _unread(self) -> list[str]:
        results, objects = schema.results, schema.result_objects
        has_rows = sa.exists().where(objects.c.result_uid == results.c.result_uid)
        query = sa.select(results.c.result_uid).where(~has_rows)
        found = await self._database.run(lambda connection: connection.execute(query).scalars().all())
        return [uid for uid in found if uid not in self._read]

    async def _rows(self, result_uid: str, workers: WorkerPool) -> list[dict[str, Any]]:
        try:
            names = [name for name, _, uid in await self._results.objects(result_uid) if uid]
            found = await workers.run(read_objects, [self._results.path(result_uid, name) for name in names])
        except RadserveError as error:
            logger.warning("the objects of a result cannot be read: %s", error.code)
            return []
        return [{**row, "result_uid": result_uid} for row in found]

    def _add(self, rows: Sequence[Mapping[str, Any]], connection: sa.Connection) -> None:
        insert = self._database.insert(schema.result_objects).on_conflict_do_nothing()
        still = sa.select(schema.results.c.result_uid)  # it may have been erased since
        known = set(
            connection.execute(still.where(schema.results.c.result_uid.in_({r["result_uid"] for r in rows}))).scalars()
        )
        for row in rows:
            if row["result_uid"] in known:
                connection.execute(insert, dict(row))


def current_objects() -> sa.Select[Any]:
    """The objects of results that no later one has replaced, without copies that came back as received instances."""
    objects, later, stored = schema.result_objects, schema.results, schema.instances
    replaced = sa.exists().where(later.c.predecessor_uid == objects.c.result_uid)
    returned = sa.exists().where(stored.c.sop_instance_uid == objects.c.sop_instance_uid)
    return sa.select(objects).where(~replaced, ~returned)


def read_objects(paths: Sequence[Path]) -> list[dict[str, Any]]:
    """The columns of each object that can be read. Run it in a worker."""
    rows = []
    for path in paths:
        try:
            rows.append(_row(path))
        except RadserveError as error:
            logger.warning("an object of a result cannot be read: %s", error.code)
    return rows


def _row(path: Path) -> dict[str, Any]:
    file = open_dicom(path)
    with quiet():
        ds = file.dataset
        instance, context = instance_ref(ds), attributes.acquisition_context(ds)
        patient_and_study = patient_and_study_of(ds)
        numbers = {name: attributes.optional_integer(ds, keyword) or 0 for name, keyword in IMAGE_NUMBERS.items()}
        return clean(
            {
                **{name: getattr(instance, name) for name in UIDS},
                "transfer_syntax_uid": file.transfer_syntax_uid,
                **{name: getattr(context, name) for name in ACQUISITION_TEXTS},
                "series_number": context.series_number,
                "instance_number": attributes.optional_integer(ds, "InstanceNumber"),
                **numbers,
                **{name: getattr(patient_and_study, name) for name in PATIENT_AND_STUDY},
                "file_name": path.name,
            }
        )


IMAGE_NUMBERS = {"image_rows": "Rows", "image_columns": "Columns", "frames": "NumberOfFrames"}
