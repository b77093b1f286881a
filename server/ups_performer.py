"""Performs workitems of an origin server (IHE AIW-I, pull): claim, retrieve, analyse by the workflow, complete or
cancel.

What was claimed is on disk before the origin server knows of it, and each step looks first at how things stand there
and here, so that a process may end at any moment: a claimed workitem is finished after the next start, and makes no
second result, as the same instances of a study are analysed once. A cancellation that is asked for, or done by others,
stops what this workitem alone has brought here; once a result has left, it is too late, and the workitem is completed.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from radserve.dicom_io.pull import Archive, PulledStudy, pull_study
from radserve.dicom_io.store import StudyStore
from radserve.dicom_io.study_progress import SqlStudyProgress, StudyProgress
from radserve.dicom_io.web_peer.event_channel import CANCEL_REQUESTED, UpsEvent
from radserve.dicom_io.web_peer.ups import (
    CANCELLATION_REQUESTED,
    InputReference,
    NotOursError,
    OutputReference,
    StepState,
    Workitem,
    Worklist,
)
from radserve.errors import PeerError, RadserveError
from radserve.pipelines.timing import Clock
from radserve.ports import WorkLedger
from radserve.references import InstanceRef, StudyRef
from radserve.server.ups_claims import Claim, ClaimFolder
from radserve.server.ups_outputs import Outputs
from radserve.uids import derive_uid
from radserve.work import Signal, StudyState

logger = logging.getLogger(__name__)

RETRIEVE_ATTEMPTS = 10
REOPEN_S = 10.0
ENDED = (StepState.COMPLETED, StepState.CANCELED)


@dataclass(frozen=True, slots=True)
class PerformerOptions:
    """`keys`: which workitems to take, by attribute. `claims`: the most at once."""

    keys: Mapping[str, str] = field(default_factory=dict)
    claims: int = 4
    poll_s: float = 10.0


class UpsPerformer:
    """Looks for work from `run` on. Each claim goes its own way, one step after the other."""

    def __init__(
        self,
        worklist: Worklist,
        archive: Archive,
        store: StudyStore,
        ledger: WorkLedger,
        progress: SqlStudyProgress,
        outputs: Outputs,
        claims: ClaimFolder,
        clock: Clock,
        options: PerformerOptions | None = None,
    ) -> None:
        self._worklist = worklist
        self._archive = archive
        self._store = store
        self._ledger = ledger
        self._progress = progress
        self._outputs = outputs
        self._claims = claims
        self._clock = clock
        self._options = options or PerformerOptions()
        self._cancel_requests: dict[str, str] = {}
        self._steps: dict[str, asyncio.Task[None]] = {}
        self._pulls: dict[str, asyncio.Task[RadserveError | None]] = {}

    async def run(self) -> None:
        """Perform until cancelled; what is under way is cut off then. A look that fails is logged and repeated."""
        try:
            while True:
                try:
                    await self.tick()
                except Exception as error:  # a full disk or an origin server comes and goes
                    logger.warning("the worklist could not be looked at: %s", _name(error))
                await self._clock.sleep(self._options.poll_s)
        finally:
            for task in self._steps.values():
                task.cancel()
            await asyncio.gather(*self._steps.values(), return_exceptions=True)

    async def listen(self, channel: Callable[[], AbstractAsyncContextManager[AsyncIterator[UpsEvent]]]) -> None:
        """Take cancel requests from the event channel until cancelled.

        When it ends it is opened again, and each claim subscribed to anew: a server may have forgotten who is away.
        """
        while True:
            try:
                async with channel() as events:
                    await self._subscribe(*(await asyncio.to_thread(self._claims.all)))
                    async for event in events:
                        if event.event_type == CANCEL_REQUESTED:
                            await self.request_cancel(event.workitem_uid, event.reason or CANCELLATION_REQUESTED)
            except Exception as error:  # a server without a channel, or one that comes and goes
                logger.info("no event channel: %s", _name(error))
            await self._clock.sleep(REOPEN_S)

    async def tick(self) -> None:
        """Start on the next step of each claim that has none under way, then claim what is new."""
        self._steps = {uid: task for uid, task in self._steps.items() if not task.done()}
        busy = set(self._steps)
        claims = await asyncio.to_thread(self._claims.all)
        for claim in claims:
            if claim.workitem_uid not in busy:
                self._start(claim)
        known = {claim.workitem_uid for claim in claims}
        room = self._options.claims - len(known)
        waiting = await self._worklist.scheduled(self._options.keys) if room > 0 else []
        for uid in [each for each in waiting if each not in known][:room]:
            claim = Claim(uid, derive_uid("ups transaction", secrets.token_hex(16)), self._clock.now())
            await self._put(claim)
            self._start(claim)

    async def settled(self) -> None:
        """Return when the steps under way have ended."""
        await asyncio.gather(*self._steps.values())

    async def request_cancel(self, workitem_uid: str, reason: str) -> None:
        """Give a workitem of ours up, and remember it durably; nothing for another's."""
        for claim in await asyncio.to_thread(self._claims.all):
            if claim.workitem_uid == workitem_uid:
                self._cancel_requests[workitem_uid] = reason
                await self._put(claim)
                if pull := self._pulls.get(workitem_uid):
                    pull.cancel()
                self._start(claim)

    def _start(self, claim: Claim) -> None:
        under_way = self._steps.get(claim.workitem_uid)
        if under_way is None or under_way.done():
            self._steps[claim.workitem_uid] = asyncio.create_task(self._step(claim))

    async def _step(self, claim: Claim) -> None:
        try:
            await self._advance(claim)
        except Exception as error:  # the next look tries again
            logger.warning("a workitem waits: %s", _name(error))

    async def _advance(self, claim: Claim) -> None:
        item = await self._worklist.get(claim.workitem_uid)
        if item is None or item.state in ENDED:  # we had finished it, or others have ended it
            await self._call_off(claim)
            await self._forget(claim)
            return
        try:
            if not claim.claimed:
                claim = await self._claim(claim, item)
            reason = claim.cancelled or self._cancel_requests.get(claim.workitem_uid, "") or item.cancellation
            if reason and await self._call_off(claim):
                await self._cancel(claim, reason)
            elif not item.inputs:
                await self._cancel(claim, "the workitem names no study as input")
            elif not claim.retrieved:
                await self._retrieve(claim, item, may_stop=not reason)
            else:
                await self._conclude(claim, item)
        except NotOursError:
            logger.warning("the workitem %s is not ours (any more)", claim.workitem_uid)
            await self._call_off(claim)
            await self._forget(claim)

    async def _claim(self, claim: Claim, item: Workitem) -> Claim:
        if item.state == StepState.SCHEDULED:
            await self._worklist.claim(item.uid, claim.transaction_uid)
        else:  # IN PROGRESS: ours if our transaction UID is the right one, which the origin server tells nobody
            await self._worklist.progress(item.uid, claim.transaction_uid, claim.told, "going on")
        logger.info("the workitem %s is claimed", item.uid)
        studies = _studies(item.inputs)
        found = [await self._progress.of(study) for study in studies]
        brought = [
            study.study_instance_uid
            for study, progress in zip(studies, found, strict=True)
            if progress is None or progress.state is StudyState.CALLED_OFF
        ]
        uids = tuple(study.study_instance_uid for study in studies)
        claim = replace(claim, claimed=True, studies=uids, brought=tuple(brought))
        await self._put(claim)
        await self._subscribe(claim)
        return claim

    async def _subscribe(self, *claims: Claim) -> None:
        for claim in claims:
            if claim.claimed:
                with suppress(PeerError):  # where there are no event reports, the workitem is looked at
                    await self._worklist.subscribe(claim.workitem_uid)

    async def _retrieve(self, claim: Claim, item: Workitem, *, may_stop: bool) -> None:
        claim = await self._tell(claim, 10, "retrieving the images")
        pull = asyncio.create_task(self._pull(item))
        tasks: set[asyncio.Task[Any]] = {pull}
        if may_stop:
            self._pulls[item.uid] = pull
            tasks.add(asyncio.create_task(self._watch(item.uid, pull)))
        try:
            await asyncio.wait({pull})
        finally:
            self._pulls.pop(item.uid, None)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if pull.cancelled():  # it is not to be done any more: now what is to be done instead
            await self._advance(claim)
            return
        failed = pull.result()
        if failed is None:
            claim = await self._tell(replace(claim, retrieved=True), 50, "analysing")
            await self._put(claim)
            return
        claim = replace(claim, failures=claim.failures + 1)
        await self._put(claim)
        passing = isinstance(failed, PeerError) and failed.is_transient
        if not passing or claim.failures >= RETRIEVE_ATTEMPTS:
            await self._cancel(claim, f"the images could not be retrieved: {failed.client_message}")

    async def _pull(self, item: Workitem) -> RadserveError | None:
        """Get the inputs; the first failure, where there is one."""
        failed: RadserveError | None = None
        for study in _studies(item.inputs):
            try:
                pulled = await pull_study(self._archive, study, self._store, wanted=partial(_is_input, item.inputs))
                failed = failed or _failure_of(pulled)
                await self._ledger.signal(study, Signal.INTERRUPTED if pulled.failures else Signal.COMPLETE)
                if not pulled.failures:
                    await self._ledger.take_up(study, self._clock.now())
            except RadserveError as error:
                failed = failed or error
        return failed

    async def _watch(self, workitem_uid: str, pull: asyncio.Task[RadserveError | None]) -> None:
        """Stop a retrieval whose workitem has ended, or is to."""
        while not pull.done():
            await self._clock.sleep(self._options.poll_s)
            with suppress(PeerError):
                item = await self._worklist.get(workitem_uid)
                if item is None or item.state in ENDED or item.cancellation:
                    pull.cancel()

    async def _conclude(self, claim: Claim, item: Workitem) -> None:
        """Complete or cancel, where the workflow has come to an end with all studies."""
        outputs: list[OutputReference] = []
        for study in _studies(item.inputs):
            found = await self._progress.of(study)
            reason = _hopeless(found)
            if reason or found is None:
                await self._cancel(claim, reason)
                return
            if not found.is_done:
                if found.state is StudyState.ANALYSED:
                    await self._tell(claim, 90, "delivering the results")
                return
            outputs += await self._outputs.of(found)
        await self._worklist.complete(item, claim.transaction_uid, claim.started_at, outputs)
        logger.info("the workitem %s is completed, %d objects", item.uid, len(outputs))
        await self._forget(claim)

    async def _tell(self, claim: Claim, percent: int, description: str) -> Claim:
        if claim.told >= percent:
            return claim
        await self._worklist.progress(claim.workitem_uid, claim.transaction_uid, percent, description)
        told = replace(claim, told=percent)
        await self._put(told)
        return told

    async def _call_off(self, claim: Claim) -> bool:
        """Stop what is here for this claim alone; False where that is too late."""
        claims = await asyncio.to_thread(self._claims.all)
        others = {uid for each in claims if each.workitem_uid != claim.workitem_uid for uid in each.studies}
        studies = [StudyRef(uid) for uid in claim.brought if uid not in others]
        return not studies or await self._ledger.call_off(studies, self._clock.now())

    async def _cancel(self, claim: Claim, reason: str) -> None:
        await self._put(replace(claim, cancelled=reason))
        await self._call_off(claim)
        await self._worklist.cancel(claim.workitem_uid, claim.transaction_uid, reason)
        logger.warning("the workitem %s is cancelled", claim.workitem_uid)
        await self._forget(claim)

    async def _put(self, claim: Claim) -> None:
        reason = claim.cancelled or self._cancel_requests.get(claim.workitem_uid, "")
        await asyncio.to_thread(self._claims.put, replace(claim, cancelled=reason))

    async def _forget(self, claim: Claim) -> None:
        self._cancel_requests.pop(claim.workitem_uid, None)
        await asyncio.to_thread(self._claims.remove, claim)


def _studies(inputs: Sequence[InputReference]) -> list[StudyRef]:
    return [StudyRef(uid) for uid in dict.fromkeys(each.study_instance_uid for each in inputs)]


def _is_input(inputs: Sequence[InputReference], instance: InstanceRef) -> bool:
    return any(each.has(instance) for each in inputs)


def _failure_of(pulled: PulledStudy) -> RadserveError | None:
    """The failure that stands for the others: one that will not pass, where there is one."""
    found = list(pulled.failures.values())
    final = [error for error in found if not (isinstance(error, PeerError) and error.is_transient)]
    return next(iter(final or found), None)


def _hopeless(found: StudyProgress | None) -> str:
    """Why there will be no result, "" where there may be one."""
    if found is None:
        return "the study is not stored here any more"
    if found.state is StudyState.NOT_ROUTED:
        return "no routing rule takes a series of the study"
    if found.state is StudyState.QUARANTINED:
        return f"the study could not be analysed or delivered: {found.reason}"
    return ""


def _name(error: Exception) -> str:
    return str(error.code) if isinstance(error, RadserveError) else type(error).__name__
