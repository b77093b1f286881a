"""A caller who goes away while an instance is committed."""

from __future__ import annotations

import asyncio
import gc
from contextlib import suppress

from radserve.dicom_io.incoming import Incoming, StoredInstance
from radserve.dicom_io.spool import Spool
from radserve.errors import DicomError, ErrorCode


class NoSpool:
    """Stands for a spool whose bytes are of no interest."""

    def zero_preamble(self) -> bytes:
        return b""

    def discard(self) -> None:
        pass


async def test_a_refusal_that_nobody_waits_for_is_no_fault_of_the_loop() -> None:
    told: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    begun, may_end = asyncio.Event(), asyncio.Event()

    async def publish(spool: Spool) -> StoredInstance:
        begun.set()
        await may_end.wait()
        raise DicomError(ErrorCode.NOT_DICOM, "the file is empty")

    publishing: set[asyncio.Task[StoredInstance]] = set()
    incoming = Incoming(NoSpool(), 10, publish, publishing)  # type: ignore[arg-type]
    caller = asyncio.create_task(incoming.commit())
    await begun.wait()
    caller.cancel()
    with suppress(asyncio.CancelledError):
        await caller
    may_end.set()
    while publishing:
        await asyncio.sleep(0)
    del incoming
    gc.collect()
    await asyncio.sleep(0)
    assert told == []
