"""Ask another application entity for an association."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from radserve.dicom_io.dimse import negotiation
from radserve.dicom_io.dimse.access import check_ae_title
from radserve.dicom_io.dimse.association import Association, Message, ReleasedError
from radserve.dicom_io.dimse.command import HAS_DATA_SET, NO_DATA_SET, Command, Operation, Tag
from radserve.dicom_io.dimse.negotiation import Context, Proposed, Rejection
from radserve.dicom_io.dimse.pdu import ConnectionEndedError, PduStream, PduType, ProtocolError, WireLimits
from radserve.dicom_io.dimse.statuses import SUCCESS
from radserve.dicom_io.dimse.wire import Wire
from radserve.errors import ErrorCode, PeerError, RequestError

MEDIUM_PRIORITY = 0


@dataclass(frozen=True, slots=True)
class Peer:
    """An application entity of others, and who we are to it.

    `connect_seconds`: for the connection and the TLS handshake. `response_seconds`: for each response, once the request
    is sent.
    """

    host: str
    port: int
    ae_title: str
    calling_ae: str = "RADSERVE"
    tls: ssl.SSLContext | None = None
    limits: WireLimits = field(default_factory=WireLimits)
    connect_seconds: float = 10.0
    response_seconds: float = 60.0

    def __post_init__(self) -> None:
        check_ae_title(self.ae_title)
        check_ae_title(self.calling_ae)


class DimseError(PeerError):
    """A peer could not be reached by DIMSE, refused, or failed."""


@asynccontextmanager
async def associated(peer: Peer, proposed: Sequence[Proposed]) -> AsyncIterator[Association]:
    """An association with the peer; it is released at the end of the block, or aborted where the block raises.

    What the block meets of the connection comes out as DimseError SERVER_UNREACHABLE, a rejection as well.
    """
    stream = await _connected(peer)
    try:
        association = await _negotiated(peer, stream, proposed)
        yield association
    except ConnectionEndedError as error:
        stream.cut()
        raise DimseError(ErrorCode.SERVER_UNREACHABLE, f"{peer.ae_title}: {error}") from None
    except ReleasedError:
        await stream.close()
        raise DimseError(ErrorCode.SERVER_UNREACHABLE, f"{peer.ae_title} released the association early") from None
    except ProtocolError as error:
        await stream.abort(error.reason)
        raise DimseError(ErrorCode.SERVER_UNREACHABLE, f"{peer.ae_title} broke the protocol: {error}") from None
    except BaseException:
        await stream.abort()
        raise
    await association.release()


async def echo(peer: Peer) -> None:
    """C-ECHO. Raises DimseError SERVER_UNREACHABLE."""
    async with associated(peer, [Proposed(negotiation.VERIFICATION, negotiation.UNCOMPRESSED)]) as association:
        context = context_of(association, negotiation.VERIFICATION, peer)
        answer = await ask(association, peer, context, Operation.C_ECHO, {})
        if answer.status != SUCCESS:
            text = f"{peer.ae_title} answered C-ECHO with the status {answer.status:04X}"
            raise DimseError(ErrorCode.SERVER_UNREACHABLE, text)


def request(
    association: Association, operation: Operation, sop_class_uid: str, *, has_data: bool
) -> dict[Tag, int | str]:
    """The command of a request."""
    of_class = Tag.REQUESTED_SOP_CLASS_UID if operation is Operation.N_ACTION else Tag.AFFECTED_SOP_CLASS_UID
    return {
        of_class: sop_class_uid,
        Tag.COMMAND_FIELD: operation,
        Tag.MESSAGE_ID: association.next_message_id(),
        Tag.DATA_SET_TYPE: HAS_DATA_SET if has_data else NO_DATA_SET,
    }


async def ask(
    association: Association,
    peer: Peer,
    context: Context,
    operation: Operation,
    extra: dict[Tag, int | str],
    data: bytes | memoryview = b"",
) -> Command:
    """Send a request that has one response without a data set, and return it."""
    command = request(association, operation, context.abstract_syntax, has_data=bool(data)) | extra
    await association.send(context, command, data)
    message = await answer_to(association, peer, command)
    async for _ in association.data(message):
        pass
    return message.command


async def answer_to(association: Association, peer: Peer, command: dict[Tag, int | str]) -> Message:
    """The next message, which has to be a response to `command`. Raises ProtocolError."""
    message = await association.receive(peer.response_seconds)
    check_answers(message, command)
    return message


def check_answers(message: Message, command: dict[Tag, int | str]) -> None:
    """Raise ProtocolError unless a message is the response to `command`."""
    if message.command.number(Tag.MESSAGE_ID_RESPONDED_TO, 0) != command[Tag.MESSAGE_ID]:
        raise ProtocolError("a response to another request")


def context_of(association: Association, abstract_syntax: str, peer: Peer) -> Context:
    """The accepted context of a class. Raises DimseError UNSUPPORTED_SOP_CLASS."""
    for context in association.contexts.values():
        if context.abstract_syntax == abstract_syntax:
            return context
    text = f"{peer.ae_title} does not offer the SOP class {abstract_syntax}"
    raise DimseError(ErrorCode.UNSUPPORTED_SOP_CLASS, text, is_transient=False)


async def _connected(peer: Peer) -> PduStream:
    name = peer.host if peer.tls and peer.tls.check_hostname else ("" if peer.tls else None)
    try:
        async with asyncio.timeout(peer.connect_seconds):
            _, wire = await asyncio.get_running_loop().create_connection(
                Wire, peer.host, peer.port, ssl=peer.tls, server_hostname=name
            )
    except TimeoutError:
        raise DimseError(ErrorCode.SERVER_UNREACHABLE, f"{peer.ae_title} did not answer in time") from None
    except ssl.SSLError as error:
        text = f"{peer.ae_title}: the TLS handshake failed ({error.reason or type(error).__name__})"
        raise DimseError(ErrorCode.SERVER_UNREACHABLE, text) from None
    except OSError as error:
        text = f"{peer.ae_title} cannot be reached ({type(error).__name__})"
        raise DimseError(ErrorCode.SERVER_UNREACHABLE, text) from None
    return PduStream(wire, peer.limits)


async def _negotiated(peer: Peer, stream: PduStream, proposed: Sequence[Proposed]) -> Association:
    if not 0 < len(proposed) <= negotiation.MAX_CONTEXTS:
        raise RequestError(ErrorCode.INVALID_ARGUMENT, f"{len(proposed)} presentation contexts: expected 1 to 128")
    await stream.write(negotiation.request_bytes(peer.calling_ae, peer.ae_title, proposed, peer.limits.pdu_bytes))
    kind, body = await stream.read(peer.response_seconds)
    if kind is PduType.ASSOCIATE_RJ:
        rejection = negotiation.read_reject(bytes(body))
        await stream.close()
        raise _rejected(peer, rejection)
    if kind is PduType.ABORT:
        raise ConnectionEndedError("the peer aborted the association")
    if kind is not PduType.ASSOCIATE_AC:
        raise ProtocolError(f"a {kind.name} PDU instead of an answer to the association request")
    contexts, max_pdu_bytes = negotiation.read_accept(bytes(body), proposed)
    return Association(stream, contexts, max_pdu_bytes)


def _rejected(peer: Peer, rejection: Rejection) -> DimseError:
    text = f"{peer.ae_title} rejected the association: {rejection.text}"
    return DimseError(ErrorCode.SERVER_UNREACHABLE, text, is_transient=rejection.is_transient)
