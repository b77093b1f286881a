"""Reads the headers of studies that have come into the cache, before anyone asks for them."""

from __future__ import annotations

import asyncio
import logging
import time

import sqlalchemy as sa

from radserve.dicom_io import index_schema as schema
from radserve.dicom_io.dicomweb.header_cache import BATCH
from radserve.dicom_io.dicomweb.holdings import Holdings
from radserve.errors import ErrorCode, RadserveError
from radserve.references import InstanceRef

logger = logging.getLogger(__name__)

QUIET_S, POLL_S = 2.0, 2.0
STUDIES = 50  # of one look


class HeaderAhead:
    """Reads the headers of instances of one request while it goes on: what is stored together is asked for at once."""

    def __init__(self, holdings: Holdings) -> None:
        self._holdings = holdings
        self._waiting: list[InstanceRef] = []
        self._reading: asyncio.Task[None] | None = None

    def add(self, instance: InstanceRef) -> None:
        """Note a stored instance; where a batch of them is together and none is being read, it is read."""
        self._waiting.append(instance)
        if len(self._waiting) >= BATCH:
            self.read()

    def read(self) -> None:
        """Read what is waiting, unless that is done already. Nobody waits for it."""
        if self._waiting and (self._reading is None or self._reading.done()):
            self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:BATCH], self._waiting[BATCH:]
                found = await self._holdings.several({uids.sop_instance_uid: uids.study_instance_uid for uids in batch})
                await self._holdings.cache.read(list(found.values()), self._holdings.workers)
        except Exception as error:  # they are read when they are asked for
            logger.warning("headers could not be read ahead: %s", type(error).__name__)


class HeaderFilling:
    """Goes through all studies after a start, then through those that come; at most half of the time at work."""

    def __init__(self, holdings: Holdings) -> None:
        self._holdings = holdings
        self._seen = 0.0  # when the last study that was read had last received something

    async def run(self) -> None:
        """Fill until cancelled. A look that fails is logged and repeated."""
        while True:
            try:
                while await self.tick(time.time() - QUIET_S):
                    pass
            except Exception as error:  # a full disk comes and goes
                logger.warning("headers could not be read ahead: %s", type(error).__name__)
            await asyncio.sleep(POLL_S)

    async def tick(self, before: float) -> int:
        """Read the next studies for which nothing has come since `before` (seconds since 1970); how many they are."""
        table = schema.studies
        came = table.c.last_received_at
        query = sa.select(table.c.study_instance_uid, came).where(came > self._seen, came < before)
        rows = await self._holdings.index.query(lambda: query.order_by(came).limit(STUDIES))
        for row in rows:
            try:
                await self._fill(row["study_instance_uid"])
            except RadserveError as error:
                if error.code is not ErrorCode.STUDY_NOT_FOUND:  # erased meanwhile
                    raise
            self._seen = row["last_received_at"]
        return len(rows)

    async def _fill(self, study: str) -> None:
        held = await self._holdings.instances(study)
        for at in range(0, len(held), BATCH):
            began = time.monotonic()
            await self._holdings.cache.read(held[at : at + BATCH], self._holdings.workers)
            await self._holdings.cache.settled()
            await asyncio.sleep(time.monotonic() - began)
