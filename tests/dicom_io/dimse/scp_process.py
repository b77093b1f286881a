"""The storage SCP in a process of its own, with real workers, for tests that kill it or weigh it.

python -m tests.dicom_io.dimse.scp_process PORT FOLDER PDU_SECONDS [index] [nosync] [watch]

index: with an index beside the store. nosync: every fsync does nothing, which tests of durability have to notice.
watch: the folder "inbox" beside FOLDER is watched.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from radserve.dicom_io import database
from radserve.dicom_io.dimse.access import AccessPolicy, PeerPolicy
from radserve.dicom_io.dimse.pdu import WireLimits
from radserve.dicom_io.dimse.peer import DimseError, Peer, echo
from radserve.dicom_io.dimse.store_scp import ScpOptions, StoreScp
from radserve.dicom_io.index import StudyIndex
from radserve.dicom_io.store import StudyStore
from radserve.dicom_io.watched_folder import WatchedFolder
from radserve.workers import WorkerLimits, WorkerPool

ROOT = Path(__file__).parents[3]
START_SECONDS = 60


def never_sync() -> None:
    """Take durability away from this process: files and database."""
    prepare = database._prepare_sqlite

    def without(connection: Any, record: object) -> None:
        prepare(connection, record)
        connection.execute("PRAGMA synchronous=OFF")

    os.fsync = os.fdatasync = lambda descriptor: None
    database._prepare_sqlite = without


@asynccontextmanager
async def index_in(folder: Path) -> AsyncIterator[StudyIndex]:
    folder.mkdir(parents=True, exist_ok=True)
    opened = database.Database(database.sqlite_url(folder / "index.db"))
    await opened.open()
    try:
        yield StudyIndex(opened)
    finally:
        await opened.close()


async def serve(port: int, folder: Path, pdu_seconds: float, options: Sequence[str]) -> None:
    if "nosync" in options:
        never_sync()
    limits = WorkerLimits(memory_bytes=2 << 30, cpu_seconds=30, wall_seconds=60)
    async with (
        WorkerPool(name="scp test", size=1, limits=limits, preload=("radserve.dicom_io.parse",)) as workers,
        AsyncExitStack() as stack,
    ):
        await workers.warm()
        index = await stack.enter_async_context(index_in(folder.parent)) if "index" in options else None
        store = StudyStore(folder, workers, index=index)
        await store.open()
        wire = WireLimits(pdu_seconds=pdu_seconds, negotiation_seconds=pdu_seconds)
        access = AccessPolicy("RADSERVE", others=PeerPolicy(associations=16))
        scp = StoreScp(ScpOptions(access, port=port, limits=wire), store)
        await scp.start()
        if "watch" in options:
            watched = WatchedFolder(folder.with_name("inbox"), store, workers, settle_s=0.05)
            await watched.open()
            await watched.run()
        await asyncio.Event().wait()


@contextmanager
def scp_process(port: int, folder: Path, pdu_seconds: float = 15.0, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that answers on `port`; it is killed at the end of the block."""
    command = [sys.executable, "-m", "tests.dicom_io.dimse.scp_process", str(port), str(folder), str(pdu_seconds)]
    command += options
    process = subprocess.Popen(command, cwd=ROOT)
    try:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                asyncio.run(echo(Peer("127.0.0.1", port, "RADSERVE")))
                break
            except DimseError:
                assert process.poll() is None and time.monotonic() < deadline, "the SCP did not start"
                time.sleep(0.1)
        yield process
    finally:
        process.kill()
        process.wait()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]), sys.argv[4:]))
