"""Brings what is due to its destinations: each object of each result once, one destination never waiting for another.

Once a delivery is noted it is never made again. Where the process or the connection ends before the destination's
answer is noted, the end is not known: before a second try the destination is asked where it can be
(ports.ArrivalProbe), and else gets the same bytes under the same SOP Instance UID again, which a PACS takes as the one
it has.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from itertools import groupby

from radserve.errors import ErrorCode, PeerError, RadserveError, RequestError
from radserve.pipelines.timing import Clock, RetryPolicy
from radserve.ports import ArrivalProbe, ArtifactSender, OutboxLedger, ResultStore
from radserve.uids import derive_uid
from radserve.work import Delivery, QuarantineEntry, QuarantineKind

logger = logging.getLogger(__name__)

MOST_AT_ONCE = 1000
DELIVERY_RETRIES = RetryPolicy(attempts=3, first_s=10.0, factor=6.0)


class Outbox:
    """Works off the deliveries that are due. `send_s`: how long one may take."""

    def __init__(
        self,
        ledger: OutboxLedger,
        results: ResultStore,
        sender: ArtifactSender,
        clock: Clock,
        retries: RetryPolicy = DELIVERY_RETRIES,
        probe: ArrivalProbe | None = None,
        send_s: float = 300.0,
        poll_s: float = 1.0,
    ) -> None:
        self._ledger = ledger
        self._results = results
        self._sender = sender
        self._clock = clock
        self._retries = retries
        self._probe = probe
        self._send_s = send_s
        self._poll_s = poll_s
        self._busy: dict[str, asyncio.Task[None]] = {}

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
            for task in self._busy.values():
                task.cancel()
            await asyncio.gather(*self._busy.values(), return_exceptions=True)

    async def tick(self) -> None:
        """Start on what is due, for each destination that has nothing under way."""
        self._busy = {name: task for name, task in self._busy.items() if not task.done()}
        due = await self._ledger.due(self._clock.now(), MOST_AT_ONCE, self._busy)
        in_order = sorted(due, key=lambda each: each.key.destination)
        for destination, found in groupby(in_order, key=lambda each: each.key.destination):
            self._busy[destination] = asyncio.create_task(self._deliver_all(list(found)))

    async def settled(self) -> None:
        """Return when what is under way has ended."""
        await asyncio.gather(*self._busy.values())

    async def _deliver_all(self, due: Sequence[Delivery]) -> None:
        try:
            for delivery in due:
                await self._deliver(delivery)
        except Exception as error:  # of the ledger: the rows stay due
            logger.warning("deliveries were put off: %s", type(error).__name__)

    async def _deliver(self, delivery: Delivery) -> None:
        key = delivery.key
        if (delivery.interrupted or delivery.attempts) and await self._arrived(delivery):
            await self._ledger.delivered(key, self._clock.now())
            return
        attempt = await self._ledger.begin(key)
        if not attempt:
            return
        if attempt > self._retries.attempts:
            text = f"the process ended during each of {self._retries.attempts} attempts"
            await self._give_up(delivery, RadserveError(ErrorCode.WORKER_DIED, text))
            return
        error = await self._send(delivery)
        if error is None:
            await self._ledger.delivered(key, self._clock.now())
        elif attempt == self._retries.attempts or _is_final(error):
            await self._give_up(delivery, error)
        else:
            logger.warning("delivery to %s failed, attempt %d: %s", key.destination, attempt, error.code)
            await self._ledger.postpone(key, self._clock.now() + self._retries.wait_s(attempt))

    async def _send(self, delivery: Delivery) -> RadserveError | None:
        key = delivery.key
        try:
            artifact = await self._results.read(key.result_uid, delivery.artifact)
            async with asyncio.timeout(self._send_s):
                await self._sender.send(key.destination, artifact)
        except RadserveError as error:
            return error
        except TimeoutError:
            return RadserveError(ErrorCode.DEADLINE_EXCEEDED, f"no answer within {self._send_s:g} s")
        except Exception as error:  # its text may hold patient data
            return RadserveError(ErrorCode.INTERNAL, f"sending failed: {type(error).__name__}")
        return None

    async def _arrived(self, delivery: Delivery) -> bool:
        if self._probe is None:
            return False
        try:
            async with asyncio.timeout(self._send_s):
                artifact = await self._results.read(delivery.key.result_uid, delivery.artifact)
                return await self._probe.has(delivery.key.destination, artifact)
        except Exception as error:  # then it is sent again
            logger.warning("%s cannot be asked what it has: %s", delivery.key.destination, type(error).__name__)
            return False

    async def _give_up(self, delivery: Delivery, error: RadserveError) -> None:
        key = delivery.key
        logger.warning("a delivery to %s is put in quarantine: %s", key.destination, error.code)
        entry = QuarantineEntry(
            quarantine_id=derive_uid("quarantine", key.result_uid, key.destination, key.sop_instance_uid),
            kind=QuarantineKind.DELIVERY,
            study_instance_uid="",  # the ledger knows it
            code=error.code,
            reason=error.client_message,
            created_at=self._clock.now(),
            sop_instance_uid=key.sop_instance_uid,
            result_uid=key.result_uid,
            destination=key.destination,
        )
        await self._ledger.put_in_quarantine(entry)


def _is_final(error: RadserveError) -> bool:
    """Whether the same object would fail in the same way again."""
    return isinstance(error, RequestError) or (isinstance(error, PeerError) and not error.is_transient)
