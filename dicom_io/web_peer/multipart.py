"""multipart/related (RFC 2387): what is sent, and a reader that never holds a part in memory."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from email.message import Message

from radserve.errors import ErrorCode, PeerError

PIECE_BYTES = 256 << 10
MAX_HEAD_BYTES = 16 << 10
DICOM = "application/dicom"


class Outgoing:
    """A body with one part for each of `parts`, its length known before it is sent."""

    def __init__(self, parts: Sequence[bytes], media_type: str = DICOM) -> None:
        self._parts = parts
        self._boundary = secrets.token_hex(16)
        self._head = f"--{self._boundary}\r\nContent-Type: {media_type}\r\n\r\n".encode()
        self._tail = f"--{self._boundary}--\r\n".encode()
        self.headers = {
            "Content-Type": f'multipart/related; type="{media_type}"; boundary={self._boundary}',
            "Content-Length": str(sum(len(self._head) + len(part) + 2 for part in parts) + len(self._tail)),
        }

    async def content(self) -> AsyncIterator[bytes]:
        """The body in pieces."""
        for part in self._parts:
            yield self._head
            for at in range(0, len(part), PIECE_BYTES):
                yield part[at : at + PIECE_BYTES]
            yield b"\r\n"
        yield self._tail


class MultipartReader:
    """Reads the parts of a stream one after the other:

    while await reader.next_part() is not None:
        async for piece in reader.body(): ...

    What is left of a part is passed over by `next_part`. Raises PeerError SERVER_UNREACHABLE for what is no multipart
    message, or ends early.
    """

    def __init__(self, content_type: str, stream: AsyncIterator[bytes], name: str) -> None:
        """`name` of the sender is for messages."""
        self._name = name
        self._stream = stream
        message = Message()
        message["Content-Type"] = content_type
        boundary = message.get_param("boundary")
        if message.get_content_maintype() != "multipart" or not isinstance(boundary, str) or not boundary:
            raise self._broken(f"it is {message.get_content_type()}")
        self._delimiter = b"\r\n--" + boundary.encode("ascii", "replace")
        self._buffer = b"\r\n"  # so that the first delimiter is like the others
        self._in_part = True  # what comes before the first delimiter is passed over like a part
        self._is_over = False

    async def next_part(self) -> Mapping[str, str] | None:
        """Go to the next part; its headers, names in lower case, or None after the last."""
        async for _ in self.body():
            pass
        if self._is_over:
            return None
        await self._fill(len(self._delimiter) + 2)
        after = self._buffer[len(self._delimiter) :]
        if after.startswith(b"--"):
            self._is_over = True
            return None
        self._buffer = after
        while b"\r\n\r\n" not in self._buffer[: MAX_HEAD_BYTES + 4]:
            if len(self._buffer) > MAX_HEAD_BYTES:
                raise self._broken("a part has a head without end")
            await self._fill(len(self._buffer) + 1)
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        self._in_part = True
        lines = (line.partition(b":") for line in head.split(b"\r\n"))
        return {
            key.strip().lower().decode("latin-1"): value.strip().decode("latin-1") for key, mark, value in lines if mark
        }

    async def body(self) -> AsyncIterator[bytes]:
        """The rest of the current part, in pieces."""
        while self._in_part:
            at = self._buffer.find(self._delimiter)
            if at >= 0:
                piece, self._buffer, self._in_part = self._buffer[:at], self._buffer[at:], False
            else:  # a delimiter may have begun in the last bytes
                keep = len(self._delimiter) - 1
                cut = max(0, len(self._buffer) - keep)
                piece, self._buffer = self._buffer[:cut], self._buffer[cut:]
            if piece:
                yield piece
            if self._in_part:
                await self._fill(len(self._buffer) + 1)

    async def _fill(self, size: int) -> None:
        """Have at least `size` bytes in the buffer."""
        while len(self._buffer) < size:
            try:
                self._buffer += await anext(self._stream)
            except StopAsyncIteration:
                raise self._broken("it ends early") from None

    def _broken(self, how: str) -> PeerError:
        return PeerError(ErrorCode.SERVER_UNREACHABLE, f"the answer of {self._name} is no multipart message: {how}")
