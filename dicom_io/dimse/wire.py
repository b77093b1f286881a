"""The bytes of one connection, received into a buffer of its own and read there in place."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

FIRST_BYTES = 16 << 10
AHEAD = 4  # how many pieces of the largest size are received before one is taken


class Wire(asyncio.BufferedProtocol):
    """A connection by TCP or TLS. For one task at a time; `opened` is called with it when it stands.

    asyncio's streams copy every byte three times on its way, which counts at hundreds of megabytes a second. Here the
    system receives into the buffer, which grows to a few times the largest piece that was waited for and takes no more
    until something is taken out.
    """

    def __init__(self, opened: Callable[[Wire], None] | None = None) -> None:
        loop = asyncio.get_running_loop()
        self._opened = opened
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray(FIRST_BYTES)
        self._start = self._end = 0  # of what arrived and was not taken
        self._wanted = 0
        self._arrival: asyncio.Future[None] | None = None
        self._is_full = False
        self._ended: Exception | None = None  # why no more will arrive
        self._lost: asyncio.Future[None] = loop.create_future()
        self._writable = asyncio.Event()
        self._writable.set()

    async def ready(self, size: int, deadline: float) -> None:
        """Wait until `size` bytes can be taken, at the latest until `deadline` (of the event loop's clock).

        Raises TimeoutError, EOFError where the peer closed before, OSError.
        """
        self._make_room(size)
        while self.available < size:
            if self._ended:
                raise self._ended
            loop = asyncio.get_running_loop()
            self._wanted, self._arrival = size, loop.create_future()
            timer = loop.call_at(deadline, self._expire)
            if self._is_full:
                self._is_full = False
                self._open_transport.resume_reading()
            try:
                await self._arrival
            finally:
                timer.cancel()
                self._arrival = None

    @property
    def available(self) -> int:
        """How many bytes arrived and were not taken."""
        return self._end - self._start

    def peek(self, size: int) -> memoryview:
        """The next `size` bytes, which have to be ready, without taking them."""
        return memoryview(self._buffer)[self._start : self._start + size]

    def take(self, size: int) -> memoryview:
        """The next `size` bytes, which have to be ready. They are overwritten after the next `ready`."""
        start, self._start = self._start, self._start + size
        return memoryview(self._buffer)[start : start + size]

    async def send(self, data: bytes) -> None:
        """Send bytes; returns when the system took most of them. Raises OSError."""
        if not self._lost.done():
            self._open_transport.write(data)
            await self._writable.wait()
        if self._lost.done():
            raise ConnectionResetError

    async def close(self) -> None:
        """Close the connection after what was written is sent."""
        self._open_transport.close()
        await asyncio.shield(self._lost)

    def cut(self) -> None:
        """Drop the connection at once."""
        self._open_transport.abort()

    def extra_info(self, name: str) -> Any:
        """As asyncio.BaseTransport.get_extra_info."""
        return self._open_transport.get_extra_info(name)

    # What the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if self._opened:
            self._opened(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        return memoryview(self._buffer)[self._end :]

    def buffer_updated(self, nbytes: int) -> None:
        self._end += nbytes
        if self._end == len(self._buffer):
            self._is_full = True
            self._open_transport.pause_reading()
        if self.available >= self._wanted:
            self._wake()

    def eof_received(self) -> bool:
        self._ended = self._ended or EOFError()
        self._wake()
        return self.extra_info("sslcontext") is None  # TLS cannot be half closed

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended = exc or self._ended or EOFError()
        self._lost.set_result(None)
        self._writable.set()
        self._wake()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    @property
    def _open_transport(self) -> asyncio.Transport:
        if self._transport is None:
            raise RuntimeError("the connection does not stand yet")
        return self._transport

    def _wake(self) -> None:
        if self._arrival and not self._arrival.done():
            self._arrival.set_result(None)

    def _expire(self) -> None:
        if self._arrival and not self._arrival.done():
            self._arrival.set_exception(TimeoutError())

    def _make_room(self, size: int) -> None:
        """Have place for `size` bytes from the first that was not taken; move what is there as seldom as possible."""
        left = self.available
        if not left:
            self._start = self._end = 0
        if self._start + size <= len(self._buffer):
            return
        held = self._buffer[self._start : self._end]
        if size > len(self._buffer):
            self._buffer = bytearray(AHEAD * size)
        self._buffer[:left] = held
        self._start, self._end = 0, left
