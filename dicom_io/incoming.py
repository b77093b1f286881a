"""An instance on its way into the store: written aside, then committed or given up."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from radserve.dicom_io.parse import InstanceHeader
from radserve.dicom_io.spool import Spool
from radserve.errors import ErrorCode, RequestError

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StoredInstance:
    """An instance that is on disk for good; `duplicate`: it was there before."""

    header: InstanceHeader
    duplicate: bool


class Incoming:
    """Made by `StudyStore.receive`. Commits under way are kept in `publishing`."""

    def __init__(
        self,
        spool: Spool,
        max_bytes: int,
        publish: Callable[[Spool], Awaitable[StoredInstance]],
        publishing: set[asyncio.Task[StoredInstance]],
    ) -> None:
        self._spool: Spool | None = spool
        self._max_bytes = max_bytes
        self._publish = publish
        self._publishing = publishing

    def write(self, chunk: bytes | memoryview) -> None:
        """Add bytes (to memory or the system's cache: quick for chunks of a few MB at most).

        Raises RequestError REQUEST_TOO_LARGE, StorageError STORAGE_FULL.
        """
        spool = self._open_spool()
        if spool.size + len(chunk) > self._max_bytes:
            raise RequestError(ErrorCode.REQUEST_TOO_LARGE, f"the instance has more than {self._max_bytes} bytes")
        spool.write(chunk)

    async def commit(self) -> StoredInstance:
        """Make the instance durable, then known. Only its return is an acknowledgement.

        What its preamble held is replaced by zeros: all else is kept as it came, so that files which differ in their
        preambles alone are the same.

        Raises DicomError where the header cannot be read, StorageError UID_CONFLICT where other bytes are stored under
        the same SOP Instance UID, STORAGE_FULL, RequestError STUDY_ERASED, WorkerError. A caller who is cancelled may
        still find it stored.
        """
        spool = self._open_spool()
        if replaced := spool.zero_preamble():
            digest = hashlib.sha256(replaced).hexdigest()
            logger.warning("audit: repair: a preamble that was in use (sha256 %s) is stored as zeros", digest)
        self._spool = None
        task = asyncio.create_task(self._finish(spool))
        self._publishing.add(task)
        task.add_done_callback(self._settled)
        return await asyncio.shield(task)

    def discard(self) -> None:
        """Give up what was not committed."""
        if self._spool is not None:
            self._spool.discard()
            self._spool = None

    async def _finish(self, spool: Spool) -> StoredInstance:
        try:
            return await self._publish(spool)
        finally:
            spool.discard()

    def _settled(self, task: asyncio.Task[StoredInstance]) -> None:
        self._publishing.discard(task)
        if not task.cancelled():
            task.exception()  # looked at here, for a caller who was cancelled does not: asyncio would log all of it

    def _open_spool(self) -> Spool:
        if self._spool is None:
            raise RuntimeError("this instance was committed or given up already")
        return self._spool
