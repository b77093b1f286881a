"""A store with its index and quarantine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import sqlalchemy as sa

from radserve.dicom_io import index_schema as schema
from radserve.dicom_io.database import Database
from radserve.dicom_io.index import StudyIndex
from radserve.dicom_io.quarantine import QuarantineFolder
from radserve.dicom_io.store import IndexedOptions, StudyStore
from radserve.dicom_io.work_ledger import SqlWorkLedger
from tests.support.stored import InlineWorkers


class Site:
    """A store with its index and quarantine, as the server puts them together."""

    def __init__(self, root: Path, url: str, **options: Any) -> None:
        self.root = root
        self.workers = InlineWorkers()
        self.database = Database(url)
        self.index = StudyIndex(self.database)
        self.ledger = SqlWorkLedger(self.database)
        self.quarantine = QuarantineFolder(root / "quarantine", self.ledger)
        given = IndexedOptions(quarantine=self.quarantine, **options)
        self.store = StudyStore(root / "studies", self.workers, index=self.index, options=given)

    async def open(self) -> Site:
        await self.database.open()
        await self.store.open()
        return self

    async def close(self) -> None:
        await self.store.close()
        await self.database.close()

    async def dump(self) -> dict[str, list[tuple[Any, ...]]]:
        def work(connection: sa.Connection) -> dict[str, list[tuple[Any, ...]]]:
            tables = schema.metadata.tables.values()
            return {
                each.name: [tuple(row) for row in connection.execute(sa.select(each).order_by(*each.primary_key))]
                for each in tables
            }

        return await self.database.run(work)
