"""STOW-RS: store instances at a DICOMweb service, with an outcome for each (PS3.18 section 10.5)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from radserve.dicom_io.dicomweb import json_model
from radserve.dicom_io.dimse import statuses
from radserve.dicom_io.file_meta import FileMeta, read_file_meta
from radserve.dicom_io.store_outcome import StoreOutcome, StoreState
from radserve.dicom_io.web_peer.multipart import Outgoing
from radserve.dicom_io.web_peer.peer import WebPeer, data_sets, refused
from radserve.errors import PeerError, RadserveError

FAILED, REFERENCED = "00081198", "00081199"
SOP_INSTANCE_UID, FAILURE_REASON = "00081155", "00081197"
DUPLICATE = 0x0111  # PS3.7 annex C: the instance is there already


async def store(peer: WebPeer, instances: Sequence[bytes]) -> list[StoreOutcome]:
    """Store Part 10 instances in one request; one outcome for each, in their order.

    Stored is what the Store Instances Response names so, by instance: a good status alone is not enough. Raises
    DicomError for bytes that are no Part 10 file; never for what the service does.
    """
    metas = [read_file_meta(each) for each in instances]
    outgoing = Outgoing(instances)
    try:
        async with peer.connected() as session:
            answer = await session.request("POST", "studies", content=outgoing.content(), headers=outgoing.headers)
        if answer.status not in (200, 202, 409):
            raise refused(peer.name, answer.status)
        found = await asyncio.to_thread(data_sets, answer.content, peer.name)
    except PeerError as error:
        return [_failed(meta, error) for meta in metas]
    stored = {json_model.text(item, SOP_INSTANCE_UID) for each in found for item in json_model.items(each, REFERENCED)}
    failed = {
        json_model.text(item, SOP_INSTANCE_UID): json_model.number(item, FAILURE_REASON)
        for each in found
        for item in json_model.items(each, FAILED)
    }
    return [_outcome(meta, stored, failed, answer.status) for meta in metas]


def _failed(meta: FileMeta, error: RadserveError) -> StoreOutcome:
    transient = isinstance(error, PeerError) and error.is_transient
    state = StoreState.UNCONFIRMED if transient else StoreState.REFUSED
    return StoreOutcome(
        meta.sop_class_uid, meta.sop_instance_uid, state, message=error.client_message, is_transient=transient
    )


def _outcome(meta: FileMeta, stored: set[str], failed: dict[str, int | None], http_status: int) -> StoreOutcome:
    uid = meta.sop_instance_uid
    reason = failed.get(uid)
    if uid in failed and reason != DUPLICATE:
        text = "the service refused it" + (f" with the reason {reason:04X}" if reason is not None else "")
        transient = reason is None or statuses.is_transient(reason)
        return StoreOutcome(meta.sop_class_uid, uid, StoreState.REFUSED, reason, text, is_transient=transient)
    if uid in stored or uid in failed:
        state = StoreState.STORED if http_status == 200 else StoreState.WARNING
        return StoreOutcome(meta.sop_class_uid, uid, state, reason)
    text = f"the answer (HTTP {http_status}) does not say what became of the instance"
    return StoreOutcome(meta.sop_class_uid, uid, StoreState.UNCONFIRMED, message=text, is_transient=True)
