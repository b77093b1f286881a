"""Headers as DICOM JSON, kept after they were first read: they are asked for again and again, and files never change.

One SQLite file, which may be removed at any time: what is not in it, or was written of another file, is read anew. It
holds patient data, and an erased study leaves it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3
import threading
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from radserve.dicom_io.dicomweb.dicom_json import read_metadata
from radserve.dicom_io.dicomweb.held import Held
from radserve.errors import RadserveError
from radserve.workers import WorkerPool

logger = logging.getLogger(__name__)

T = TypeVar("T")
BATCH = 32
ADDRESS = "\1"  # in what is kept it stands for the address of the service, which clients say
MARK = b'"BulkDataURI":"\\u0001'
TABLE = """CREATE TABLE IF NOT EXISTS headers (
    sop_instance_uid TEXT PRIMARY KEY NOT NULL, study_instance_uid TEXT NOT NULL, size INTEGER NOT NULL,
    modified_ns INTEGER NOT NULL, json BLOB NOT NULL)"""
INDEX = "CREATE INDEX IF NOT EXISTS headers_of_a_study ON headers (study_instance_uid)"
PRAGMAS = ("journal_mode=WAL", "synchronous=NORMAL", "secure_delete=ON", "busy_timeout=10000")
Headers = list[bytes | RadserveError]
Stamp = tuple[int, int]  # size in bytes and time of the last change in ns


def with_address(header: bytes, base_url: str) -> bytes:
    """A kept header with the links that a client can follow."""
    return header.replace(MARK, MARK[:-6] + json.dumps(base_url)[1:-1].encode())


class HeaderCache:
    """The file. Failures are logged, and as if nothing were kept."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._keeping: set[asyncio.Task[None]] = set()
        self._is_closed = False

    async def read(self, held: Sequence[Held], workers: WorkerPool) -> Headers:
        """The header of each instance, errors as values; links begin with ADDRESS."""
        stamps = await asyncio.to_thread(lambda: [_stamp(each.path) for each in held])
        uids = [each.instance.sop_instance_uid for each in held]
        nothing: Mapping[str, tuple[Stamp, bytes]] = {}
        kept = await self._try(lambda connection: _kept(connection, uids), nothing)
        found: dict[int, bytes | RadserveError] = {}
        for place, (uid, stamp) in enumerate(zip(uids, stamps, strict=True)):
            if stamp and uid in kept and kept[uid][0] == stamp:
                found[place] = kept[uid][1]
        missing = [place for place in range(len(held)) if place not in found]
        for at in range(0, len(missing), BATCH):
            places = missing[at : at + BATCH]
            paths, urls = [held[place].path for place in places], [ADDRESS + held[place].url for place in places]
            read = await workers.run(read_metadata, paths, urls)
            found.update(zip(places, read, strict=True))
            kept_now = [(held[place], stamps[place], header) for place, header in zip(places, read, strict=True)]
            task = asyncio.create_task(self._keep(kept_now))  # who asks does not wait for it
            self._keeping.add(task)
            task.add_done_callback(self._keeping.discard)
        return [found[place] for place in range(len(held))]

    async def settled(self) -> None:
        """Return when all that was read is kept."""
        await asyncio.gather(*self._keeping)

    async def remove_study(self, study_instance_uid: str) -> None:
        """Forget the headers of a study, on the disk as well."""
        if self._path.exists():
            await self._try(lambda connection: _remove(connection, study_instance_uid), None)

    async def close(self) -> None:
        """Close the file: nothing is kept any more."""
        await self.settled()
        self._is_closed = True
        with self._lock:
            if self._connection:
                self._connection.close()
                self._connection = None

    async def _keep(self, read: Sequence[tuple[Held, Stamp | None, bytes | RadserveError]]) -> None:
        def rows() -> list[tuple[str, str, int, int, bytes]]:
            return [
                (uids.sop_instance_uid, uids.study_instance_uid, *stamp, zlib.compress(header, 1))
                for held, stamp, header in read
                if (uids := held.instance) and stamp and isinstance(header, bytes) and _stamp(held.path) == stamp
            ]

        await self._try(lambda connection: _insert(connection, rows()), None)

    async def _try(self, work: Callable[[sqlite3.Connection], T], default: T) -> T:
        if self._is_closed:
            return default
        try:
            return await asyncio.to_thread(self._run, work)
        except sqlite3.Error as error:
            logger.warning("headers are not kept: %s", type(error).__name__)
            return default

    def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        with self._lock:
            if self._connection is None:
                self._connection = self._opened()
            return work(self._connection)

    def _opened(self) -> sqlite3.Connection:
        try:
            return _open(self._path)
        except sqlite3.DatabaseError:  # damaged: it is made anew
            for name in ("", "-wal", "-shm"):
                self._path.with_name(self._path.name + name).unlink(missing_ok=True)
            return _open(self._path)


def _open(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        for statement in (*(f"PRAGMA {each}" for each in PRAGMAS), TABLE, INDEX):
            connection.execute(statement).fetchall()
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _kept(connection: sqlite3.Connection, uids: Sequence[str]) -> Mapping[str, tuple[Stamp, bytes]]:
    found: dict[str, tuple[Stamp, bytes]] = {}
    for at in range(0, len(uids), 500):  # SQLite bounds the parameters of a statement
        part = uids[at : at + 500]
        marks = ",".join("?" * len(part))
        query = f"SELECT sop_instance_uid, size, modified_ns, json FROM headers WHERE sop_instance_uid IN ({marks})"  # noqa: S608 - question marks
        for uid, size, modified, data in connection.execute(query, part):
            found[uid] = (size, modified), zlib.decompress(data)
    return found


def _insert(connection: sqlite3.Connection, rows: Sequence[tuple[str, str, int, int, bytes]]) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.executemany("INSERT OR REPLACE INTO headers VALUES (?, ?, ?, ?, ?)", rows)
    finally:
        connection.execute("COMMIT")


def _remove(connection: sqlite3.Connection, study_instance_uid: str) -> None:
    connection.execute("DELETE FROM headers WHERE study_instance_uid = ?", (study_instance_uid,))
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _stamp(path: Path) -> Stamp | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns
