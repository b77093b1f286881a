"""Starts the performer of workitems, where the settings name an origin server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from radserve._checks import invalid
from radserve.dicom_io.reserve import DiskReserve
from radserve.dicom_io.store import StudyStore
from radserve.dicom_io.web_peer.archive import WebArchive
from radserve.dicom_io.web_peer.event_channel import open_channel
from radserve.dicom_io.web_peer.ups import Worklist
from radserve.pipelines.timing import SystemClock
from radserve.server.peers import SitePeers
from radserve.server.records import Records
from radserve.server.settings import MEBIBYTE, Settings
from radserve.server.ups_claims import ClaimFolder
from radserve.server.ups_outputs import Outputs
from radserve.server.ups_performer import PerformerOptions, UpsPerformer


@asynccontextmanager
async def performing(settings: Settings, store: StudyStore, records: Records) -> AsyncIterator[UpsPerformer | None]:
    """Perform workitems while the block runs. Raises RadserveError INVALID_ARGUMENT for settings that do not fit."""
    if not settings.ups_url:
        yield None
        return
    if not settings.workflow:
        raise invalid("ups_url", settings.ups_url, "RADSERVE_WORKFLOW=true with it: workitems are done by the workflow")
    peers = SitePeers(settings)
    reserve = DiskReserve(settings.data_dir, settings.disk_reserve_mib * MEBIBYTE)
    origin = peers.web(settings.ups_url)
    performer = UpsPerformer(
        Worklist(origin, settings.ae_title),
        WebArchive(peers.web(settings.ups_archive_url or settings.ups_url), reserve),
        store,
        records.ledger,
        records.progress,
        Outputs(records.results, settings.destinations),
        ClaimFolder(settings.data_dir / "ups"),
        SystemClock(),
        PerformerOptions(settings.ups_query, poll_s=settings.ups_poll_s),
    )
    channel = partial(open_channel, origin, settings.ae_title)
    tasks = [asyncio.create_task(performer.run()), asyncio.create_task(performer.listen(channel))]
    try:
        yield performer
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
