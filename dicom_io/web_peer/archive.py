"""A DICOMweb service as an archive to pull from (pull.Archive): QIDO-RS and WADO-RS."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from itertools import groupby

from radserve.dicom_io.dicomweb.media import DICOM
from radserve.dicom_io.file_meta import read_file_meta
from radserve.dicom_io.pull import InstanceSink, Taken
from radserve.dicom_io.reserve import DiskReserve
from radserve.dicom_io.study_query import FoundStudy, StudyQuery
from radserve.dicom_io.web_peer import qido
from radserve.dicom_io.web_peer.multipart import IncomingParts
from radserve.dicom_io.web_peer.peer import WebPeer, WebSession
from radserve.errors import PeerError, RadserveError
from radserve.references import InstanceRef, StudyRef

ANY_SYNTAX = f'multipart/related; type="{DICOM}"; transfer-syntax=*'  # as the archive has it: nothing is transcoded
HEAD_BYTES = 4096
SINGLY = 8  # where no more than these are wanted of a longer series, each is asked for by itself


class WebArchive:
    """Asks one service. `reserve`: what has to stay free on the disk."""

    def __init__(self, peer: WebPeer, reserve: DiskReserve | None = None) -> None:
        self._peer = peer
        self._reserve = reserve

    async def find_studies(self, query: StudyQuery) -> Sequence[FoundStudy]:
        async with self._peer.connected() as session:
            return await qido.find_studies(session, query)

    async def list_instances(self, study: StudyRef) -> Sequence[InstanceRef]:
        async with self._peer.connected() as session:
            return await qido.find_instances(session, study.study_instance_uid)

    async def retrieve(self, wanted: Sequence[InstanceRef], sink: InstanceSink) -> AsyncGenerator[Taken, None]:
        in_order = sorted(wanted, key=lambda each: (each.series_instance_uid, each.sop_instance_uid))
        series = (list(found) for _, found in groupby(in_order, key=lambda each: each.series_instance_uid))
        failed: PeerError | None = None
        async with self._peer.connected() as session:
            for path in (path for each in series for path in _paths(each)):
                try:
                    async for taken in self._retrieve(session, path, sink):
                        yield taken
                except PeerError as error:
                    failed = error
        if failed:
            raise failed

    async def _retrieve(self, session: WebSession, path: str, sink: InstanceSink) -> AsyncGenerator[Taken, None]:
        async with session.stream("GET", path, accept=ANY_SYNTAX) as answer:
            session.check(answer)
            parts = IncomingParts(answer.headers.get("content-type", ""), answer.aiter_bytes(), self._peer.name)
            while await parts.next_part() is not None:
                yield await self._take(parts, sink)

    async def _take(self, parts: IncomingParts, sink: InstanceSink) -> Taken:
        head, uid = b"", ""
        try:
            if self._reserve:
                self._reserve.check()
            async with sink.receive() as incoming:
                async for piece in parts.body():
                    if len(head) < HEAD_BYTES:
                        head += piece[:HEAD_BYTES]
                    incoming.write(piece)
                stored = await incoming.commit()
                return Taken(stored.header.instance.sop_instance_uid)
        except PeerError:
            raise
        except RadserveError as error:
            with suppress(RadserveError):
                uid = read_file_meta(head).sop_instance_uid
            return Taken(uid, error)


def _paths(series: Sequence[InstanceRef]) -> list[str]:
    """Where the wanted instances of one series are."""
    first = series[0]
    path = f"studies/{first.study_instance_uid}/series/{first.series_instance_uid}"
    return [f"{path}/instances/{each.sop_instance_uid}" for each in series] if len(series) <= SINGLY else [path]
