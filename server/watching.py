"""The watched folder of a site, where the settings name one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from radserve.dicom_io.reserve import DiskReserve
from radserve.dicom_io.store import StudyStore
from radserve.dicom_io.watched_folder import WatchedFolder
from radserve.server.background import running
from radserve.server.settings import MEBIBYTE, Settings
from radserve.workers import WorkerPool


@asynccontextmanager
async def watching(settings: Settings, store: StudyStore, workers: WorkerPool) -> AsyncIterator[None]:
    """Take what comes to the folder into `store` while the block runs. Raises StorageError where it cannot be made."""
    if settings.watch_folder is None:
        yield
        return
    reserve = DiskReserve(settings.data_dir, settings.disk_reserve_mib * MEBIBYTE)
    most = settings.max_instance_mib * MEBIBYTE
    settle_s = settings.watch_settle_s
    folder = WatchedFolder(settings.watch_folder, store, workers, reserve, settle_s, max_instance_bytes=most)
    await folder.open()
    async with running(folder.run()):
        yield
