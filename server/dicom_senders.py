"""DICOM as a way of delivery: C-STORE with storage commitment, and STOW-RS; for DICOM objects alone."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from enum import StrEnum

from radserve.dicom_io.dimse.commitment import CommitmentInbox
from radserve.dicom_io.dimse.peer import DimseError, Peer
from radserve.dicom_io.dimse.query_scu import QueryScu
from radserve.dicom_io.dimse.store_scu import StoreScu
from radserve.dicom_io.file_meta import read_file_meta
from radserve.dicom_io.identity import instance_of
from radserve.dicom_io.store_outcome import StoreOutcome, StoreState
from radserve.dicom_io.web_peer import qido, stow
from radserve.errors import ErrorCode, PeerError, RadserveError
from radserve.ports import Begin, Outcome
from radserve.results import Artifact
from radserve.server.peers import SitePeers
from radserve.uids import derive_uid

logger = logging.getLogger(__name__)

DICOM = "application/dicom"
UNANSWERED = 2  # single objects in succession, after which a service is taken to be away
NOT_THERE = 0x0112  # failure reasons of storage commitment, PS3.3 C.14.1.1
PERMANENT = frozenset({0x0119, 0x0122})  # class and instance do not fit; the class is not supported


class Commitment(StrEnum):
    """Whether a C-STORE destination has to commit: never, where it offers it, or always."""

    OFF = "off"
    OFFERED = "offered"
    REQUIRED = "required"


class DicomSender:
    """dicom:// and dicoms://: the object by C-STORE; with commitment it is delivered only when the peer has committed.

    `inbox`: where the listener puts the reports that come on an association of the peer's.
    """

    def __init__(
        self,
        peers: SitePeers,
        inbox: CommitmentInbox,
        commitment: Commitment = Commitment.OFF,
        commitment_s: float = 60.0,
    ) -> None:
        self._peers = peers
        self._inbox = inbox
        self._commitment = commitment
        self._commitment_s = commitment_s
        self._uncommitted: set[tuple[str, str]] = set()  # stored in an earlier attempt: only the commitment lacks

    def check(self, url: str) -> None:
        self._peers.dimse(url)

    async def send(self, url: str, artifacts: Sequence[Artifact], begin: Begin) -> AsyncGenerator[Outcome, None]:
        """By C-STORE over one association, then one request for the commitment of all that were stored."""
        peer = self._peers.dimse(url)
        stored, new = [], []
        for index, artifact in enumerate(artifacts):
            if artifact.media_type != DICOM:
                if await begin(index):
                    yield index, None
            elif (url, _instance_uid(artifact)) not in self._uncommitted:
                new.append(index)
            elif await begin(index):
                stored.append(index)
        sources = [artifacts[index].data for index in new]
        async with aclosing(StoreScu(peer).outcomes(sources, lambda number: begin(new[number]))) as outcomes:
            async for number, outcome in outcomes:
                index = new[number]
                error = _not_stored(outcome, peer.ae_title, artifacts[index].name)
                if error or self._commitment is Commitment.OFF:
                    yield index, error
                else:
                    self._uncommitted.add((url, outcome.sop_instance_uid))
                    stored.append(index)
        if stored:
            reasons = await self._committed(peer, [artifacts[index] for index in stored])
            for index, reason in zip(stored, reasons, strict=True):
                if reason in (None, NOT_THERE):
                    self._uncommitted.discard((url, _instance_uid(artifacts[index])))
                yield index, _not_committed(reason, peer.ae_title, artifacts[index].name)

    async def has(self, url: str, artifact: Artifact) -> bool:
        """Whether the peer has committed the object or, where that is not wanted, finds it. Raises DimseError."""
        peer = self._peers.dimse(url)
        if self._commitment is Commitment.REQUIRED:
            (reason,) = await self._committed(peer, [artifact])
            if isinstance(reason, RadserveError):
                raise reason
            return reason is None
        instance = await asyncio.to_thread(instance_of, artifact.data)
        found = await QueryScu(peer).find_instances(instance.study_instance_uid, instance.series_instance_uid)
        return any(each.sop_instance_uid == instance.sop_instance_uid for each in found)

    async def _committed(self, peer: Peer, artifacts: Sequence[Artifact]) -> list[int | RadserveError | None]:
        """None for each object that the peer keeps for good, else the failure reason, or why there is none."""
        transaction = derive_uid("storage commitment", secrets.token_hex(16))
        metas = [read_file_meta(artifact.data) for artifact in artifacts]
        instances = [(meta.sop_class_uid, meta.sop_instance_uid) for meta in metas]
        scu = StoreScu(peer, commitments=self._inbox)
        try:
            report = await scu.commit(transaction, instances, self._commitment_s)
        except DimseError as error:
            not_offered = error.code is ErrorCode.UNSUPPORTED_SOP_CLASS
            enough = not_offered and self._commitment is Commitment.OFFERED
            return [None if enough else error] * len(metas)
        if report is None:
            text = f"{peer.ae_title} took the commitment request and has not reported: it is asked again"
            return [DimseError(ErrorCode.DEADLINE_EXCEEDED, text)] * len(metas)
        uids = [meta.sop_instance_uid for meta in metas]
        return [None if uid in report.committed else report.failed.get(uid, NOT_THERE) for uid in uids]


class WebSender:
    """dicomweb+http:// and dicomweb+https://: the object by STOW-RS."""

    def __init__(self, peers: SitePeers) -> None:
        self._peers = peers

    def check(self, url: str) -> None:
        self._peers.web(url)

    async def send(self, url: str, artifacts: Sequence[Artifact], begin: Begin) -> AsyncGenerator[Outcome, None]:
        """All in one request; one after the other where the service answers that with nothing for each of them."""
        begun = [index for index in range(len(artifacts)) if await begin(index)]
        for index in begun:
            if artifacts[index].media_type != DICOM:
                yield index, None
        objects = [index for index in begun if artifacts[index].media_type == DICOM]
        peer = self._peers.web(url)
        outcomes = await stow.store(peer, [artifacts[index].data for index in objects]) if objects else []
        if len(objects) > 1 and all(_says_nothing(outcome) for outcome in outcomes):
            async with aclosing(self._one_by_one(url, artifacts, objects)) as found:
                async for each in found:
                    yield each
            return
        for index, outcome in zip(objects, outcomes, strict=True):
            yield index, await self._error(url, artifacts[index], outcome)

    async def _one_by_one(
        self, url: str, artifacts: Sequence[Artifact], objects: Sequence[int]
    ) -> AsyncGenerator[Outcome, None]:
        """Each object in a request of its own, so that one does not stop the others; until the service is not there."""
        peer = self._peers.web(url)
        unanswered: list[StoreOutcome] = []
        for index in objects:
            if len(unanswered) < UNANSWERED:
                (outcome,) = await stow.store(peer, [artifacts[index].data])
                error = await self._error(url, artifacts[index], outcome)
                is_unanswered = error is not None and outcome.state is StoreState.UNCONFIRMED
                unanswered = [*unanswered, outcome] if is_unanswered else []
                yield index, error
            else:
                yield index, _not_stored(unanswered[-1], peer.name, artifacts[index].name)

    async def _error(self, url: str, artifact: Artifact, outcome: StoreOutcome) -> RadserveError | None:
        """Why an object is not there, None where it is: an answer that does not say so is settled by a query."""
        answered_nothing = outcome.state is StoreState.UNCONFIRMED and outcome.status is None
        if answered_nothing and await self._is_found(url, artifact):
            return None
        return _not_stored(outcome, self._peers.web(url).name, artifact.name)

    async def has(self, url: str, artifact: Artifact) -> bool:
        """Whether the service finds the object (QIDO-RS). Raises PeerError."""
        instance = await asyncio.to_thread(instance_of, artifact.data)
        async with self._peers.web(url).connected() as session:
            return await qido.has_instance(session, instance)

    async def _is_found(self, url: str, artifact: Artifact) -> bool:
        try:
            return await self.has(url, artifact)
        except PeerError:
            return False


def _says_nothing(outcome: StoreOutcome) -> bool:
    """Whether the service has not answered for this instance, but at most for the whole request."""
    return not outcome.is_stored and outcome.status is None


def _not_stored(outcome: StoreOutcome, name: str, artifact: str) -> PeerError | None:
    if outcome.is_stored:
        return None
    text = f"{name} did not take {artifact}: {outcome.message or outcome.state}"
    return PeerError(ErrorCode.SERVER_UNREACHABLE, text, is_transient=outcome.is_transient)


def _not_committed(reason: int | RadserveError | None, name: str, artifact: str) -> RadserveError | None:
    if reason is None or isinstance(reason, RadserveError):
        return reason
    text = f"{name} did not commit {artifact}: reason {reason:04X}"
    return DimseError(ErrorCode.SERVER_UNREACHABLE, text, is_transient=reason not in PERMANENT)


def _instance_uid(artifact: Artifact) -> str:
    """The SOP Instance UID, "" for bytes that are no Part 10 file."""
    try:
        return read_file_meta(artifact.data).sop_instance_uid
    except RadserveError:
        return ""
