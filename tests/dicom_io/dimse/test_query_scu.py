"""QueryScu against an archive made of pynetdicom: queries, C-MOVE to our own SCP, C-GET over one association."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import JPEGLSLossless
from pynetdicom import AE, evt
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    CTImageStorage,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
)

from radserve.dicom_io.dimse.events import Origin
from radserve.dicom_io.dimse.peer import DimseError, Peer
from radserve.dicom_io.dimse.query_scu import FoundSeries, FoundStudy, QueryScu, StudyQuery
from radserve.dicom_io.dimse.receiver import InstanceReceiver
from radserve.errors import ErrorCode
from tests.dicom_io.dimse.support import EXPLICIT, Running, running_scp, slice_bytes

ORIGIN = Origin("PACS", "query-1")
SLICES = [dcmread(io.BytesIO(slice_bytes(number))) for number in range(5)]
STUDY = str(SLICES[0].StudyInstanceUID)


class Archive:
    """What pynetdicom is bound to; `asked` are the identifiers it was given."""

    def __init__(
        self,
        destination: tuple[str, int] | None = None,
        *,
        find_status: int = 0,
        matches: int = 2,
        takes_roles: bool = True,
    ) -> None:
        self.asked: list[Dataset] = []
        self.roles: list[dict[str, tuple[bool, bool]]] = []  # of each association: what was asked for
        self.takes_roles = takes_roles
        self.destination = destination
        self.find_status = find_status
        self.matches = matches

    def find(self, event: Any) -> Iterator[tuple[int, Dataset | None]]:
        self.asked.append(event.identifier)
        for number in range(self.matches):
            found = Dataset()
            found.QueryRetrieveLevel = event.identifier.QueryRetrieveLevel
            found.StudyInstanceUID = f"1.2.{number}"
            found.SeriesInstanceUID, found.SeriesNumber = f"1.2.{number}.1", number
            found.Modality, found.BodyPartExamined, found.SeriesDescription = "CT", "CHEST", "thin"
            found.PatientID, found.AccessionNumber = "P-1", "A-1"
            found.StudyDate, found.StudyTime, found.StudyDescription = "20260102", "101112", "Thorax"
            found.ModalitiesInStudy = ["CT", "SR"]
            found.NumberOfStudyRelatedInstances, found.NumberOfSeriesRelatedInstances = "12", "6"
            yield 0xFF00, found
        if self.find_status:
            yield self.find_status, None

    def move(self, event: Any) -> Iterator[Any]:
        self.asked.append(event.identifier)
        if event.move_destination != "RADSERVE" or self.destination is None:
            yield None, None
            return
        yield *self.destination, {"ae_title": "RADSERVE"}
        yield len(SLICES)
        for each in SLICES:
            yield 0xFF00, each

    def get(self, event: Any) -> Iterator[Any]:
        self.asked.append(event.identifier)
        yield len(SLICES)
        for each in SLICES:
            yield 0xFF00, each

    def note_roles(self, event: Any) -> None:
        items = event.assoc.requestor.role_selection
        self.roles.append({str(uid): (bool(item.scu_role), bool(item.scp_role)) for uid, item in items.items()})

    @contextmanager
    def running(self) -> Iterator[Peer]:
        ae = AE(ae_title="PACS")
        for uid in (
            StudyRootQueryRetrieveInformationModelFind,
            StudyRootQueryRetrieveInformationModelMove,
            StudyRootQueryRetrieveInformationModelGet,
        ):
            ae.add_supported_context(uid)
        roles = {"scu_role": True, "scp_role": True} if self.takes_roles else {}
        ae.add_supported_context(CTImageStorage, [EXPLICIT, JPEGLSLossless], **roles)
        ae.add_requested_context(CTImageStorage, [EXPLICIT])
        handlers = [
            *((evt.EVT_C_FIND, self.find), (evt.EVT_C_MOVE, self.move), (evt.EVT_C_GET, self.get)),
            (evt.EVT_REQUESTED, self.note_roles),
        ]
        server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
        assert server is not None
        try:
            yield Peer("127.0.0.1", server.server_address[1], "PACS", response_seconds=60)
        finally:
            server.shutdown()


def receiver_of(running: Running) -> InstanceReceiver:
    return InstanceReceiver(running.store, None, running.seen.events)


async def test_studies_are_found_by_their_keys() -> None:
    archive = Archive()
    with archive.running() as peer:
        query = StudyQuery(patient_id="P-*", study_date="20260101-20260131", modality="CT")
        found = await QueryScu(peer).find_studies(query)
    expected = FoundStudy("1.2.0", "P-1", "A-1", "20260102", "101112", ("CT", "SR"), "Thorax", 12)
    assert found[0] == expected and len(found) == 2
    (asked,) = archive.asked
    assert (asked.QueryRetrieveLevel, asked.PatientID, asked.StudyDate) == ("STUDY", "P-*", "20260101-20260131")
    assert asked.ModalitiesInStudy == "CT" and asked.AccessionNumber == ""


async def test_the_series_of_a_study_are_found() -> None:
    archive = Archive(matches=1)
    with archive.running() as peer:
        found = await QueryScu(peer).find_series("1.2.0", modality="CT")
    assert found == [FoundSeries("1.2.0", "1.2.0.1", "CT", "0", "thin", "CHEST", 6)]
    assert (archive.asked[0].QueryRetrieveLevel, archive.asked[0].StudyInstanceUID) == ("SERIES", "1.2.0")


async def test_more_matches_than_wanted_are_an_error_and_not_a_part() -> None:
    with Archive(matches=4).running() as peer, pytest.raises(DimseError, match="more than 3 matches") as caught:
        await QueryScu(peer, max_matches=3).find_studies(StudyQuery())
    assert caught.value.code is ErrorCode.REQUEST_TOO_LARGE


async def test_a_failed_query_is_an_error_with_its_status() -> None:
    with Archive(find_status=0xA700).running() as peer, pytest.raises(DimseError, match="A700"):
        await QueryScu(peer).find_studies(StudyQuery())


async def test_c_move_brings_a_study_to_our_scp(tmp_path: Path) -> None:
    async with running_scp(tmp_path) as running:
        archive = Archive(("127.0.0.1", running.port))
        with archive.running() as peer:
            found = await QueryScu(peer).move("RADSERVE", STUDY)
        assert found.is_complete and (found.completed, found.failed) == (5, 0)
        assert len(running.instances()) == 5
        assert archive.asked[0].QueryRetrieveLevel == "STUDY"


async def test_c_move_to_a_destination_that_the_archive_does_not_know_is_a_status() -> None:
    with Archive().running() as peer:
        found = await QueryScu(peer).move("RADSERVE", STUDY)
    assert not found.is_complete and found.status == 0xA801


async def test_c_get_stores_what_comes_and_answers_each_instance(tmp_path: Path) -> None:
    async with running_scp(tmp_path) as running:
        archive = Archive()
        with archive.running() as peer:
            series = str(SLICES[0].SeriesInstanceUID)
            found = await QueryScu(peer).get(receiver_of(running), ORIGIN, STUDY, series)
        assert found.is_complete and found.completed == 5
        assert len(running.instances()) == 5
        assert {origin for _, origin in running.seen.stored} == {ORIGIN}
        assert archive.asked[0].QueryRetrieveLevel == "SERIES"
        for path in running.instances():
            assert dcmread(path) in SLICES


async def test_c_get_asks_to_be_scp_of_storage_and_of_nothing_else(tmp_path: Path) -> None:
    async with running_scp(tmp_path) as running:
        archive = Archive()
        with archive.running() as peer:
            assert (await QueryScu(peer).get(receiver_of(running), ORIGIN, STUDY)).is_complete
    (roles,) = archive.roles
    assert roles[str(CTImageStorage)] == (False, True)
    assert set(roles.values()) == {(False, True)}
    assert str(StudyRootQueryRetrieveInformationModelGet) not in roles


async def test_c_get_from_an_archive_that_takes_no_roles_is_incomplete_and_stores_nothing(tmp_path: Path) -> None:
    async with running_scp(tmp_path) as running:
        with Archive(takes_roles=False).running() as peer:
            found = await QueryScu(peer).get(receiver_of(running), ORIGIN, STUDY)
        assert not found.is_complete and found.completed == 0
        assert running.files() == []


async def test_c_get_tells_the_archive_what_we_refused(tmp_path: Path) -> None:
    async with running_scp(tmp_path) as running:
        async with running.store.receive() as incoming:  # another instance under a UID of the study
            incoming.write(slice_bytes(1, PatientID="P-0002"))
            await incoming.commit()
        with Archive().running() as peer:
            found = await QueryScu(peer).get(receiver_of(running), ORIGIN, STUDY)
        assert not found.is_complete
        assert (found.completed, found.failed) == (4, 1)
        assert len(running.seen.refused) == 1


async def test_an_archive_without_the_service_says_so() -> None:
    ae = AE(ae_title="PACS")
    ae.add_supported_context(CTImageStorage)
    server = ae.start_server(("127.0.0.1", 0), block=False)
    assert server is not None
    try:
        with pytest.raises(DimseError) as caught:
            await QueryScu(Peer("127.0.0.1", server.server_address[1], "PACS")).find_studies(StudyQuery())
        assert caught.value.code is ErrorCode.UNSUPPORTED_SOP_CLASS and not caught.value.is_transient
    finally:
        server.shutdown()
