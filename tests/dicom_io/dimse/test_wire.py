"""Wire: what is sent arrives in order whatever the pieces, and waiting ends by the clock or the peer."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from radserve.dicom_io.dimse.wire import Wire


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[Wire, asyncio.StreamWriter]]:
    """A Wire and the other end of its connection."""
    loop = asyncio.get_running_loop()
    ends: asyncio.Queue[Wire] = asyncio.Queue()
    server = await loop.create_server(lambda: Wire(ends.put_nowait), "127.0.0.1", 0)
    _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    wire = await ends.get()
    try:
        yield wire, writer
    finally:
        wire.cut()
        writer.close()
        server.close()


def later() -> float:
    return asyncio.get_running_loop().time() + 60


async def test_bytes_arrive_in_order_in_whatever_pieces_they_are_taken() -> None:
    data = random.Random(0).randbytes(3_000_000)
    sizes = [1, 6, 70_000, 5, 131_072, 131_072, 6, 300_000, 16_000, 2_000_000]
    async with connected() as (wire, writer):
        sending = asyncio.create_task(_send(writer, data))
        at = 0
        for size in sizes:
            await wire.ready(size, later())
            assert bytes(wire.take(size)) == data[at : at + size]
            at += size
        await wire.ready(len(data) - at, later())
        assert bytes(wire.take(len(data) - at)) == data[at:]
        await sending


async def test_what_is_not_taken_is_held_back_at_the_sender() -> None:
    async with connected() as (wire, writer):
        sending = asyncio.create_task(_send(writer, bytes(64 << 20)))
        await wire.ready(100_000, later())
        await asyncio.sleep(0.05)
        assert not sending.done()
        assert wire.available <= 4 * 100_000
        sending.cancel()


async def test_waiting_ends_at_the_deadline() -> None:
    async with connected() as (wire, writer):
        writer.write(b"abc")
        with pytest.raises(TimeoutError):
            await wire.ready(4, asyncio.get_running_loop().time() + 0.05)
        writer.write(b"d")
        await wire.ready(4, later())
        assert bytes(wire.take(4)) == b"abcd"


async def test_waiting_ends_when_the_peer_closes() -> None:
    async with connected() as (wire, writer):
        writer.write(b"abc")
        writer.close()
        with pytest.raises(EOFError):
            await wire.ready(4, later())
        assert wire.available == 3


async def _send(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(data)
    await writer.drain()
