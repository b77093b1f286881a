"""Brings objects of results to a destination over one connection, each once, and notes what became of each.

Once a delivery is noted it is never made again. Where the process or the connection ends before the destination's
answer is noted, the end is not known: before a second try the destination is asked where it can be
(ports.ArrivalProbe), and else gets the same bytes under the same SOP Instance UID again, which a PACS takes as the one
it has.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing

from radserve.errors import ErrorCode, PeerError, RadserveError, RequestError
from radserve.pipelines.timing import Clock, RetryPolicy
from radserve.ports import ArrivalProbe, ArtifactSender, OutboxLedger, ResultStore
from radserve.results import Artifact
from radserve.uids import derive_uid
from radserve.work import Delivery, QuarantineEntry, QuarantineKind

logger = logging.getLogger(__name__)

LOAD_BYTES = 64 << 20  # of objects that are held in memory for one connection
DELIVERY_RETRIES = RetryPolicy(attempts=3, first_s=10.0, factor=6.0)


class Shipper:
    """`send_s`: how long the answer for one object may take."""

    def __init__(
        self,
        ledger: OutboxLedger,
        results: ResultStore,
        sender: ArtifactSender,
        clock: Clock,
        retries: RetryPolicy = DELIVERY_RETRIES,
        probe: ArrivalProbe | None = None,
        send_s: float = 300.0,
    ) -> None:
        self._ledger = ledger
        self._results = results
        self._sender = sender
        self._clock = clock
        self._retries = retries
        self._probe = probe
        self._send_s = send_s

    async def ship(self, destination: str, due: Sequence[Delivery]) -> None:
        """Deliver in this order. Raises StorageError of the ledger; what is not noted then stays due."""
        left = await self._not_arrived(destination, due)
        while left:
            load, left = await self._load(left)
            await self._send(destination, load)

    async def _not_arrived(self, destination: str, due: Sequence[Delivery]) -> list[Delivery]:
        """What is to be sent; what a destination turns out to have is noted. One that cannot be asked is not again."""
        probe, left = self._probe, []
        for delivery in due:
            if probe and (delivery.interrupted or delivery.attempts):
                try:
                    async with asyncio.timeout(self._send_s):
                        artifact = await self._results.read(delivery.key.result_uid, delivery.artifact)
                        if await probe.has(destination, artifact):
                            await self._ledger.delivered(delivery.key, self._clock.now())
                            continue
                except Exception as error:  # then it is sent again
                    logger.warning("%s cannot be asked what it has: %s", destination, type(error).__name__)
                    probe = None
            left.append(delivery)
        return left

    async def _load(self, due: list[Delivery]) -> tuple[list[tuple[Delivery, Artifact]], list[Delivery]]:
        """The first objects, read from disk, as many as one connection is to carry; and what is left."""
        load: list[tuple[Delivery, Artifact]] = []
        size = 0
        for number, delivery in enumerate(due):
            if size >= LOAD_BYTES:
                return load, due[number:]
            try:
                artifact = await self._results.read(delivery.key.result_uid, delivery.artifact)
            except RadserveError as error:
                if attempt := await self._begin(delivery):
                    await self._failed(delivery, attempt, error)
                continue
            load.append((delivery, artifact))
            size += len(artifact.data)
        return load, []

    async def _send(self, destination: str, load: Sequence[tuple[Delivery, Artifact]]) -> None:
        attempts: dict[int, int] = {}
        left, noted = set[int](), set[int]()

        async def counted(index: int) -> bool:
            if attempt := await self._begin(load[index][0]):
                attempts[index] = attempt
            return bool(attempt)

        async def begin(index: int) -> bool:
            left.add(index)
            return await counted(index)

        async def note(index: int, error: RadserveError | None) -> None:
            if left and index not in left:
                return  # another one ended the connection before its turn: it stays due
            if index in attempts or (index not in left and await counted(index)):  # a destination that is not there
                noted.add(index)
                if error is None:
                    await self._ledger.delivered(load[index][0].key, self._clock.now())
                else:
                    await self._failed(load[index][0], attempts[index], error)

        error = await self._outcomes(destination, [artifact for _, artifact in load], begin, note)
        for index in range(len(load)):
            if error and index not in noted:
                await note(index, error)

    async def _outcomes(
        self,
        destination: str,
        artifacts: Sequence[Artifact],
        begin: Callable[[int], Awaitable[bool]],
        note: Callable[[int, RadserveError | None], Awaitable[None]],
    ) -> RadserveError | None:
        """Send, and note the outcomes as they come; the error by which the rest failed, None where there is no rest."""
        async with aclosing(self._sender.send(destination, artifacts, begin)) as outcomes:
            while True:
                try:
                    async with asyncio.timeout(self._send_s):
                        found = await anext(outcomes, None)
                except RadserveError as error:
                    return error
                except TimeoutError:
                    return RadserveError(ErrorCode.DEADLINE_EXCEEDED, f"no answer within {self._send_s:g} s")
                except Exception as error:  # its text may hold patient data
                    return RadserveError(ErrorCode.INTERNAL, f"sending failed: {type(error).__name__}")
                if found is None:
                    return None
                await note(*found)

    async def _begin(self, delivery: Delivery) -> int:
        """The number of the attempt that begins, 0 for none: it is gone, another's, or has had all its attempts."""
        attempt = await self._ledger.begin(delivery.key)
        if attempt <= self._retries.attempts:
            return attempt
        text = f"the process ended during each of {self._retries.attempts} attempts"
        await self._give_up(delivery, RadserveError(ErrorCode.WORKER_DIED, text))
        return 0

    async def _failed(self, delivery: Delivery, attempt: int, error: RadserveError) -> None:
        key = delivery.key
        if attempt == self._retries.attempts or _is_final(error):
            await self._give_up(delivery, error)
            return
        logger.warning("delivery to %s failed, attempt %d: %s", key.destination, attempt, error.code)
        await self._ledger.postpone(key, self._clock.now() + self._retries.wait_s(attempt))

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
