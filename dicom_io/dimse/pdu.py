"""The protocol data units of an open connection (PS3.8 section 9.3), each bounded in size and in time."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

from radserve._checks import invalid
from radserve.dicom_io.dimse.wire import Wire

HEADER = struct.Struct(">BxI")
PDV_HEADER = struct.Struct(">IBB")
MAX_NEGOTIATION_BYTES = 128 << 10  # 128 presentation contexts with 20 transfer syntaxes each take about 100 KB
PDU_SLACK_BYTES = 16  # some senders count the header of a PDU, or of its first value, out of the maximum length
CLOSE_SECONDS = 2.0
COMMAND, LAST = 0x01, 0x02  # PS3.8 annex E.2


class PduType(IntEnum):
    """PS3.8 table 9-1 and following."""

    ASSOCIATE_RQ = 1
    ASSOCIATE_AC = 2
    ASSOCIATE_RJ = 3
    DATA = 4
    RELEASE_RQ = 5
    RELEASE_RP = 6
    ABORT = 7


PDU_TYPES = {int(kind): kind for kind in PduType}


class AbortReason(IntEnum):
    """Of an abort by the service provider (PS3.8 table 9-26)."""

    NOT_SPECIFIED = 0
    UNRECOGNIZED_PDU = 1
    UNEXPECTED_PDU = 2
    INVALID_PARAMETER = 6


class ConnectionEndedError(Exception):
    """The connection is gone or was given up; the text names the cause and holds no patient data."""


class ProtocolError(Exception):
    """The peer broke the protocol; the connection is to be aborted with `reason`."""

    def __init__(self, text: str, reason: AbortReason = AbortReason.INVALID_PARAMETER) -> None:
        super().__init__(text)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class WireLimits:
    """Bounds of one connection.

    `pdu_bytes`: the maximum length of a P-DATA PDU that is told to the peer; a longer one ends the association.
    `pdu_seconds`: from the first byte of a PDU to its last, also for sending. `negotiation_seconds`: from the
    connection to the end of the association request (the ARTIM timer of PS3.8). `idle_seconds`: between two PDUs.
    """

    pdu_bytes: int = 256 << 10
    pdu_seconds: float = 15.0
    negotiation_seconds: float = 10.0
    idle_seconds: float = 60.0

    def __post_init__(self) -> None:
        if not 4096 <= self.pdu_bytes <= 8 << 20:
            raise invalid("WireLimits.pdu_bytes", self.pdu_bytes, "4096 to 8388608")
        for name in ("pdu_seconds", "negotiation_seconds", "idle_seconds"):
            if not getattr(self, name) > 0:
                raise invalid(f"WireLimits.{name}", getattr(self, name), "above 0")


@dataclass(frozen=True, slots=True)
class Fragment:
    """A presentation data value: a part of a command or of a data set."""

    context_id: int
    is_command: bool
    is_last: bool
    data: memoryview


class PduStream:
    """Reads and writes PDUs. `announced`: what WireLimits.pdu_bytes was told to the peer."""

    def __init__(self, wire: Wire, limits: WireLimits) -> None:
        self._wire = wire
        self._limits = limits

    @property
    def limits(self) -> WireLimits:
        return self._limits

    async def read(self, wait_seconds: float) -> tuple[PduType, memoryview]:
        """The next PDU: its type and its body, which is overwritten by the next call.

        `wait_seconds`: how long its first byte may take. Raises ConnectionEndedError, ProtocolError.
        """
        if found := self.read_now():
            return found
        wire, now = self._wire, asyncio.get_running_loop().time
        try:
            await wire.ready(1, now() + wait_seconds)
            deadline = now() + self._limits.pdu_seconds
            await wire.ready(HEADER.size, deadline)
            number, length = HEADER.unpack(wire.take(HEADER.size))
            kind = self._checked(number, length)
            await wire.ready(length, deadline)
            return kind, wire.take(length)
        except TimeoutError:
            raise ConnectionEndedError("the peer took too long") from None
        except EOFError:
            cause = "in the middle of a PDU" if wire.available else "without a release"
            raise ConnectionEndedError(f"the peer closed the connection {cause}") from None
        except OSError as error:
            raise ConnectionEndedError(f"the connection broke ({type(error).__name__})") from None

    def read_now(self) -> tuple[PduType, memoryview] | None:
        """As `read`, but None where the next PDU has not arrived as a whole."""
        wire = self._wire
        available = wire.available
        if available < HEADER.size:
            return None
        number, length = HEADER.unpack(wire.peek(HEADER.size))
        kind = self._checked(number, length)
        if available < HEADER.size + length:
            return None
        wire.take(HEADER.size)
        return kind, wire.take(length)

    def _checked(self, number: int, length: int) -> PduType:
        kind = PDU_TYPES.get(number)
        if kind is None:
            raise ProtocolError(f"a PDU of the unknown type {number}", AbortReason.UNRECOGNIZED_PDU)
        negotiates = kind in (PduType.ASSOCIATE_RQ, PduType.ASSOCIATE_AC)
        most = MAX_NEGOTIATION_BYTES if negotiates else self._limits.pdu_bytes + PDU_SLACK_BYTES
        if length > most:
            raise ProtocolError(f"a PDU of {length} bytes, more than the {most} that are taken")
        return kind

    async def write(self, data: bytes) -> None:
        """Send bytes; returns when the system took most of them. Raises ConnectionEndedError."""
        try:
            async with asyncio.timeout(self._limits.pdu_seconds):
                await self._wire.send(data)
        except TimeoutError:
            raise ConnectionEndedError("the peer does not read what it is sent") from None
        except OSError as error:
            raise ConnectionEndedError(f"the connection broke ({type(error).__name__})") from None

    async def abort(self, reason: AbortReason | None = None) -> None:
        """Send A-ABORT, by the service user (None) or the provider, and close."""
        source = 0 if reason is None else 2
        with contextlib.suppress(ConnectionEndedError):
            await self.write(pdu(PduType.ABORT, bytes((0, 0, source, reason or 0))))
        await self.close()

    async def close(self) -> None:
        """Close the connection; what was written is still sent."""
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._wire.close()
        except (OSError, TimeoutError):
            self._wire.cut()

    def cut(self) -> None:
        """Drop the connection at once."""
        self._wire.cut()


def pdu(kind: PduType, body: bytes = bytes(4)) -> bytes:
    """The bytes of a PDU; the default body is that of A-RELEASE."""
    return HEADER.pack(kind, len(body)) + body


def fragments(body: bytes | memoryview) -> Iterator[Fragment]:
    """The presentation data values of a P-DATA body (PS3.8 section 9.3.5.1). Raises ProtocolError."""
    view, at = memoryview(body), 0
    while at < len(body):
        if len(body) - at < PDV_HEADER.size:
            raise ProtocolError("a presentation data value without its header")
        length, context_id, flags = PDV_HEADER.unpack_from(body, at)
        end = at + 4 + length
        if length < 2 or end > len(body):
            raise ProtocolError("a presentation data value that is longer than its PDU")
        yield Fragment(context_id, bool(flags & COMMAND), bool(flags & LAST), view[at + PDV_HEADER.size : end])
        at = end


def data_header(context_id: int, length: int, *, is_command: bool, is_last: bool) -> bytes:
    """What stands before `length` bytes that are sent as one P-DATA PDU with one presentation data value."""
    flags = COMMAND * is_command | LAST * is_last
    return HEADER.pack(PduType.DATA, length + PDV_HEADER.size) + PDV_HEADER.pack(length + 2, context_id, flags)
