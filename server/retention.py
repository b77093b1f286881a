"""Erases finished studies that have been kept for as long as the site wants."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from radserve.dicom_io.index import StudyIndex
from radserve.pipelines.timing import Clock
from radserve.server.background import running

logger = logging.getLogger(__name__)

DAY_S = 86400.0
POLL_S = 600.0


async def expire(index: StudyIndex, retention_days: float, clock: Clock) -> int:
    """Ask for the erasure of what is old enough by now; return how many studies. Raises StorageError."""
    now = clock.now()
    expired = await index.expire(now - retention_days * DAY_S, now)
    if expired:
        count = sum(each.instances for each in expired)
        logger.info("audit: retention: %d studies of %d instances are to be erased", len(expired), count)
    return len(expired)


@asynccontextmanager
async def retention(index: StudyIndex, retention_days: float | None, clock: Clock) -> AsyncIterator[None]:
    """Look for old studies while the block runs, where the site sets a time for them; the store erases them."""

    async def keep_looking(days: float) -> None:
        while True:
            try:
                await expire(index, days, clock)
            except Exception as error:  # a database comes and goes; what is old stays so
                logger.warning("retention: the index could not be asked: %s", type(error).__name__)
            await clock.sleep(POLL_S)

    if retention_days is None:
        yield
        return
    async with running(keep_looking(retention_days)):
        yield
