"""A PACS as an archive to pull from (pull.Archive): C-FIND, and C-GET or C-MOVE."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence

from radserve.dicom_io.dimse import statuses
from radserve.dicom_io.dimse.events import Origin, ReceiveEvents, Refusal
from radserve.dicom_io.dimse.peer import DimseError
from radserve.dicom_io.dimse.query_scu import QueryScu, Retrieved
from radserve.dicom_io.dimse.receiver import InstanceReceiver
from radserve.dicom_io.pull import InstanceSink, Taken
from radserve.dicom_io.reserve import DiskReserve
from radserve.dicom_io.store import StoredInstance
from radserve.dicom_io.study_query import FoundStudy, StudyQuery
from radserve.errors import ErrorCode, PeerError
from radserve.references import InstanceRef, StudyRef


class DimseArchive:
    """Asks one PACS. `ae_title` is its own, for the records; `reserve`: what has to stay free on the disk."""

    def __init__(self, query: QueryScu, ae_title: str, reserve: DiskReserve | None = None) -> None:
        self._query = query
        self._ae_title = ae_title
        self._reserve = reserve

    async def find_studies(self, query: StudyQuery) -> Sequence[FoundStudy]:
        return await self._query.find_studies(query)

    async def list_instances(self, study: StudyRef) -> Sequence[InstanceRef]:
        uid = study.study_instance_uid
        series = await self._query.find_series(uid)
        return [one for each in series for one in await self._query.find_instances(uid, each.series_instance_uid)]

    async def retrieve(self, wanted: Sequence[InstanceRef], sink: InstanceSink) -> AsyncGenerator[Taken, None]:
        """C-GET of each series that has one of the wanted."""
        queue: asyncio.Queue[Taken | None] = asyncio.Queue()
        failed: PeerError | None = None

        async def stored(instance: StoredInstance, origin: Origin) -> None:
            queue.put_nowait(Taken(instance.header.instance.sop_instance_uid))

        async def refused(refusal: Refusal, origin: Origin) -> None:
            queue.put_nowait(Taken(refusal.sop_instance_uid, refusal.error))

        events = ReceiveEvents(on_stored=stored, on_refused=refused)
        receiver = InstanceReceiver(sink, self._reserve, events)
        for study, series in sorted({(each.study_instance_uid, each.series_instance_uid) for each in wanted}):
            classes = {each.sop_class_uid for each in wanted if each.series_instance_uid == series}
            getting = asyncio.create_task(
                self._query.get(receiver, Origin(self._ae_title, "pull"), study, series, classes)
            )
            getting.add_done_callback(lambda _: queue.put_nowait(None))
            try:
                while (taken := await queue.get()) is not None:
                    yield taken
                failed = _failure(await getting, self._ae_title) or failed
            except PeerError as error:
                failed = error
            finally:
                getting.cancel()
                await asyncio.gather(getting, return_exceptions=True)
        if failed:
            raise failed


class MovingArchive(DimseArchive):
    """The same, with C-MOVE to `destination_ae`: a storage SCP that the PACS knows takes what comes.

    What is taken is what the PACS says: the instances that it does not name as failed, where it counts no failure.
    """

    def __init__(self, query: QueryScu, ae_title: str, destination_ae: str) -> None:
        super().__init__(query, ae_title)
        self._destination_ae = destination_ae

    async def retrieve(self, wanted: Sequence[InstanceRef], sink: InstanceSink) -> AsyncGenerator[Taken, None]:
        failed: PeerError | None = None
        for study, series in sorted({(each.study_instance_uid, each.series_instance_uid) for each in wanted}):
            try:
                found = await self._query.move(self._destination_ae, study, series)
            except PeerError as error:
                failed = error
                continue
            failed = _failure(found, self._ae_title) or failed
            ended = statuses.is_success(found.status) or statuses.is_warning(found.status)
            if not ended or found.failed > len(found.failed_uids):
                continue  # it is not said which ones failed: none is taken as stored
            for each in wanted:
                if each.series_instance_uid == series and each.sop_instance_uid not in found.failed_uids:
                    yield Taken(each.sop_instance_uid)
        if failed:
            raise failed


def _failure(found: Retrieved, ae_title: str) -> DimseError | None:
    if found.is_complete:
        return None
    text = f"{ae_title} ended the retrieval with the status {found.status:04X}, {found.failed} failed"
    return DimseError(ErrorCode.SERVER_UNREACHABLE, text)
