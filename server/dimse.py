"""The listener for C-ECHO, C-STORE and reports of storage commitment."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from radserve.dicom_io.dimse.access import AccessPolicy, PeerPolicy
from radserve.dicom_io.dimse.commitment import CommitmentInbox
from radserve.dicom_io.dimse.store_scp import ScpOptions, StoreScp
from radserve.dicom_io.reserve import DiskReserve
from radserve.dicom_io.store import StudyStore
from radserve.server.settings import MEBIBYTE, Settings


@asynccontextmanager
async def dimse_listener(
    settings: Settings, store: StudyStore, commitments: CommitmentInbox | None = None
) -> AsyncIterator[StoreScp | None]:
    """Take instances by C-STORE into `store`, and reports of storage commitment into `commitments`, while the block
    runs, where the settings name a port.

    Raises RadserveError INVALID_ARGUMENT for an AE title that cannot be, or a port that is taken.
    """
    if settings.dimse_port is None:
        yield None
        return
    peers = {title: PeerPolicy() for title in settings.dimse_peers}
    access = AccessPolicy(settings.ae_title, peers, others=None if peers else PeerPolicy())
    reserve = DiskReserve(settings.data_dir, settings.disk_reserve_mib * MEBIBYTE)
    scp = StoreScp(
        ScpOptions(access, settings.host, settings.dimse_port), store, reserve=reserve, commitments=commitments
    )
    await scp.start()
    try:
        yield scp
    finally:
        await scp.stop()
