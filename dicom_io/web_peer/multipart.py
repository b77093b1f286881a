"""multipart/related (RFC 2387) as a user agent has it: a body that is sent, and the parts of an answer one by one."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence

from radserve.dicom_io.dicomweb.media import DICOM, MULTIPART, media_type
from radserve.dicom_io.dicomweb.multipart import (
    Event,
    MultipartReader,
    MultipartWriter,
    PartEnd,
    PartStart,
    boundary_of,
)
from radserve.errors import ErrorCode, PeerError, RequestError

PIECE_BYTES = 256 << 10


class Outgoing:
    """A body with one part for each of `parts`, its length known before it is sent."""

    def __init__(self, parts: Sequence[bytes], part_type: str = DICOM) -> None:
        writer = MultipartWriter(part_type)
        self._parts = parts
        self._head, self._tail, self._end = writer.head(part_type), writer.tail(), writer.end()
        around = len(self._head) + len(self._tail)
        self.headers = {
            "Content-Type": writer.content_type,
            "Content-Length": str(sum(around + len(part) for part in parts) + len(self._end)),
        }

    async def content(self) -> AsyncIterator[bytes]:
        """The body in pieces."""
        for part in self._parts:
            yield self._head
            for at in range(0, len(part), PIECE_BYTES):
                yield part[at : at + PIECE_BYTES]
            yield self._tail
        yield self._end


class IncomingParts:
    """The parts of an answer one after the other, none of them held in memory:

    while await parts.next_part() is not None:
        async for piece in parts.body(): ...

    What is left of a part is passed over by `next_part`. Raises PeerError SERVER_UNREACHABLE for what is no multipart
    message, or ends early.
    """

    def __init__(self, content_type: str, stream: AsyncIterator[bytes], name: str) -> None:
        """`name` of the sender is for messages."""
        self._name = name
        self._in_part = False
        try:
            found = media_type(content_type)
            if found.name != MULTIPART:
                raise self._broken(f"it is {found.name}")
            self._events = self._read(MultipartReader(boundary_of(found)), stream)
        except RequestError as error:
            raise self._broken(error.client_message) from None

    async def next_part(self) -> Mapping[str, str] | None:
        """Go to the next part; its headers, names in lower case, or None after the last."""
        async for _ in self.body():
            pass
        async for event in self._events:
            if isinstance(event, PartStart):
                self._in_part = True
                return event.headers
        return None

    async def body(self) -> AsyncIterator[bytes]:
        """The rest of the current part, in pieces."""
        while self._in_part:
            event = await anext(self._events)
            if isinstance(event, PartEnd):
                self._in_part = False
            elif isinstance(event, bytes):
                yield event

    async def _read(self, reader: MultipartReader, stream: AsyncIterator[bytes]) -> AsyncGenerator[Event, None]:
        try:
            async for data in stream:
                for event in reader.feed(data):
                    yield event
                if reader.at_end:
                    return
            reader.close()
        except RequestError as error:
            raise self._broken(error.client_message) from None

    def _broken(self, how: str) -> PeerError:
        return PeerError(ErrorCode.SERVER_UNREACHABLE, f"the answer of {self._name} is no multipart message: {how}")
