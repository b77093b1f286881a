"""DICOM peers of the server: the listener for C-ECHO and C-STORE, and C-STORE as a way of delivery."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from radserve._checks import invalid
from radserve.dicom_io.dimse.access import AccessPolicy, PeerPolicy
from radserve.dicom_io.dimse.peer import DimseError, Peer
from radserve.dicom_io.dimse.store_scp import ScpOptions, StoreScp
from radserve.dicom_io.dimse.store_scu import StoreScu, StoreState
from radserve.dicom_io.reserve import DiskReserve
from radserve.dicom_io.store import StudyStore
from radserve.errors import ErrorCode
from radserve.findings import Artifact
from radserve.server.settings import MEBIBYTE, Settings

DICOM = "application/dicom"


@asynccontextmanager
async def dimse_listener(settings: Settings, store: StudyStore) -> AsyncIterator[StoreScp | None]:
    """Take instances by C-STORE into `store` while the block runs, where the settings name a port.

    Raises RadserveError INVALID_ARGUMENT for an AE title that cannot be, or a port that is taken.
    """
    if settings.dimse_port is None:
        yield None
        return
    peers = {title: PeerPolicy() for title in settings.dimse_peers}
    access = AccessPolicy(settings.ae_title, peers, others=None if peers else PeerPolicy())
    reserve = DiskReserve(settings.data_dir, settings.disk_reserve_mib * MEBIBYTE)
    scp = StoreScp(ScpOptions(access, settings.host, settings.dimse_port), store, reserve=reserve)
    await scp.start()
    try:
        yield scp
    finally:
        await scp.stop()


class DicomSender:
    """dicom://AE_TITLE@HOST:PORT: the object by C-STORE; what is no DICOM object is not sent there."""

    def __init__(self, calling_ae: str) -> None:
        self._calling_ae = calling_ae

    async def send(self, url: str, artifact: Artifact) -> None:
        """Return when the peer has the object. Raises DimseError; INVALID_ARGUMENT for a URL without its parts."""
        parts = urlsplit(url)
        if not (parts.username and parts.hostname and parts.port):
            raise invalid("destination", url, "dicom://AE_TITLE@HOST:PORT")
        if artifact.media_type != DICOM:
            return
        peer = Peer(parts.hostname, parts.port, parts.username, self._calling_ae)
        (outcome,) = await StoreScu(peer).send([artifact.data])
        if outcome.state not in (StoreState.STORED, StoreState.WARNING):
            text = f"{parts.username} did not take {artifact.name}: {outcome.message or outcome.state}"
            raise DimseError(ErrorCode.SERVER_UNREACHABLE, text, is_transient=outcome.is_transient)
