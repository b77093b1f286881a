"""Send instances to a peer: C-STORE with an outcome for each, and storage commitment."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path

from radserve.dicom_io.dimse import negotiation, statuses
from radserve.dicom_io.dimse.association import Association, Message
from radserve.dicom_io.dimse.command import Operation, Tag, response_to
from radserve.dicom_io.dimse.commitment import (
    MAX_REPORT_BYTES,
    REQUEST_ACTION,
    SOP_INSTANCE,
    CommitmentInbox,
    CommitmentReport,
    read_report,
    request_data,
)
from radserve.dicom_io.dimse.native import native_data_set
from radserve.dicom_io.dimse.negotiation import Context, Proposed
from radserve.dicom_io.dimse.peer import (
    MEDIUM_PRIORITY,
    DimseError,
    Peer,
    ask,
    associated,
    check_answers,
    context_of,
    request,
)
from radserve.dicom_io.durable import storage_error
from radserve.dicom_io.file_meta import FileMeta, read_file_meta
from radserve.dicom_io.store_outcome import StoreOutcome, StoreState
from radserve.errors import ErrorCode, RadserveError
from radserve.workers import WorkerPool

__all__ = ["Source", "StoreOutcome", "StoreScu", "StoreState"]

Source = bytes | Path
HEAD_BYTES = 4096  # of a file, with its file meta information


@dataclass(frozen=True, slots=True)
class _Item:
    """A source and what its head says; its place in what was asked to be sent."""

    index: int
    source: Source
    meta: FileMeta

    def outcome(self, state: StoreState, message: str, *, is_transient: bool) -> StoreOutcome:
        meta = self.meta
        return StoreOutcome(
            meta.sop_class_uid, meta.sop_instance_uid, state, message=message, is_transient=is_transient
        )


_Sent = AsyncGenerator[tuple[_Item, StoreOutcome], None]
Begin = Callable[[int], Awaitable[bool]]


async def _always(index: int) -> bool:
    return True


class StoreScu:
    """Sends to one peer, over one association at a time for each call.

    `workers`: where instances are decompressed for a peer that refuses their syntax; None never does.
    `commitments`: where the storage SCP puts reports that the peer sends on an association of its own.
    """

    def __init__(
        self, peer: Peer, *, workers: WorkerPool | None = None, commitments: CommitmentInbox | None = None
    ) -> None:
        self._peer = peer
        self._workers = workers
        self._commitments = commitments or CommitmentInbox()

    async def send(self, sources: Sequence[Source]) -> list[StoreOutcome]:
        """Send Part 10 files as they are; one outcome for each, in their order. Never raises for what the peer does."""
        async with aclosing(self.outcomes(sources)) as sent:
            found = {index: outcome async for index, outcome in sent}
        return [found[index] for index in range(len(sources))]

    async def outcomes(
        self, sources: Sequence[Source], begin: Begin = _always
    ) -> AsyncGenerator[tuple[int, StoreOutcome], None]:
        """As `send`, with each outcome as it is known, by the index of its source.

        `begin(index)` is awaited before an instance leaves; where it is False the instance is left out.
        """
        items = []
        for index, source in enumerate(sources):
            try:
                items.append(_Item(index, source, read_file_meta(await _head(source))))
            except RadserveError as error:
                if await begin(index):
                    yield index, StoreOutcome("", "", StoreState.NOT_SENT, message=error.client_message)
        for proposed, batch in _batches(items):
            async with aclosing(self._sent(proposed, batch, begin)) as sent:
                async for item, outcome in sent:
                    yield item.index, outcome

    async def _sent(self, proposed: list[Proposed], batch: list[_Item], begin: Begin) -> _Sent:
        left = list(batch)
        is_under_way = False
        try:
            async with associated(self._peer, proposed) as association:
                while left:
                    if not await begin(left[0].index):
                        left.pop(0)
                        continue
                    is_under_way = True
                    outcome = await self._send_one(association, left[0])
                    is_under_way = False
                    yield left.pop(0), outcome
        except DimseError as error:
            for item in left:
                state = StoreState.UNCONFIRMED if is_under_way else StoreState.NOT_SENT
                yield item, item.outcome(state, error.client_message, is_transient=error.is_transient)
                is_under_way = False

    async def _send_one(self, association: Association, item: _Item) -> StoreOutcome:
        try:
            context, data = await self._prepared(association, item)
        except RadserveError as error:
            return item.outcome(StoreState.NOT_SENT, error.client_message, is_transient=False)
        extra: dict[Tag, int | str] = {
            Tag.PRIORITY: MEDIUM_PRIORITY,
            Tag.AFFECTED_SOP_INSTANCE_UID: item.meta.sop_instance_uid,
        }
        answer = await ask(association, self._peer, context, Operation.C_STORE, extra, data)
        outcome = _outcome(item, answer.status, answer.text(Tag.ERROR_COMMENT))
        return replace(outcome, converted=context.transfer_syntax_uid != item.meta.transfer_syntax_uid)

    async def _prepared(self, association: Association, item: _Item) -> tuple[Context, memoryview]:
        """The context for an instance and the data set in its syntax."""
        meta = item.meta
        fitting = [each for each in association.contexts.values() if each.abstract_syntax == meta.sop_class_uid]
        whole = await _read(item.source)
        for context in fitting:
            if context.transfer_syntax_uid == meta.transfer_syntax_uid:
                return context, memoryview(whole)[meta.offset :]
        for context in fitting:
            if self._workers and context.transfer_syntax_uid in negotiation.UNCOMPRESSED:
                data = await self._workers.run(native_data_set, whole, context.transfer_syntax_uid)
                return context, memoryview(data)
        what = f"the transfer syntax {meta.transfer_syntax_uid} of " if fitting else ""
        text = f"{self._peer.ae_title} does not take {what}the SOP class {meta.sop_class_uid}"
        raise DimseError(ErrorCode.UNSUPPORTED_TRANSFER_SYNTAX, text, is_transient=False)

    async def commit(
        self, transaction_uid: str, instances: Sequence[tuple[str, str]], wait_seconds: float = 60.0
    ) -> CommitmentReport | None:
        """Ask the peer to keep (SOP class, SOP instance) pairs for good, and wait for its report.

        None: the peer took the request, and no report came in time; ask again with a new transaction. Raises DimseError
        UNSUPPORTED_SOP_CLASS where storage commitment is not offered, SERVER_UNREACHABLE.
        """
        offered = [Proposed(negotiation.STORAGE_COMMITMENT, negotiation.UNCOMPRESSED)]
        with self._commitments.expecting(transaction_uid) as report:
            async with associated(self._peer, offered) as association:
                context = context_of(association, negotiation.STORAGE_COMMITMENT, self._peer)
                await self._request(association, context, transaction_uid, instances)
                if report.done():
                    return report.result()
                here = asyncio.ensure_future(self._report_here(association))
                try:
                    await asyncio.wait({report, here}, timeout=wait_seconds, return_when=asyncio.FIRST_COMPLETED)
                    if not report.done() and here.done() and not here.exception():
                        return here.result()
                finally:
                    here.cancel()
                    await asyncio.gather(here, return_exceptions=True)
            await asyncio.wait({report}, timeout=wait_seconds)
            return report.result() if report.done() else None

    async def _request(
        self, association: Association, context: Context, transaction_uid: str, instances: Sequence[tuple[str, str]]
    ) -> None:
        extra: dict[Tag, int | str] = {
            Tag.REQUESTED_SOP_INSTANCE_UID: SOP_INSTANCE,
            Tag.ACTION_TYPE_ID: REQUEST_ACTION,
        }
        data = request_data(transaction_uid, instances, context.transfer_syntax_uid)
        command = request(association, Operation.N_ACTION, context.abstract_syntax, has_data=True) | extra
        await association.send(context, command, data)
        message = await association.receive(self._peer.response_seconds)
        while message.command.operation == Operation.N_EVENT_REPORT:  # a peer may report before it answers
            self._commitments.put(await self._take_report(association, message))
            message = await association.receive(self._peer.response_seconds)
        check_answers(message, command)
        await association.whole_data(message, MAX_REPORT_BYTES)
        if message.command.status != statuses.SUCCESS:
            text = f"{self._peer.ae_title} answered the storage commitment with the status {message.command.status:04X}"
            raise DimseError(ErrorCode.SERVER_UNREACHABLE, text)

    async def _report_here(self, association: Association) -> CommitmentReport:
        """A report that the peer sends on the association of the request."""
        return await self._take_report(association, await association.receive(self._peer.response_seconds))

    async def _take_report(self, association: Association, message: Message) -> CommitmentReport:
        data = await association.whole_data(message, MAX_REPORT_BYTES)
        report = await asyncio.to_thread(read_report, data, message.context.transfer_syntax_uid)
        event = message.command.number(Tag.EVENT_TYPE_ID)
        answer = response_to(message.command, statuses.SUCCESS, event_type_id=event)
        await association.send(message.context, answer)
        return report


def _outcome(item: _Item, status: int, comment: str) -> StoreOutcome:
    state = StoreState.REFUSED
    if statuses.is_success(status):
        state = StoreState.STORED
    elif statuses.is_warning(status):
        state = StoreState.WARNING
    made = item.outcome(state, comment, is_transient=statuses.is_transient(status))
    return replace(made, status=status)


def _batches(items: Iterable[_Item]) -> Iterator[tuple[list[Proposed], list[_Item]]]:
    """Parts of `items` whose contexts fit one association."""
    proposed: dict[Proposed, None] = {}
    batch: list[_Item] = []
    for item in items:
        uid, syntax = item.meta.sop_class_uid, item.meta.transfer_syntax_uid
        wanted = dict.fromkeys((Proposed(uid, (syntax,)), Proposed(uid, negotiation.UNCOMPRESSED)))
        if len(proposed | wanted) > negotiation.MAX_CONTEXTS:
            yield list(proposed), batch
            proposed, batch = {}, []
        proposed |= wanted
        batch.append(item)
    if batch:
        yield list(proposed), batch


async def _head(source: Source) -> bytes:
    if isinstance(source, bytes):
        return source[:HEAD_BYTES]
    return await asyncio.to_thread(_read_file, source, HEAD_BYTES)


async def _read(source: Source) -> bytes:
    return source if isinstance(source, bytes) else await asyncio.to_thread(_read_file, source, -1)


def _read_file(path: Path, size: int) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(size)
    except OSError as error:
        raise storage_error(error) from None
