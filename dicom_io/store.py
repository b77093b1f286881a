"""The studies of this server: received instances on disk as they came, known by their headers in memory and an index.

An instance is acknowledged only when it is durable and its header could be read. Files lie at
ROOT/STUDY_UID/SERIES_UID/SOP_UID.dcm; they are never overwritten or altered, but that a preamble in use is zeroed when
it comes: it could make a program of the file.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakValueDictionary

from radserve._checks import invalid
from radserve.dicom_io.durable import DurableTree, uid_conflict
from radserve.dicom_io.incoming import Incoming, StoredInstance
from radserve.dicom_io.index import Received, StudyIndex
from radserve.dicom_io.index_entry import IndexEntry, read_received
from radserve.dicom_io.parse import InstanceHeader, patient_key
from radserve.dicom_io.quarantine import QuarantineFolder
from radserve.dicom_io.quick_header import QuickHeader, entry_of, quick_header
from radserve.dicom_io.recovery import Recovery, place_of
from radserve.dicom_io.spool import Memory, Spool
from radserve.dicom_io.together import Together
from radserve.errors import ErrorCode, RadserveError, RequestError, StorageError
from radserve.image import Image, Volume
from radserve.references import AcquisitionContext, InstanceRef, StudyRef
from radserve.workers import WorkerPool

if TYPE_CHECKING:
    from radserve.dicom_io.decode import DecodeLimits

__all__ = ["Incoming", "IndexedOptions", "StoreLimits", "StoredInstance", "StudyStore"]

logger = logging.getLogger(__name__)

T = TypeVar("T")
COMMITS_AT_ONCE = 32
FEW_COMMITS = 8  # so few at once have threads besides


async def _no_results(result_uid: str) -> None:
    """Where results are kept elsewhere."""


@dataclass(frozen=True, slots=True)
class StoreLimits:
    """`max_instance_bytes`: the largest instance taken. `decode`: the bounds of decoding, None for the usual ones."""

    max_instance_bytes: int = 2 << 30
    decode: DecodeLimits | None = None

    def __post_init__(self) -> None:
        if self.max_instance_bytes < 1:
            raise invalid("StoreLimits.max_instance_bytes", self.max_instance_bytes, "at least 1")


@dataclass(frozen=True, slots=True)
class IndexedOptions:
    """What a store with an index does besides: `quarantine` takes bytes that conflict with stored ones; an erased study
    is refused when it comes again (`refuse_erased`) or taken; `remove_result` removes the files of one result,
    `remove_study` what else is kept of a study. `now` gives seconds since 1970.
    """

    quarantine: QuarantineFolder | None = None
    refuse_erased: bool = True
    remove_result: Callable[[str], Awaitable[None]] = _no_results
    remove_study: Callable[[str], Awaitable[None]] = _no_results
    now: Callable[[], float] = time.time


class StudyStore:
    """Takes and gives the instances under one folder (ports.InstanceSource). For one event loop.

    The folder belongs to one store at a time. `open` comes before anything else, `close` at the end.
    """

    def __init__(
        self,
        root: Path,
        workers: WorkerPool,
        limits: StoreLimits | None = None,
        index: StudyIndex | None = None,
        options: IndexedOptions | None = None,
    ) -> None:
        self._root = root
        self._workers = workers
        self._limits = limits or StoreLimits()
        self._index = index
        self._options = options or IndexedOptions()
        self._tree = DurableTree(root)
        self._syncing = Together(self._tree.sync)
        self._memory = Memory()
        self._threads = ThreadPoolExecutor(COMMITS_AT_ONCE, "store")
        self._helpers = ThreadPoolExecutor(COMMITS_AT_ONCE, "store-helper")
        self._by_sop: dict[str, InstanceHeader] = {}
        self._studies: dict[str, dict[str, InstanceHeader]] = {}
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._publishing: set[asyncio.Task[StoredInstance]] = set()

    async def open(self) -> None:
        """Claim the folder, finish commits that were acknowledged and erasures, remove the rest; list what is stored.

        Files that the index does not know are read; ones whose header cannot be read (any more) stay on disk, unlisted,
        and are counted in the log. Raises StorageError.
        """
        await asyncio.to_thread(self._tree.claim)
        await self.erase_requested()
        recovery = Recovery(self._root, self._workers)
        await self._finish_interrupted(recovery)
        for header in await recovery.headers(self._index):
            self._add(header)
        if self._index:
            await recovery.fill_steps(self._index)
        logger.info("%d instances of %d studies are stored", len(self._by_sop), len(self._studies))

    async def _finish_interrupted(self, recovery: Recovery) -> None:
        left = await asyncio.to_thread(self._tree.left_aside)
        moves = await recovery.acknowledged(left, self._index) if self._index else []
        await asyncio.to_thread(self._tree.finish, moves)
        await asyncio.to_thread(self._tree.drop_aside, left)

    async def rebuild(self) -> int:
        """Read all files anew and make the index from them; return how many instances it has. Raises StorageError."""
        received = await Recovery(self._root, self._workers).read_all()
        if self._index:
            await self._index.replace(received)
        self._by_sop.clear()
        self._studies.clear()
        for each in received:
            self._add(each.entry.header)
        return len(received)

    async def erase(self, study: StudyRef) -> int:
        """Remove a study for good: files, rows, results, quarantined bytes. A tombstone stays, which knows no UID.

        Returns how many instances there were. An erasure that is cut off is finished by the next `open`. Raises
        StorageError.
        """
        if self._index:
            await self._index.bury(study.study_instance_uid, self._options.now())
        return await self._erase(study.study_instance_uid)

    async def erase_requested(self) -> int:
        """Do the erasures that were asked for in the index (by another process too); return how many."""
        asked = await self._index.to_be_erased() if self._index else ()
        for uid in asked:
            await self._erase(uid)
        return len(asked)

    async def close(self) -> None:
        """Let commits that are under way end, and give the folder free."""
        await asyncio.gather(*self._publishing, return_exceptions=True)
        for threads in (self._threads, self._helpers):
            threads.shutdown(wait=False)
        await asyncio.to_thread(self._tree.release)

    @contextlib.asynccontextmanager
    async def receive(self, calling_ae: str = "", study: StudyRef | None = None) -> AsyncIterator[Incoming]:
        """Take one instance: write its bytes in order, then commit. Without a commit nothing stays.

        `calling_ae` is from whom it comes, for the routing rules. With `study`, an instance of another one is refused
        (INVALID_ARGUMENT). Raises StorageError STORAGE_FULL.
        """

        def commit(spool: Spool) -> Coroutine[Any, Any, StoredInstance]:
            return self._commit(spool, calling_ae, study)

        spool = Spool(self._tree.aside(), self._memory)
        incoming = Incoming(spool, self._limits.max_instance_bytes, commit, self._publishing)
        try:
            yield incoming
        finally:
            incoming.discard()

    @property
    def held_bytes(self) -> int:
        """What instances that are on their way hold in memory."""
        return self._memory.held

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

    def header(self, sop_instance_uid: str) -> InstanceHeader | None:
        """The header of an instance, None where it is not stored."""
        return self._by_sop.get(sop_instance_uid)

    async def same_patient(self, one: StudyRef, other: StudyRef) -> bool:
        """Whether both studies have the same Patient ID, its issuer and birth date; nobody's ID is empty.

        Raises RequestError STUDY_NOT_FOUND, DicomError, WorkerError.
        """
        first = [place_of(self._root, self.headers(study)[0].instance) for study in (one, other)]
        patient, another = [await self._workers.run(patient_key, path) for path in first]
        return bool(patient[0]) and patient == another

    async def read_image(self, instance: InstanceRef) -> Image:
        """Decode one instance in a worker. Raises RequestError, DicomError, WorkerError."""
        self._require(instance)
        from radserve.dicom_io.decode import DecodeLimits, decode_image

        limits = self._limits.decode or DecodeLimits()
        return await self._workers.run(decode_image, place_of(self._root, instance), limits)

    def _require(self, instance: InstanceRef) -> None:
        stored = self._by_sop.get(instance.sop_instance_uid)
        if stored is None or stored.instance != instance:
            self.headers(StudyRef(instance.study_instance_uid), instance.series_instance_uid)  # says what is missing
            text = f"the instance {instance.sop_instance_uid} is not stored here"
            raise RequestError(ErrorCode.INVALID_ARGUMENT, text)

    async def read_volume(self, instances: Sequence[InstanceRef]) -> Volume:
        """Decode instances of one series and stack them. Raises as `read_image`, and GeometryError."""
        for instance in instances:
            self._require(instance)
        from radserve.dicom_io.decode import DecodeLimits
        from radserve.dicom_io.volume_reading import read_volume

        paths = [place_of(self._root, instance) for instance in instances]
        return await read_volume(self._workers, paths, self._limits.decode or DecodeLimits())

    def path(self, instance: InstanceRef) -> Path:
        """Where the file of an instance is, for tasks of the workers."""
        return place_of(self._root, instance)

    async def _commit(self, spool: Spool, calling_ae: str, study: StudyRef | None) -> StoredInstance:
        """Have the bytes on disk for good, at their place and in the index, then list them."""
        known = quick_header(spool.data()) or await self._read_in_sandbox(spool)
        instance = known.header.instance
        if study and instance.study_instance_uid != study.study_instance_uid:
            text = "the instance is of another study than the one it is sent to"
            raise RequestError(ErrorCode.INVALID_ARGUMENT, text)
        lock = self._locks.setdefault(instance.sop_instance_uid, asyncio.Lock())
        async with lock:
            try:
                is_new = await self._in_thread(self._keep, spool, known, calling_ae)
            except StorageError as error:
                if error.code is ErrorCode.UID_CONFLICT and self._options.quarantine:
                    with spool.path.open("rb") as data:
                        await self._options.quarantine.keep(data, instance, calling_ae, error)
                raise
            self._add(known.header)
        return StoredInstance(known.header, duplicate=not is_new)

    async def _read_in_sandbox(self, spool: Spool) -> IndexEntry:
        await self._in_thread(spool.save)
        return await self._workers.run(read_received, spool.path)

    def _keep(self, spool: Spool, known: QuickHeader | IndexEntry, calling_ae: str) -> bool:
        """All of a commit that waits for the disk; returns whether the instance is new. For any thread.

        The bytes, their name aside and the row become durable at the same time, and that is all to wait for: `open`
        puts a file in its place whose new name was lost, and drops a row whose file is not there. Without an index
        nothing tells which files those are, so that the names at their places are waited for.
        """
        instance = known.header.instance
        place = place_of(self._root, instance)
        entry = known if isinstance(known, IndexEntry) else partial(entry_of, known, spool.data())
        is_new, has_new_row = not self._is_there(spool, instance, place), False
        row = self._beside(self._enter, entry, calling_ae)
        try:
            try:
                if is_new:
                    self._save(spool)
                    is_new = self._tree.place(spool.path, place)
                if not self._index:
                    self._syncing.run(place)
            finally:
                has_new_row = row()
        except RadserveError:  # it is not acknowledged: it must not stay
            if is_new:
                self._tree.withdraw(place)
            if self._index and has_new_row:
                self._index.remove_blocking(instance.sop_instance_uid)
            raise
        return is_new

    def _save(self, spool: Spool) -> None:
        """Make the bytes durable where they lie aside, with an index their name there, too."""
        spool.to_file()
        named = self._beside(self._syncing.run, spool.path) if self._index else None
        try:
            spool.save()
        finally:
            if named:
                named()

    def _beside(self, work: Callable[..., T], *args: object) -> Callable[[], T]:
        """Have work done in a thread of its own, or by the call of what is returned, which gives its result.

        Waiting for two syncs at once is faster; where several commits do that already, more threads only cost time.
        """
        if len(self._publishing) > FEW_COMMITS:
            return partial(work, *args)
        return self._helpers.submit(work, *args).result

    def _is_there(self, spool: Spool, instance: InstanceRef, place: Path) -> bool:
        """Whether the same instance is stored.

        Raises UID_CONFLICT where another has its UID; the bytes are saved then.
        """
        listed = self._by_sop.get(instance.sop_instance_uid)
        if listed and listed.instance != instance:  # the UID names one instance in all studies
            spool.save()
            raise uid_conflict()
        if not place.exists():
            return False
        spool.save()
        return self._tree.holds(spool.path, place)

    def _enter(self, entry: IndexEntry | Callable[[], IndexEntry], calling_ae: str) -> bool:
        """Add the row; whether there was none. For any thread."""
        if self._index is None:
            return False
        received = Received(entry if isinstance(entry, IndexEntry) else entry(), self._options.now(), calling_ae)
        return self._index.add_blocking(received, refuse_erased=self._options.refuse_erased)

    async def _in_thread(self, work: Callable[..., T], *args: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *args)

    async def _erase(self, study_instance_uid: str) -> int:
        for uid in self._studies.pop(study_instance_uid, {}):
            del self._by_sop[uid]
        count = await asyncio.to_thread(self._tree.remove_folder, self._root / study_instance_uid)
        if self._index:
            if self._options.quarantine:
                await self._options.quarantine.remove_study(study_instance_uid)
            for result_uid in await self._index.result_uids(study_instance_uid):
                await self._options.remove_result(result_uid)
            await self._options.remove_study(study_instance_uid)
            await self._index.erase(study_instance_uid, count, self._options.now())
        return count

    def _add(self, header: InstanceHeader) -> None:
        instance = header.instance
        self._by_sop[instance.sop_instance_uid] = header
        self._studies.setdefault(instance.study_instance_uid, {})[instance.sop_instance_uid] = header


def _order(header: InstanceHeader) -> tuple[float, str, float, str]:
    series_number, number = header.context.series_number, header.instance_number
    return (
        math.inf if series_number is None else series_number,
        header.instance.series_instance_uid,
        math.inf if number is None else number,
        header.instance.sop_instance_uid,
    )
