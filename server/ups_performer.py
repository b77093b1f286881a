"""Performs workitems of an origin server (IHE AIW-I, pull): claim, retrieve, analyse by the workflow, complete or
cancel.

What was claimed is on disk before the origin server knows of it, and each step looks first at how things stand there
and here, so that a process may end at any moment: a claimed workitem is finished after the next start, and makes no
second result, as the same instances of a study are analysed once.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from urllib.parse import unquote, urlsplit

from radserve.dicom_io.identity import instance_of
from radserve.dicom_io.pull import Archive, PulledStudy, pull_study
from radserve.dicom_io.store import StudyStore
from radserve.dicom_io.study_progress import ResultObjectAt, SqlStudyProgress, StudyProgress
from radserve.dicom_io.web_peer.event_channel import CANCEL_REQUESTED, UpsEvent
from radserve.dicom_io.web_peer.ups import InputReference, NotOursError, OutputReference, StepState, Workitem, Worklist
from radserve.errors import PeerError, RadserveError
from radserve.pipelines.timing import Clock
from radserve.ports import ResultStore, WorkLedger
from radserve.references import InstanceRef, StudyRef
from radserve.server.peers import DIMSE_SCHEMES, WEB_SCHEMES
from radserve.server.ups_claims import Claim, ClaimFolder
from radserve.uids import derive_uid
from radserve.work import Signal, StudyState

logger = logging.getLogger(__name__)

RETRIEVE_ATTEMPTS = 10
REOPEN_S = 30.0


@dataclass(frozen=True, slots=True)
class PerformerOptions:
    """`keys`: which workitems to take, by attribute. `claims`: the most at once. `destinations`: URLs by name."""

    keys: Mapping[str, str] = field(default_factory=dict)
    claims: int = 4
    poll_s: float = 10.0
    destinations: Mapping[str, str] = field(default_factory=dict)


class UpsPerformer:
    """Looks for work from `run` on, one look after the other."""

    def __init__(
        self,
        worklist: Worklist,
        archive: Archive,
        store: StudyStore,
        ledger: WorkLedger,
        progress: SqlStudyProgress,
        results: ResultStore,
        claims: ClaimFolder,
        clock: Clock,
        options: PerformerOptions | None = None,
    ) -> None:
        self._worklist = worklist
        self._archive = archive
        self._store = store
        self._ledger = ledger
        self._progress = progress
        self._results = results
        self._claims = claims
        self._clock = clock
        self._options = options or PerformerOptions()
        self._cancel_requests: dict[str, str] = {}

    async def run(self) -> None:
        """Perform until cancelled. A look that fails is logged and repeated."""
        while True:
            try:
                await self.tick()
            except Exception as error:  # a full disk or an origin server comes and goes
                logger.warning("the worklist could not be looked at: %s", _name(error))
            await self._clock.sleep(self._options.poll_s)

    async def listen(self, channel: Callable[[], AsyncIterator[UpsEvent]]) -> None:
        """Take cancel requests from the event channel until cancelled; it is opened again when it ends."""
        while True:
            try:
                async for event in channel():
                    if event.event_type == CANCEL_REQUESTED:
                        await self.request_cancel(event.workitem_uid, event.reason or "a cancellation was requested")
            except Exception as error:  # a server without a channel, or one that comes and goes
                logger.info("no event channel: %s", _name(error))
            await self._clock.sleep(REOPEN_S)

    async def tick(self) -> None:
        """Bring each claim a step further, then claim what is new."""
        claims = await asyncio.to_thread(self._claims.all)
        for claim in claims:
            try:
                await self._advance(claim)
            except PeerError as error:
                logger.warning("a workitem waits: %s", error.code)
        known = {claim.workitem_uid for claim in await asyncio.to_thread(self._claims.all)}
        room = self._options.claims - len(known)
        waiting = await self._worklist.scheduled(self._options.keys) if room > 0 else []
        for uid in [each for each in waiting if each not in known][:room]:
            claim = Claim(uid, derive_uid("ups transaction", secrets.token_hex(16)), self._clock.now())
            await self._put(claim)
            await self._advance(claim)

    async def request_cancel(self, workitem_uid: str, reason: str) -> None:
        """Note, durably, that a workitem of ours is to be given up at its next step; nothing for another's."""
        for claim in await asyncio.to_thread(self._claims.all):
            if claim.workitem_uid == workitem_uid:
                self._cancel_requests[workitem_uid] = reason
                await self._put(claim)

    async def _advance(self, claim: Claim) -> None:
        item = await self._worklist.get(claim.workitem_uid)
        if item is None or item.state in (StepState.COMPLETED, StepState.CANCELED):
            await self._forget(claim)  # we had finished it, or it was taken from us
            return
        try:
            if not claim.claimed:
                claim = await self._claim(claim, item)
            if reason := claim.cancelled or self._cancel_requests.get(claim.workitem_uid, ""):
                await self._cancel(claim, reason)
            elif not item.inputs:
                await self._cancel(claim, "the workitem names no study as input")
            elif not claim.retrieved:
                await self._retrieve(claim, item)
            else:
                await self._conclude(claim, item)
        except NotOursError:
            logger.warning("the workitem %s is not ours (any more)", claim.workitem_uid)
            await self._forget(claim)

    async def _claim(self, claim: Claim, item: Workitem) -> Claim:
        if item.state == StepState.SCHEDULED:
            await self._worklist.claim(item.uid, claim.transaction_uid)
        else:  # IN PROGRESS: ours if our transaction UID is the right one, which the origin server tells nobody
            await self._worklist.progress(item.uid, claim.transaction_uid, claim.told, "going on")
        logger.info("the workitem %s is claimed", item.uid)
        with suppress(PeerError):  # where there are no event reports, nobody can ask for a cancellation
            await self._worklist.subscribe(item.uid)
        claim = replace(claim, claimed=True)
        await self._put(claim)
        return claim

    async def _retrieve(self, claim: Claim, item: Workitem) -> None:
        claim = await self._tell(claim, 10, "retrieving the images")
        failed: RadserveError | None = None
        for study in _studies(item.inputs):
            try:
                pulled = await pull_study(self._archive, study, self._store, wanted=partial(_is_input, item.inputs))
                failed = failed or _failure_of(pulled)
                await self._ledger.signal(study, Signal.INTERRUPTED if pulled.failures else Signal.COMPLETE)
            except RadserveError as error:
                failed = failed or error
        if failed is None:
            claim = await self._tell(replace(claim, retrieved=True), 50, "analysing")
            await self._put(claim)
            return
        claim = replace(claim, failures=claim.failures + 1)
        await self._put(claim)
        passing = isinstance(failed, PeerError) and failed.is_transient
        if not passing or claim.failures >= RETRIEVE_ATTEMPTS:
            await self._cancel(claim, f"the images could not be retrieved: {failed.client_message}")

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
            outputs += await self._outputs(found)
        await self._worklist.complete(item, claim.transaction_uid, claim.started_at, outputs)
        logger.info("the workitem %s is completed, %d objects", item.uid, len(outputs))
        await self._forget(claim)

    async def _outputs(self, found: StudyProgress) -> list[OutputReference]:
        places: dict[tuple[str, str], list[str]] = {}
        for uid in found.result_uids:
            for name, _, sop_instance_uid in await self._results.objects(uid):
                if sop_instance_uid:
                    places[uid, name] = []
        for each in found.deliveries:
            places.setdefault((each.result_uid, each.artifact), []).append(each.destination)
        delivered = {key: names for key, names in places.items() if names} or places
        return [await self._output(ResultObjectAt(*key), names) for key, names in delivered.items()]

    async def _output(self, which: ResultObjectAt, destinations: Sequence[str]) -> OutputReference:
        artifact = await self._results.read(which.result_uid, which.artifact)
        instance = await asyncio.to_thread(instance_of, artifact.data)
        urls = [urlsplit(self._options.destinations.get(name, "")) for name in destinations]
        titles = [unquote(url.username or "") for url in urls if url.scheme in DIMSE_SCHEMES]
        web = [url.geturl().removeprefix("dicomweb+") for url in urls if url.scheme in WEB_SCHEMES]
        return OutputReference(instance, titles[0] if titles else "", web[0] if web else "")

    async def _tell(self, claim: Claim, percent: int, description: str) -> Claim:
        if claim.told >= percent:
            return claim
        await self._worklist.progress(claim.workitem_uid, claim.transaction_uid, percent, description)
        told = replace(claim, told=percent)
        await self._put(told)
        return told

    async def _cancel(self, claim: Claim, reason: str) -> None:
        await self._put(replace(claim, cancelled=reason))
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
