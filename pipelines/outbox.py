"""Looks after what is due to the destinations: some connections to each, one destination never waiting for another.

What is due of one study goes over one connection, in its order; several studies share one.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from dataclasses import dataclass, field

from radserve.pipelines.shipping import Shipper
from radserve.pipelines.timing import Clock
from radserve.ports import OutboxLedger
from radserve.work import Delivery

logger = logging.getLogger(__name__)

MOST_AT_ONCE = 1000  # rows of one look
OBJECTS_OF_A_TURN = 32  # more, where one study has more


@dataclass(slots=True)
class _Lane:
    """What is on its way to one destination: a queue of studies, and who works it off."""

    waiting: deque[tuple[str, list[Delivery]]] = field(default_factory=deque)
    studies: set[str] = field(default_factory=set)  # in the queue or under way
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def take(self, connections: int) -> tuple[set[str], list[Delivery]]:
        """The studies that have waited longest, one connection's share of them, and what is due of them."""
        studies: set[str] = set()
        due: list[Delivery] = []
        share = math.ceil(len(self.waiting) / connections)
        while len(studies) < share and len(due) < OBJECTS_OF_A_TURN:
            study, deliveries = self.waiting.popleft()
            studies.add(study)
            due += deliveries
        return studies, due


class Outbox:
    """Works off the deliveries that are due, over as many as `connections` to one destination at once."""

    def __init__(
        self, ledger: OutboxLedger, shipper: Shipper, clock: Clock, connections: int = 1, poll_s: float = 1.0
    ) -> None:
        self._ledger = ledger
        self._shipper = shipper
        self._clock = clock
        self._connections = connections
        self._poll_s = poll_s
        self._lanes: dict[str, _Lane] = {}

    async def run(self) -> None:
        """Deliver until cancelled; what is under way is cut off then, and counts as interrupted."""
        try:
            while True:
                try:
                    await self.tick()
                except Exception as error:  # a full disk comes and goes
                    logger.warning("the outbox could not be read: %s", type(error).__name__)
                await self._clock.sleep(self._poll_s)
        finally:
            tasks = self._tasks()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def tick(self) -> None:
        """Start on what is due, for each destination that has a connection to spare."""
        before = {(name, study) for name, lane in self._lanes.items() for study in lane.studies}
        full = [name for name, lane in self._lanes.items() if len(lane.tasks) >= self._connections]
        found: dict[tuple[str, str], list[Delivery]] = {}
        for delivery in await self._ledger.due(self._clock.now(), MOST_AT_ONCE, full):
            found.setdefault((delivery.key.destination, delivery.study_instance_uid), []).append(delivery)
        for (destination, study), due in found.items():
            if (destination, study) not in before:
                lane = self._lanes.setdefault(destination, _Lane())
                lane.waiting.append((study, due))
                lane.studies.add(study)
        for destination, lane in self._lanes.items():
            for _ in range(min(self._connections - len(lane.tasks), len(lane.waiting))):
                task = asyncio.create_task(self._work_off(destination, lane))
                lane.tasks.add(task)
                task.add_done_callback(lane.tasks.discard)

    async def settled(self) -> None:
        """Return when what is under way has ended."""
        await asyncio.gather(*self._tasks())

    def _tasks(self) -> list[asyncio.Task[None]]:
        return [task for lane in self._lanes.values() for task in lane.tasks]

    async def _work_off(self, destination: str, lane: _Lane) -> None:
        while lane.waiting:
            studies, due = lane.take(self._connections)
            try:
                await self._shipper.ship(destination, due)
            except Exception as error:  # of the ledger: the rows stay due
                logger.warning("deliveries were put off: %s", type(error).__name__)
            finally:
                lane.studies -= studies
