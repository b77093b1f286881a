"""The commit of an instance: its bytes on disk for good, at their place and in the index, then listed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from radserve.dicom_io.durable import DurableTree, uid_conflict
from radserve.dicom_io.incoming import Incoming, StoredInstance
from radserve.dicom_io.index import Received, StudyIndex
from radserve.dicom_io.index_entry import IndexEntry, read_received
from radserve.dicom_io.listing import Listing
from radserve.dicom_io.quick_header import QuickHeader, entry_of, quick_header
from radserve.dicom_io.recovery import place_of
from radserve.dicom_io.spool import Memory, Spool
from radserve.dicom_io.store_options import IndexedOptions
from radserve.dicom_io.together import Together
from radserve.errors import ErrorCode, RadserveError, RequestError, StorageError
from radserve.references import InstanceRef, StudyRef
from radserve.workers import WorkerPool

T = TypeVar("T")
COMMITS_AT_ONCE = 32
FEW_COMMITS = 8  # so few at once have threads besides


class Commits:
    """Takes instances into a tree, an index and a listing. For one event loop."""

    def __init__(
        self,
        root: Path,
        tree: DurableTree,
        listing: Listing,
        workers: WorkerPool,
        index: StudyIndex | None,
        options: IndexedOptions,
    ) -> None:
        self._root = root
        self._tree = tree
        self._listing = listing
        self._workers = workers
        self._index = index
        self._options = options
        self._syncing = Together(tree.sync)
        self._memory = Memory()
        self._threads = ThreadPoolExecutor(COMMITS_AT_ONCE, "store")
        self._helpers = ThreadPoolExecutor(COMMITS_AT_ONCE, "store-helper")
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._publishing: set[asyncio.Task[StoredInstance]] = set()

    @property
    def held_bytes(self) -> int:
        """What instances that are on their way hold in memory."""
        return self._memory.held

    def incoming(self, max_bytes: int, calling_ae: str, study: StudyRef | None) -> Incoming:
        """An instance to be written and committed; with `study`, one of another study is refused."""

        def commit(spool: Spool) -> Coroutine[Any, Any, StoredInstance]:
            return self._commit(spool, calling_ae, study)

        return Incoming(Spool(self._tree.aside(), self._memory), max_bytes, commit, self._publishing)

    async def close(self) -> None:
        """Let commits that are under way end."""
        await asyncio.gather(*self._publishing, return_exceptions=True)
        for threads in (self._threads, self._helpers):
            threads.shutdown(wait=False)

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
            self._listing.add(known.header)
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
        listed = self._listing.get(instance.sop_instance_uid)
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
