"""The storage SCP in a process of its own, with real workers, for tests that kill it or weigh it.

python -m tests.dicom_io.dimse.scp_process PORT FOLDER PDU_SECONDS [index [http=PORT]] [nosync] [watch]

index: with an index beside the store; http: and DICOMweb over both. nosync: every fsync does nothing, which tests of
durability have to notice.
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
from radserve.dicom_io.store import StudyStore
from radserve.dicom_io.watched_folder import WatchedFolder
from radserve.workers import WorkerLimits, WorkerPool

ROOT = Path(__file__).parents[3]
START_SECONDS = 240


def never_sync() -> None:
    """Take durability away from this process: files and database."""
    prepare = database._prepare_sqlite

    def without(connection: Any, record: object) -> None:
        prepare(connection, record)
        connection.execute("PRAGMA synchronous=OFF")

    os.fsync = os.fdatasync = lambda descriptor: None
    database._prepare_sqlite = without


@asynccontextmanager
async def indexed(folder: Path, workers: WorkerPool, options: Sequence[str]) -> AsyncIterator[StudyStore]:
    """A store with its records, and the HTTP port over both where one is wanted."""
    from radserve.server.records import opened_records  # they take long, and most tests need none of it
    from radserve.server.settings import Settings
    from radserve.server.web.listener import web_listener

    http_port = next((int(each.removeprefix("http=")) for each in options if each.startswith("http=")), None)
    settings = Settings(data_dir=folder.parent, disk_reserve_mib=0, http_port=http_port)
    async with opened_records(settings) as records:
        store = StudyStore(folder, workers, index=records.index)
        async with web_listener(settings, records, store, workers):
            yield store


async def serve(port: int, folder: Path, pdu_seconds: float, options: Sequence[str]) -> None:
    if "nosync" in options:
        never_sync()
    limits = WorkerLimits(memory_bytes=2 << 30, cpu_seconds=30, wall_seconds=60)
    async with (
        WorkerPool(name="scp test", size=1, limits=limits, preload=("radserve.dicom_io.parse",)) as workers,
        AsyncExitStack() as stack,
    ):
        await workers.warm()
        store = StudyStore(folder, workers)
        if "index" in options:
            store = await stack.enter_async_context(indexed(folder, workers, options))
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
