"""Opens study stores that share the site's sandboxed workers and limits."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from radserve.dicom_io.store import StoreLimits, StudyStore
from radserve.server.records import Records
from radserve.workers import WorkerPool


@dataclass(frozen=True, slots=True)
class Stores:
    """What every store of the site has in common."""

    workers: WorkerPool
    limits: StoreLimits

    @asynccontextmanager
    async def opened(self, root: Path, records: Records | None = None) -> AsyncIterator[StudyStore]:
        """A store over `root`, with what is already there; the folder is free again afterwards."""
        store = StudyStore(
            root, self.workers, self.limits, records.index if records else None, records.options if records else None
        )
        await store.open()
        try:
            yield store
        finally:
            await store.close()
