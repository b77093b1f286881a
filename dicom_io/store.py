"""The studies of this server: received instances on disk as they came, known by their headers in memory.

An instance is acknowledged only when it is durable and its header could be read. Files lie at
ROOT/STUDY_UID/SERIES_UID/SOP_UID.dcm; they are never overwritten or altered.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO
from weakref import WeakValueDictionary

from radserve._checks import invalid
from radserve.dicom_io.durable import DurableTree, storage_error, uid_conflict
from radserve.dicom_io.parse import InstanceHeader, parse_header
from radserve.errors import ErrorCode, RadserveError, RequestError, WorkerError
from radserve.image import Image
from radserve.references import AcquisitionContext, InstanceRef, StudyRef
from radserve.workers import WorkerPool

if TYPE_CHECKING:
    from radserve.dicom_io.decode import DecodeLimits

logger = logging.getLogger(__name__)

RECOVERY_BATCH = 64  # headers read in one task of a worker


@dataclass(frozen=True, slots=True)
class StoreLimits:
    """`max_instance_bytes`: the largest instance taken. `decode`: the bounds of decoding, None for the usual ones."""

    max_instance_bytes: int = 2 << 30
    decode: DecodeLimits | None = None

    def __post_init__(self) -> None:
        if self.max_instance_bytes < 1:
            raise invalid("StoreLimits.max_instance_bytes", self.max_instance_bytes, "at least 1")


@dataclass(frozen=True, slots=True)
class StoredInstance:
    """An instance that is on disk for good; `duplicate`: the same bytes were there before."""

    header: InstanceHeader
    duplicate: bool


class StudyStore:
    """Takes and gives the instances under one folder (ports.InstanceSource). For one event loop.

    The folder belongs to one store at a time. `open` comes before anything else, `close` at the end.
    """

    def __init__(self, root: Path, workers: WorkerPool, limits: StoreLimits | None = None) -> None:
        self._root = root
        self._workers = workers
        self._limits = limits or StoreLimits()
        self._tree = DurableTree(root)
        self._by_sop: dict[str, InstanceHeader] = {}
        self._studies: dict[str, dict[str, InstanceHeader]] = {}
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._publishing: set[asyncio.Task[StoredInstance]] = set()

    async def open(self) -> None:
        """Claim the folder, remove what was never committed and read the headers of what was.

        Files whose header cannot be read (any more) stay on disk, unlisted, and are counted in the log. Raises
        StorageError.
        """
        await asyncio.to_thread(self._tree.claim)
        paths = await asyncio.to_thread(lambda: sorted(self._root.glob("[0-9]*/[0-9]*/*.dcm")))
        batches = [paths[at : at + RECOVERY_BATCH] for at in range(0, len(paths), RECOVERY_BATCH)]
        refused: Counter[str] = Counter()
        for found in await asyncio.gather(*(self._recover(batch) for batch in batches)):
            for path, header in found:
                if isinstance(header, RadserveError):
                    refused[header.code] += 1
                elif self._path(header.instance) != path:
                    refused["misplaced"] += 1
                else:
                    self._add(header)
        logger.info("%d instances of %d studies are stored", len(self._by_sop), len(self._studies))
        if refused:
            logger.warning("stored files left out: %s", dict(refused))

    async def close(self) -> None:
        """Let commits that are under way end, and give the folder free."""
        await asyncio.gather(*self._publishing, return_exceptions=True)
        await asyncio.to_thread(self._tree.release)

    @contextlib.asynccontextmanager
    async def receive(self) -> AsyncIterator[Incoming]:
        """Take one instance: write its bytes in order, then commit. Without a commit nothing stays.

        Raises StorageError STORAGE_FULL.
        """
        incoming = Incoming(self)
        try:
            yield incoming
        finally:
            incoming._discard()

    async def list_studies(self) -> Sequence[StudyRef]:
        """All stored studies, in the order of their UIDs."""
        return [StudyRef(uid) for uid in sorted(self._studies)]

    async def list_instances(self, study: StudyRef) -> Sequence[tuple[InstanceRef, AcquisitionContext]]:
        """The instances of a study, by series number and instance number. Raises RequestError STUDY_NOT_FOUND."""
        return [(header.instance, header.context) for header in self.headers(study)]

    def headers(self, study: StudyRef, series_instance_uid: str = "") -> Sequence[InstanceHeader]:
        """The headers of a study, or of one of its series, in the order of `list_instances`.

        Raises RequestError STUDY_NOT_FOUND, SERIES_NOT_FOUND.
        """
        uid = study.study_instance_uid
        if uid not in self._studies:
            raise RequestError(ErrorCode.STUDY_NOT_FOUND, f"the study {uid} is not stored here")
        found = sorted(self._studies[uid].values(), key=_order)
        if series_instance_uid:
            found = [header for header in found if header.instance.series_instance_uid == series_instance_uid]
        if not found:
            message = f"the series {series_instance_uid[:64]} is not stored in the study {uid}"
            raise RequestError(ErrorCode.SERIES_NOT_FOUND, message)
        return found

    async def read_image(self, instance: InstanceRef) -> Image:
        """Decode one instance in a worker. Raises RequestError, DicomError, WorkerError."""
        series = self.headers(StudyRef(instance.study_instance_uid), instance.series_instance_uid)
        if instance not in (header.instance for header in series):
            text = f"the instance {instance.sop_instance_uid} is not stored here"
            raise RequestError(ErrorCode.INVALID_ARGUMENT, text)
        from radserve.dicom_io.decode import DecodeLimits, decode_image

        limits = self._limits.decode or DecodeLimits()
        return await self._workers.run(decode_image, self._path(instance), limits)

    async def _commit(self, written: Path) -> StoredInstance:
        """Publish a written file and list it."""
        header = await self._workers.run(parse_header, written)
        uid = header.instance.sop_instance_uid
        lock = self._locks.setdefault(uid, asyncio.Lock())
        async with lock:
            listed = self._by_sop.get(uid, header)
            if listed.instance != header.instance:  # the UID names one instance in all studies
                raise uid_conflict()
            is_new = await asyncio.to_thread(self._tree.publish, written, self._path(header.instance))
            self._add(header)
        return StoredInstance(header, duplicate=not is_new)

    async def _recover(self, paths: list[Path]) -> list[tuple[Path, InstanceHeader | RadserveError]]:
        try:
            return list(zip(paths, await self._workers.run(parse_headers, paths), strict=True))
        except WorkerError as error:
            if len(paths) == 1:
                return [(paths[0], error)]
        # One file of the batch ended the worker: read them one by one.
        return [found for path in paths for found in await self._recover([path])]

    def _add(self, header: InstanceHeader) -> None:
        instance = header.instance
        self._by_sop[instance.sop_instance_uid] = header
        self._studies.setdefault(instance.study_instance_uid, {})[instance.sop_instance_uid] = header

    def _path(self, instance: InstanceRef) -> Path:
        folder = self._root / instance.study_instance_uid / instance.series_instance_uid
        return folder / f"{instance.sop_instance_uid}.dcm"


class Incoming:
    """An instance on its way in; made by `StudyStore.receive`."""

    def __init__(self, store: StudyStore) -> None:
        self._store = store
        self._written = store._tree.aside()
        self._size = 0
        try:
            self._file: BinaryIO | None = self._written.open("xb")
        except OSError as error:
            raise storage_error(error) from None

    def write(self, chunk: bytes) -> None:
        """Add bytes (to the system's cache: quick for chunks of a few MB at most).

        Raises RequestError REQUEST_TOO_LARGE, StorageError STORAGE_FULL.
        """
        file = self._open_file()
        self._size += len(chunk)
        limit = self._store._limits.max_instance_bytes
        if self._size > limit:
            raise RequestError(ErrorCode.REQUEST_TOO_LARGE, f"the instance has more than {limit} bytes")
        try:
            file.write(chunk)
        except OSError as error:
            raise storage_error(error) from None

    async def commit(self) -> StoredInstance:
        """Make the instance durable, then known. Only its return is an acknowledgement.

        Raises DicomError where the header cannot be read, StorageError UID_CONFLICT where other bytes are stored under
        the same SOP Instance UID, STORAGE_FULL, WorkerError. A caller who is cancelled may still find it stored.
        """
        file = self._open_file()
        self._file = None
        task = asyncio.create_task(self._finish(file))
        self._store._publishing.add(task)
        task.add_done_callback(self._store._publishing.discard)
        return await asyncio.shield(task)

    async def _finish(self, file: BinaryIO) -> StoredInstance:
        try:
            await asyncio.to_thread(_fsync_and_close, file)
            return await self._store._commit(self._written)
        finally:
            _remove(self._written)

    def _open_file(self) -> BinaryIO:
        if self._file is None:
            raise RuntimeError("this instance was committed or given up already")
        return self._file

    def _discard(self) -> None:
        """Give up what was not committed."""
        if self._file is not None:
            with contextlib.suppress(OSError):  # closing flushes: a full disk says so again
                self._file.close()
            self._file = None
            _remove(self._written)


def parse_headers(paths: Sequence[Path]) -> list[InstanceHeader | RadserveError]:
    """`parse_header` of many files, errors as values."""
    return [_parse(path) for path in paths]


def _parse(path: Path) -> InstanceHeader | RadserveError:
    try:
        return parse_header(path)
    except RadserveError as error:
        return error
    except OSError as error:
        return storage_error(error)


def _order(header: InstanceHeader) -> tuple[float, str, float, str]:
    series_number, number = header.context.series_number, header.instance_number
    return (
        math.inf if series_number is None else series_number,
        header.instance.series_instance_uid,
        math.inf if number is None else number,
        header.instance.sop_instance_uid,
    )


def _fsync_and_close(file: BinaryIO) -> None:
    try:
        with file:
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise storage_error(error) from None


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)
