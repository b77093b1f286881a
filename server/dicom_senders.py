"""DICOM as a way of delivery: C-STORE with storage commitment, and STOW-RS; for DICOM objects alone."""

from __future__ import annotations

import asyncio
import logging
import secrets
from enum import StrEnum

from radserve.dicom_io.dimse.commitment import CommitmentInbox
from radserve.dicom_io.dimse.part10_stream import read_file_meta
from radserve.dicom_io.dimse.peer import DimseError, Peer
from radserve.dicom_io.dimse.query_scu import QueryScu
from radserve.dicom_io.dimse.store_scu import StoreScu
from radserve.dicom_io.identity import instance_of
from radserve.dicom_io.store_outcome import StoreOutcome, StoreState
from radserve.dicom_io.web_peer import qido, stow
from radserve.errors import ErrorCode, PeerError
from radserve.findings import Artifact
from radserve.server.peers import SitePeers
from radserve.uids import derive_uid

logger = logging.getLogger(__name__)

DICOM = "application/dicom"
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

    async def send(self, url: str, artifact: Artifact) -> None:
        """Return when the peer has the object, committed where that is wanted. Raises DimseError."""
        if artifact.media_type != DICOM:
            return
        peer, meta = self._peers.dimse(url), read_file_meta(artifact.data)
        key = url, meta.sop_instance_uid
        if key not in self._uncommitted:
            (outcome,) = await StoreScu(peer).send([artifact.data])
            _check_stored(outcome, peer.ae_title, artifact.name)
        if self._commitment is Commitment.OFF:
            return
        self._uncommitted.add(key)
        reason = await self._committed(peer, meta.sop_class_uid, meta.sop_instance_uid)
        if reason in (None, NOT_THERE):
            self._uncommitted.discard(key)
        if reason is not None:
            text = f"{peer.ae_title} did not commit {artifact.name}: reason {reason:04X}"
            raise DimseError(ErrorCode.SERVER_UNREACHABLE, text, is_transient=reason not in PERMANENT)

    async def has(self, url: str, artifact: Artifact) -> bool:
        """Whether the peer has committed the object or, where that is not wanted, finds it. Raises DimseError."""
        peer, meta = self._peers.dimse(url), read_file_meta(artifact.data)
        if self._commitment is Commitment.REQUIRED:
            return await self._committed(peer, meta.sop_class_uid, meta.sop_instance_uid) is None
        instance = await asyncio.to_thread(instance_of, artifact.data)
        found = await QueryScu(peer).find_instances(instance.study_instance_uid, instance.series_instance_uid)
        return any(each.sop_instance_uid == instance.sop_instance_uid for each in found)

    async def _committed(self, peer: Peer, sop_class_uid: str, sop_instance_uid: str) -> int | None:
        """None when the peer keeps the object for good, else the failure reason. Raises DimseError."""
        transaction = derive_uid("storage commitment", secrets.token_hex(16))
        scu = StoreScu(peer, commitments=self._inbox)
        try:
            report = await scu.commit(transaction, [(sop_class_uid, sop_instance_uid)], self._commitment_s)
        except DimseError as error:
            not_offered = error.code is ErrorCode.UNSUPPORTED_SOP_CLASS
            if not_offered and self._commitment is Commitment.OFFERED:
                return None
            raise
        if report is None:
            text = f"{peer.ae_title} took the commitment request and has not reported: it is asked again"
            raise DimseError(ErrorCode.DEADLINE_EXCEEDED, text)
        if sop_instance_uid in report.committed:
            return None
        return report.failed.get(sop_instance_uid, NOT_THERE)


class WebSender:
    """dicomweb+http:// and dicomweb+https://: the object by STOW-RS."""

    def __init__(self, peers: SitePeers) -> None:
        self._peers = peers

    def check(self, url: str) -> None:
        self._peers.web(url)

    async def send(self, url: str, artifact: Artifact) -> None:
        """Return when the service says that it has the object. Raises PeerError."""
        if artifact.media_type != DICOM:
            return
        peer = self._peers.web(url)
        (outcome,) = await stow.store(peer, [artifact.data])
        answered_nothing = outcome.state is StoreState.UNCONFIRMED and outcome.status is None
        if answered_nothing and await self._is_found(url, artifact):
            return
        _check_stored(outcome, peer.name, artifact.name)

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


def _check_stored(outcome: StoreOutcome, name: str, artifact: str) -> None:
    if not outcome.is_stored:
        text = f"{name} did not take {artifact}: {outcome.message or outcome.state}"
        raise PeerError(ErrorCode.SERVER_UNREACHABLE, text, is_transient=outcome.is_transient)
