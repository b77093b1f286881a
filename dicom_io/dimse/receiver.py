"""Take the instance of a C-STORE request into the study store; for the storage SCP and for C-GET."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator

from radserve._checks import check_uid
from radserve.dicom_io.dimse import statuses
from radserve.dicom_io.dimse.access import Seat
from radserve.dicom_io.dimse.association import Association, Message, ReleasedError
from radserve.dicom_io.dimse.command import Tag, response_to
from radserve.dicom_io.dimse.events import Origin, ReceiveEvents, Refusal
from radserve.dicom_io.dimse.pdu import ConnectionEndedError, ProtocolError
from radserve.dicom_io.file_meta import HEAD_BYTES, file_head, stated_uids
from radserve.dicom_io.pull import IncomingInstance, InstanceSink
from radserve.dicom_io.reserve import DiskReserve
from radserve.errors import DicomError, ErrorCode, RadserveError, StorageError

logger = logging.getLogger(__name__)


class _RefusedError(RadserveError):
    """A refusal whose status its code alone does not tell."""

    def __init__(self, status: int, code: ErrorCode, client_message: str) -> None:
        super().__init__(code, client_message)
        self.status = status


class InstanceReceiver:
    """Writes data sets down as they come and answers when they are on disk for good."""

    def __init__(self, store: InstanceSink, reserve: DiskReserve | None, events: ReceiveEvents) -> None:
        self._store = store
        self._reserve = reserve
        self._events = events

    async def take(self, association: Association, message: Message, origin: Origin, seat: Seat | None = None) -> bool:
        """Answer a C-STORE request; return whether the instance is stored.

        Raises ReleasedError, ConnectionEndedError, ProtocolError: then nothing of it stays.
        """
        error = await self._stored(association, message, origin, seat)
        status = statuses.SUCCESS
        if error is not None:
            status = error.status if isinstance(error, _RefusedError) else statuses.status_of(error)
            async for _ in association.data(message):  # the rest of the data set comes before the answer
                pass
            await self._tell_refused(message, error, status, origin)
        comment = error.client_message if error else ""
        await association.send(message.context, response_to(message.command, status, comment))
        return error is None

    async def _stored(
        self, association: Association, message: Message, origin: Origin, seat: Seat | None
    ) -> RadserveError | None:
        try:
            self._check(message, seat)
            async with self._store.receive(origin.calling_ae) as incoming:
                size = await self._write(incoming, association, message)
                if seat:
                    seat.charge(1, size)
                stored = await incoming.commit()
            await self._events.on_stored(stored, origin)
        except RadserveError as error:
            return error
        except (ReleasedError, ConnectionEndedError, ProtocolError):
            raise
        except Exception as error:  # of the store or of the owner's handler: the sender is told, and sends again
            logger.warning("storing an instance failed: %s", type(error).__name__)
            return StorageError(ErrorCode.INTERNAL, "the service failed")
        return None

    def _check(self, message: Message, seat: Seat | None) -> None:
        command, context = message.command, message.context
        try:
            check_uid("AffectedSOPInstanceUID", command.text(Tag.AFFECTED_SOP_INSTANCE_UID))
        except RadserveError as error:
            raise _RefusedError(statuses.INVALID_INSTANCE_UID, error.code, error.client_message) from None
        if command.text(Tag.AFFECTED_SOP_CLASS_UID) != context.abstract_syntax:
            text = "the SOP class is not that of the presentation context"
            raise _RefusedError(statuses.SOP_CLASS_NOT_SUPPORTED, ErrorCode.UNSUPPORTED_SOP_CLASS, text)
        if not command.has_data_set:
            raise DicomError(ErrorCode.EMPTY_INPUT, "the request has no data set")
        if seat and not seat.may_store:
            text = "the quota of the AE title is used up"
            raise _RefusedError(statuses.OUT_OF_RESOURCES, ErrorCode.REQUEST_TOO_LARGE, text)
        if self._reserve:
            self._reserve.check()

    async def _write(self, incoming: IncomingInstance, association: Association, message: Message) -> int:
        """Write the Part 10 file; return the bytes of the data set."""
        context, size, checked = message.context, 0, False
        instance = message.command.text(Tag.AFFECTED_SOP_INSTANCE_UID)
        incoming.write(file_head(context.abstract_syntax, instance, context.transfer_syntax_uid))
        async for part in _with_long_head(association.data(message)):
            if not checked:
                stated = stated_uids(bytes(part[:HEAD_BYTES]), context.transfer_syntax_uid)
                for what, found, asked in zip(
                    ("class", "instance"), stated, (context.abstract_syntax, instance), strict=True
                ):
                    if found and found != asked:
                        text = f"the SOP {what} UID of the data set is not that of the command"
                        raise _RefusedError(statuses.DOES_NOT_MATCH_SOP_CLASS, ErrorCode.INVALID_HEADER, text)
                checked = True
            incoming.write(part)
            size += len(part)
        return size

    async def _tell_refused(self, message: Message, error: RadserveError, status: int, origin: Origin) -> None:
        text = "an instance from %s is refused with %04X: %s (%s)"
        logger.warning(text, origin.calling_ae, status, error.code, error.client_message)
        try:
            await self._events.on_refused(_refusal(message, error, status), origin)
        except Exception as failure:  # the sender is owed its answer
            logger.warning("the handler of refusals failed: %s", type(failure).__name__)


def _refusal(message: Message, error: RadserveError, status: int) -> Refusal:
    command = message.command
    uids = command.text(Tag.AFFECTED_SOP_CLASS_UID)[:64], command.text(Tag.AFFECTED_SOP_INSTANCE_UID)[:64]
    return Refusal(*uids, error, status)


async def _with_long_head(parts: AsyncIterator[memoryview]) -> AsyncIterator[bytes | memoryview]:
    """The parts as they come, but the first as long as the check of the UIDs needs it."""
    head = b""
    is_long = False
    async for part in parts:
        if is_long:
            yield part
        elif len(head) + len(part) < HEAD_BYTES:
            head += part
        else:
            is_long = True
            yield head + part if head else part
    if not is_long and head:
        yield head
