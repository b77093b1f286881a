"""Messages over an open association, for both sides: a command, and a data set that is passed on as it comes."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

from radserve.dicom_io.dimse.command import Command, Tag, decode_command, encode_command
from radserve.dicom_io.dimse.negotiation import Context
from radserve.dicom_io.dimse.pdu import (
    PDV_HEADER,
    AbortReason,
    ConnectionEndedError,
    Fragment,
    PduStream,
    PduType,
    ProtocolError,
    data_header,
    fragments,
    pdu,
)

MAX_COMMAND_BYTES = 16 << 10
MAX_SENT_PDU_BYTES = 256 << 10  # where the peer sets no limit, or a higher one


class ReleasedError(Exception):
    """The peer asked for the release of the association, and was answered."""


@dataclass(frozen=True, slots=True)
class Message:
    """A command in its presentation context. Its data set, if it has one, must be read before the next message."""

    context: Context
    command: Command


class Association:
    """One established association. For one task at a time."""

    def __init__(self, stream: PduStream, contexts: Mapping[int, Context], peer_max_pdu_bytes: int) -> None:
        self._stream = stream
        self._contexts = contexts
        most = min(peer_max_pdu_bytes or MAX_SENT_PDU_BYTES, MAX_SENT_PDU_BYTES)
        self._part_bytes = max(most, 1024) - PDV_HEADER.size
        self._pending: deque[Fragment] = deque()
        self._unread = False  # whether the data set of the last message was not read to its end
        self._last_id = 0

    @property
    def contexts(self) -> Mapping[int, Context]:
        """The accepted presentation contexts by their ids."""
        return self._contexts

    def next_message_id(self) -> int:
        """A Message ID for a request of ours."""
        self._last_id = self._last_id % 0xFFFF + 1
        return self._last_id

    async def receive(self, wait_seconds: float | None = None) -> Message:
        """The next message; `wait_seconds` for it to begin, WireLimits.idle_seconds where None.

        Raises ReleasedError, ConnectionEndedError, ProtocolError.
        """
        if self._unread:
            raise RuntimeError("the data set of the last message was not read")
        parts = bytearray()
        fragment = await self._fragment(wait_seconds)
        context = self._contexts[fragment.context_id]
        while True:
            if not fragment.is_command or fragment.context_id != context.context_id:
                raise ProtocolError("a data set without its command", AbortReason.UNEXPECTED_PDU)
            parts += fragment.data
            if len(parts) > MAX_COMMAND_BYTES:
                raise ProtocolError(f"a command of more than {MAX_COMMAND_BYTES} bytes")
            if fragment.is_last:
                break
            fragment = await self._fragment(None)
        message = Message(context, decode_command(bytes(parts)))
        self._unread = message.command.has_data_set
        return message

    async def data(self, message: Message) -> AsyncIterator[memoryview]:
        """The data set of the message that was received last, in the parts it came in. Raises as `receive`."""
        while self._unread:
            fragment = await self._fragment(None)
            if fragment.is_command or fragment.context_id != message.context.context_id:
                raise ProtocolError("a command before the end of a data set", AbortReason.UNEXPECTED_PDU)
            self._unread = not fragment.is_last
            yield fragment.data

    async def whole_data(self, message: Message, most_bytes: int) -> bytes:
        """The data set of the message at once. Raises as `receive`, ProtocolError above `most_bytes`."""
        parts = bytearray()
        async for part in self.data(message):
            parts += part
            if len(parts) > most_bytes:
                raise ProtocolError(f"a data set of more than {most_bytes} bytes")
        return bytes(parts)

    async def send(self, context: Context, command: Mapping[Tag, int | str], data: bytes | memoryview = b"") -> None:
        """Send a message. Raises ConnectionEndedError."""
        encoded = encode_command(command)
        await self._send_parts(context.context_id, memoryview(encoded), is_command=True)
        if data:
            await self._send_parts(context.context_id, memoryview(data), is_command=False)

    async def release(self) -> None:
        """Ask for the release, wait for the answer and close. Never raises: what was done is done."""
        try:
            await self._stream.write(pdu(PduType.RELEASE_RQ))
            while (await self._stream.read(self._stream.limits.pdu_seconds))[0] is not PduType.RELEASE_RP:
                pass
        except (ConnectionEndedError, ProtocolError):
            pass
        await self._stream.close()

    async def abort(self, reason: AbortReason | None = None) -> None:
        """Send A-ABORT and close."""
        await self._stream.abort(reason)

    async def _fragment(self, wait_seconds: float | None) -> Fragment:
        while not self._pending:
            stream = self._stream
            kind, body = stream.read_now() or await stream.read(wait_seconds or stream.limits.idle_seconds)
            if kind is PduType.DATA:
                self._pending.extend(fragments(body))
            elif kind is PduType.RELEASE_RQ:
                await self._stream.write(pdu(PduType.RELEASE_RP))
                raise ReleasedError
            elif kind is PduType.ABORT:
                raise ConnectionEndedError("the peer aborted the association")
            else:
                raise ProtocolError(f"an unexpected {kind.name} PDU", AbortReason.UNEXPECTED_PDU)
        fragment = self._pending.popleft()
        if fragment.context_id not in self._contexts:
            raise ProtocolError(f"the presentation context {fragment.context_id} was not accepted")
        return fragment

    async def _send_parts(self, context_id: int, data: memoryview, *, is_command: bool) -> None:
        for at in range(0, len(data), self._part_bytes):
            part = data[at : at + self._part_bytes]
            is_last = at + len(part) == len(data)
            header = data_header(context_id, len(part), is_command=is_command, is_last=is_last)
            await self._stream.write(header + bytes(part))
