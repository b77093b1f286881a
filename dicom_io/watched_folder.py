"""A folder whose files are taken into the store: each goes when it is stored for good, or it is refused with a reason.

A file is taken when it has stayed as it is for a while: a writer that renames a finished file into the folder is taken
after that while, one that still writes is waited for. Names that begin with a dot or end with .part or .tmp are left
alone. What cannot be stored is moved to refused/, with the reason in a file beside it. Of a zip archive all members are
taken; where one cannot be, the others are, and the archive is moved with the reasons.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from radserve.dicom_io.durable import fsync_folder, storage_error
from radserve.dicom_io.ends import check_whole_file
from radserve.dicom_io.found import DiscoveryLimits
from radserve.dicom_io.reserve import DiskReserve
from radserve.dicom_io.store import StudyStore
from radserve.dicom_io.unpack import is_archive, unpack_some
from radserve.errors import DicomError, ErrorCode, RadserveError, StorageError
from radserve.workers import WorkerPool

logger = logging.getLogger(__name__)

REFUSED, UNPACKING = "refused", ".unpacking"
UNFINISHED = (".part", ".tmp", ".crdownload", ".filepart")
CHUNK_BYTES = 1 << 20
AT_ONCE = 4
PATIENCE = 30  # so many times longer than others is a file waited for whose end is missing


@dataclass(frozen=True, slots=True)
class _Look:
    """How a file looked, and since when it does."""

    inode: int
    size: int
    changed_ns: int
    since: float


class WatchedFolder:
    """Takes the files below `root` into `store`. For one event loop, that of the store; `settle_s` in seconds."""

    def __init__(
        self,
        root: Path,
        store: StudyStore,
        workers: WorkerPool,
        reserve: DiskReserve | None = None,
        settle_s: float = 2.0,
        limits: DiscoveryLimits | None = None,
        max_instance_bytes: int = 2 << 30,
    ) -> None:
        self._root = root
        self._store = store
        self._workers = workers
        self._reserve = reserve
        self._settle_s = settle_s
        self._limits = limits or DiscoveryLimits()
        self._max_instance_bytes = max_instance_bytes
        self._looks: dict[Path, _Look] = {}
        self._kept: set[tuple[Path, _Look]] = set()  # taken, but could not be removed
        self._is_full = False  # the disk, as far as was seen and said

    async def open(self) -> None:
        """Make the folder. Raises StorageError."""

        def make() -> None:
            (self._root / REFUSED).mkdir(parents=True, exist_ok=True)
            shutil.rmtree(self._root / UNPACKING, ignore_errors=True)

        try:
            await asyncio.to_thread(make)
        except OSError as error:
            raise storage_error(error) from None

    async def run(self) -> None:
        """Take what is there, then what comes, until cancelled."""
        from watchfiles import awatch

        look_ms = max(50, int(self._settle_s * 500))  # whether a file still grows no event tells
        while True:
            try:
                await self._tick_now()
                async for _ in awatch(self._root, rust_timeout=look_ms, yield_on_timeout=True, watch_filter=None):
                    await self._tick_now()
            except Exception as error:  # a network folder comes and goes
                logger.warning("the watched folder could not be looked at: %s", type(error).__name__)
            await asyncio.sleep(self._settle_s)

    async def _tick_now(self) -> None:
        await self.tick(asyncio.get_running_loop().time())

    async def tick(self, now: float) -> int:
        """Take every file that has not changed for long enough by `now` (seconds, from any beginning); how many."""
        looks = await asyncio.to_thread(dict, self._looked(now))
        self._looks = looks
        settled = {each for each in looks.items() if now - each[1].since >= self._settle_s}
        due = sorted(path for path, _ in settled - self._kept)
        gate = asyncio.Semaphore(AT_ONCE)

        async def take(path: Path) -> bool:
            async with gate:
                return await self._take(path, now)

        return sum(await asyncio.gather(*map(take, due)))

    def _looked(self, now: float) -> Iterator[tuple[Path, _Look]]:
        for folder, names, files in os.walk(self._root):
            if Path(folder) == self._root and REFUSED in names:
                names.remove(REFUSED)
            names[:] = [name for name in names if not name.startswith(".")]
            for name in files:
                path = Path(folder, name)
                if not name.startswith(".") and path.suffix not in UNFINISHED and (look := self._look(path, now)):
                    yield path, look

    def _look(self, path: Path, now: float) -> _Look | None:
        try:
            found = path.lstat()
        except OSError:  # taken away meanwhile
            return None
        if path.is_symlink() or not path.is_file():
            return None
        look = _Look(found.st_ino, found.st_size, found.st_mtime_ns, now)
        before = self._looks.get(path)
        is_same = before and (before.inode, before.size, before.changed_ns) == (look.inode, look.size, look.changed_ns)
        return before if is_same else look

    async def _take(self, path: Path, now: float) -> bool:
        """Store a file and remove it, or refuse it; whether it is gone from where it was."""
        look = self._looks[path]
        try:
            await self._stored(path)
        except RadserveError as error:
            if error.code is ErrorCode.STORAGE_FULL:
                if not self._is_full:  # once, not for every file at every look
                    logger.warning("files of the watched folder wait for space: %s", error.client_message)
                self._is_full = True
                return False
            if self._may_pass(error, now - look.since):
                logger.info("a file of the watched folder is left for later: %s", error.code)
                return False
            logger.warning("a file of the watched folder is refused: %s", error.code)
            return await self._gone(path, partial(self._move_away, path, f"{error.code}: {error.client_message}\n"))
        except OSError:  # taken away, or not to be read (yet)
            return False
        if self._is_full:
            logger.info("the watched folder goes on: there is space again")
            self._is_full = False
        # Other bytes may have come in its place while it was read: they are looked at by themselves.
        return self._look(path, now) == look and await self._gone(path, path.unlink)

    async def _stored(self, path: Path) -> None:
        if await asyncio.to_thread(is_archive, path):
            await self._unpacked(path)
        else:
            await self._put(path)

    async def _unpacked(self, path: Path) -> None:
        """Store the members of an archive. Raises DicomError with the reasons where some cannot be."""
        refused: list[tuple[str, RadserveError]] = []
        start: int | None = 0
        while start is not None:
            self._check_reserve()
            folder = self._root / UNPACKING / secrets.token_hex(8)
            await asyncio.to_thread(partial(folder.mkdir, parents=True))
            try:
                most = self._max_instance_bytes
                turn = await self._workers.run(unpack_some, path, folder, start, most, self._limits)
                for name, member in turn.members:
                    try:
                        if isinstance(member, RadserveError):
                            raise member
                        await self._put(member)
                    except RadserveError as error:
                        if isinstance(error, StorageError) and error.code is not ErrorCode.UID_CONFLICT:
                            raise
                        refused.append((name, error))
            finally:
                await asyncio.to_thread(partial(shutil.rmtree, folder, ignore_errors=True))
            start = turn.after
        if refused:
            reasons = [f"{name or 'the archive'}: {error.code}: {error.client_message}" for name, error in refused]
            raise DicomError(refused[0][1].code, "\n".join((f"{len(refused)} not taken", *reasons)))

    def _check_reserve(self) -> None:
        if self._reserve:
            self._reserve.check()

    async def _put(self, path: Path) -> None:
        self._check_reserve()
        await self._workers.run(check_whole_file, path)
        async with self._store.receive() as incoming:
            with await asyncio.to_thread(path.open, "rb") as file:
                while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
                    incoming.write(chunk)
            await incoming.commit()

    def _may_pass(self, error: RadserveError, waited_s: float) -> bool:
        """Whether it is not, or not for sure, the fault of the file: a disk that is full, a copy that is slow."""
        if isinstance(error, StorageError):
            return error.code is not ErrorCode.UID_CONFLICT
        return error.code is ErrorCode.TRUNCATED and waited_s < PATIENCE * self._settle_s

    async def _gone(self, path: Path, take_away: Callable[[], None]) -> bool:
        try:
            await asyncio.to_thread(take_away)
        except OSError as error:
            logger.warning("a file cannot be taken out of the watched folder: %s", type(error).__name__)
            self._kept.add((path, self._looks[path]))
            return False
        return True

    def _move_away(self, path: Path, reason: str) -> None:
        target = self._root / REFUSED / path.relative_to(self._root)
        target.parent.mkdir(parents=True, exist_ok=True)
        number = 1
        while target.exists():
            number += 1
            target = target.with_name(f"{path.stem} ({number}){path.suffix}")
        target.with_name(f"{target.name}.reason.txt").write_text(reason, encoding="utf-8")
        path.rename(target)
        fsync_folder(target.parent)
