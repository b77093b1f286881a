"""An instance on its way into the store: written aside, then committed or given up."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from radserve.dicom_io.durable import storage_error
from radserve.dicom_io.parse import InstanceHeader
from radserve.dicom_io.part10 import zero_preamble
from radserve.errors import ErrorCode, RequestError

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StoredInstance:
    """An instance that is on disk for good; `duplicate`: it was there before."""

    header: InstanceHeader
    duplicate: bool


class Incoming:
    """Made by `StudyStore.receive`. Commits under way are kept in `publishing`.

    `publish` takes the file that is written, and what to await before it is durable.
    """

    def __init__(
        self,
        written: Path,
        max_bytes: int,
        publish: Callable[[Path, Awaitable[None]], Awaitable[StoredInstance]],
        publishing: set[asyncio.Task[StoredInstance]],
    ) -> None:
        self._written = written
        self._max_bytes = max_bytes
        self._publish = publish
        self._publishing = publishing
        self._size = 0
        try:
            self._file: BinaryIO | None = self._written.open("x+b")
        except OSError as error:
            raise storage_error(error) from None

    def write(self, chunk: bytes | memoryview) -> None:
        """Add bytes (to the system's cache: quick for chunks of a few MB at most).

        Raises RequestError REQUEST_TOO_LARGE, StorageError STORAGE_FULL.
        """
        file = self._open_file()
        self._size += len(chunk)
        if self._size > self._max_bytes:
            raise RequestError(ErrorCode.REQUEST_TOO_LARGE, f"the instance has more than {self._max_bytes} bytes")
        try:
            file.write(chunk)
        except OSError as error:
            raise storage_error(error) from None

    async def commit(self) -> StoredInstance:
        """Make the instance durable, then known. Only its return is an acknowledgement.

        What its preamble held is replaced by zeros: all else is kept as it came, so that files which differ in their
        preambles alone are the same.

        Raises DicomError where the header cannot be read, StorageError UID_CONFLICT where other bytes are stored under
        the same SOP Instance UID, STORAGE_FULL, RequestError STUDY_ERASED, WorkerError. A caller who is cancelled may
        still find it stored.
        """
        file = self._open_file()
        try:
            replaced = zero_preamble(file)
        except OSError as error:
            raise storage_error(error) from None
        if replaced:
            digest = hashlib.sha256(replaced).hexdigest()
            logger.warning("audit: repair: a preamble that was in use (sha256 %s) is stored as zeros", digest)
        self._file = None
        task = asyncio.create_task(self._finish(file))
        self._publishing.add(task)
        task.add_done_callback(self._publishing.discard)
        return await asyncio.shield(task)

    def discard(self) -> None:
        """Give up what was not committed."""
        if self._file is not None:
            with contextlib.suppress(OSError):  # closing flushes: a full disk says so again
                self._file.close()
            self._file = None
            _remove(self._written)

    async def _finish(self, file: BinaryIO) -> StoredInstance:
        try:
            _flush(file)
            return await self._publish(self._written, asyncio.to_thread(_fsync_and_close, file))
        finally:
            _remove(self._written)

    def _open_file(self) -> BinaryIO:
        if self._file is None:
            raise RuntimeError("this instance was committed or given up already")
        return self._file


def _flush(file: BinaryIO) -> None:
    """Give the system what is left to be written, so that another process may read it."""
    try:
        file.flush()
    except OSError as error:
        with contextlib.suppress(OSError):  # closing flushes: a full disk says so again
            file.close()
        raise storage_error(error) from None


def _fsync_and_close(file: BinaryIO) -> None:
    try:
        with file:
            os.fsync(file.fileno())
    except OSError as error:
        raise storage_error(error) from None


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)
