"""The storage SCP: C-ECHO and C-STORE from modalities and archives, and reports of storage commitment."""

from __future__ import annotations

import asyncio
import itertools
import logging
import secrets
import ssl
from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import dataclass, field

from radserve.dicom_io.dimse import negotiation, statuses
from radserve.dicom_io.dimse.access import AccessPolicy, Gate, RejectedError, Seat
from radserve.dicom_io.dimse.association import Association, Message, ReleasedError
from radserve.dicom_io.dimse.command import RESPONSE, Operation, Tag, response_to
from radserve.dicom_io.dimse.commitment import MAX_REPORT_BYTES, CommitmentInbox, read_report
from radserve.dicom_io.dimse.events import Origin, ReceiveEvents
from radserve.dicom_io.dimse.pdu import ConnectionEndedError, PduStream, PduType, ProtocolError, WireLimits
from radserve.dicom_io.dimse.receiver import InstanceReceiver
from radserve.dicom_io.dimse.tls import certificate_sha256
from radserve.dicom_io.dimse.wire import Wire
from radserve.dicom_io.reserve import DiskReserve
from radserve.dicom_io.store import StudyStore
from radserve.errors import ErrorCode, RadserveError, RequestError

logger = logging.getLogger(__name__)

BACKLOG = 128


@dataclass(frozen=True, slots=True)
class ScpOptions:
    """Where and how to listen. `port` 0 takes a free one.

    `max_waiting`: connections that have not associated yet; the one that waits longest is cut for a new one, so that
    connections which say nothing keep nobody out.
    """

    access: AccessPolicy
    host: str = "127.0.0.1"
    port: int = 11112
    limits: WireLimits = field(default_factory=WireLimits)
    tls: ssl.SSLContext | None = None
    max_waiting: int = 64


class StoreScp:
    """Listens from `start` to `stop`, on the event loop of its StudyStore."""

    def __init__(
        self,
        options: ScpOptions,
        store: StudyStore,
        events: ReceiveEvents | None = None,
        *,
        reserve: DiskReserve | None = None,
        commitments: CommitmentInbox | None = None,
    ) -> None:
        self._options = options
        self._events = events or ReceiveEvents()
        self._receiver = InstanceReceiver(store, reserve, self._events)
        self._commitments = commitments
        self._gate = Gate(options.access)
        self._server: asyncio.Server | None = None
        self._waiting: dict[PduStream, None] = {}  # in the order of their arrival
        self._tasks: set[asyncio.Task[None]] = set()
        self._idle: set[asyncio.Task[None]] = set()  # between two messages
        self._stopping = False
        self._numbers = itertools.count(1)
        self._run_id = secrets.token_hex(4)

    @property
    def port(self) -> int:
        """The port listened on."""
        if self._server is None:
            raise RuntimeError("the SCP is not started")
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._tasks)

    async def start(self) -> None:
        """Listen. Raises RequestError INVALID_ARGUMENT where the address cannot be had."""
        options = self._options
        handshake = options.limits.negotiation_seconds if options.tls else None
        try:
            self._server = await asyncio.get_running_loop().create_server(
                lambda: Wire(self._opened),
                options.host,
                options.port,
                backlog=BACKLOG,
                ssl=options.tls,
                ssl_handshake_timeout=handshake,
            )
        except OSError:
            where = f"{options.host}:{options.port}"
            text = f"DIMSE: cannot listen on {where}: is the port taken?"
            raise RequestError(ErrorCode.INVALID_ARGUMENT, text) from None
        logger.info("DIMSE: %s listens on port %d", options.access.ae_title, self.port)

    async def stop(self, grace_seconds: float = 10.0) -> None:
        """Take no more associations, let instances that are under way end, abort what is idle or late."""
        self._stopping = True
        if self._server:
            self._server.close()
        for stream in list(self._waiting):
            stream.cut()
        for task in list(self._idle):
            task.cancel()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=grace_seconds)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    def _opened(self, wire: Wire) -> None:
        task = asyncio.get_running_loop().create_task(self._connected(wire))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connected(self, wire: Wire) -> None:
        """Serve one connection."""
        stream = PduStream(wire, self._options.limits)
        try:
            await self._serve(stream, wire)
        except asyncio.CancelledError:
            await stream.abort()
        except ProtocolError as error:
            logger.warning("DIMSE: a connection is aborted: %s", error)
            await stream.abort(error.reason)
        except ConnectionEndedError as error:
            logger.info("DIMSE: a connection ended: %s", error)
            stream.cut()
        except Exception as error:  # one connection must not cost the others; its text may hold data of a patient
            logger.error("DIMSE: a connection failed: %s", type(error).__name__)
            await stream.abort()

    async def _serve(self, stream: PduStream, wire: Wire) -> None:
        proposal = await self._proposal(stream)
        if proposal is None:
            return
        peer = wire.extra_info("ssl_object")
        fingerprint = certificate_sha256(peer.getpeercert(binary_form=True) if peer else None)
        try:
            if self._stopping:
                raise RejectedError(negotiation.CONGESTED)
            seat = self._gate.admit(proposal.calling_ae, proposal.called_ae, fingerprint)
        except RejectedError as error:
            logger.warning("DIMSE: an association is rejected: %s", error)
            await _reject(stream, error.rejection)
            return
        origin = Origin(proposal.calling_ae, f"{self._run_id}-{next(self._numbers)}")
        handler = self._events.on_ended
        try:
            chosen = negotiation.choose(proposal, negotiation.SUPPORTED)
            limits = self._options.limits
            await stream.write(negotiation.accept_bytes(proposal, chosen, negotiation.SUPPORTED, limits.pdu_bytes))
            await self._answer(Association(stream, chosen, proposal.max_pdu_bytes), origin, seat)
        except ReleasedError:
            handler = self._events.on_released
            await stream.close()
        finally:
            seat.leave()
            await _told(handler(origin.calling_ae, origin.association_id))

    async def _proposal(self, stream: PduStream) -> negotiation.Proposal | None:
        """The association request of a new connection; None where it was rejected already."""
        if len(self._waiting) >= self._options.max_waiting:
            next(iter(self._waiting)).cut()
        self._waiting[stream] = None
        try:
            seconds = self._options.limits.negotiation_seconds
            async with asyncio.timeout(seconds):
                kind, body = await stream.read(seconds)
        except TimeoutError:
            raise ConnectionEndedError("no association was asked for in time") from None
        finally:
            self._waiting.pop(stream, None)
        if kind is not PduType.ASSOCIATE_RQ:
            raise ProtocolError(f"a {kind.name} PDU where an association was to be asked for")
        proposal = negotiation.read_request(bytes(body))
        if isinstance(proposal, negotiation.Rejection):
            await _reject(stream, proposal)
            return None
        return proposal

    async def _answer(self, association: Association, origin: Origin, seat: Seat) -> None:
        """Answer messages until the association ends, by an error."""
        while True:
            message = await self._next(association)
            operation = message.command.operation
            if operation == Operation.C_STORE:
                await self._receiver.take(association, message, origin, seat)
            elif operation == Operation.C_ECHO:
                await association.send(message.context, response_to(message.command, statuses.SUCCESS))
            elif operation == Operation.N_EVENT_REPORT and self._commitments is not None:
                await self._take_report(association, message, self._commitments)
            else:
                await _refuse_operation(association, message)

    async def _next(self, association: Association) -> Message:
        if self._stopping:
            await association.abort()
            raise ConnectionEndedError("the service is going down")
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  # called from _connected alone
        self._idle.add(task)
        try:
            return await association.receive()
        finally:
            self._idle.discard(task)

    async def _take_report(self, association: Association, message: Message, inbox: CommitmentInbox) -> None:
        status = statuses.SUCCESS
        data = await association.whole_data(message, MAX_REPORT_BYTES)
        try:
            inbox.put(await asyncio.to_thread(read_report, data, message.context.transfer_syntax_uid))
        except RadserveError as error:
            logger.warning("DIMSE: a storage commitment report is refused: %s", error.code)
            status = statuses.PROCESSING_FAILURE
        event = message.command.number(Tag.EVENT_TYPE_ID)
        await association.send(message.context, response_to(message.command, status, event_type_id=event))


async def _refuse_operation(association: Association, message: Message) -> None:
    operation = message.command.operation
    async for _ in association.data(message):
        pass
    if operation != Operation.C_CANCEL and not operation & RESPONSE:  # these get no answer
        await association.send(message.context, response_to(message.command, statuses.UNRECOGNIZED_OPERATION))


async def _reject(stream: PduStream, rejection: negotiation.Rejection) -> None:
    await stream.write(negotiation.reject_bytes(rejection))
    with suppress(ConnectionEndedError, ProtocolError):  # closing before the peer has read would lose the answer
        await stream.read(stream.limits.pdu_seconds)
    await stream.close()


async def _told(call: Awaitable[None]) -> None:
    try:
        await call
    except Exception as error:
        logger.warning("DIMSE: a handler failed: %s", type(error).__name__)
