"""Pulling by QIDO-RS and WADO-RS into a store: everything comes byte for byte, or is named with its cause."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi import Request, Response

from radserve.dicom_io.pull import PulledStudy, pull_study
from radserve.dicom_io.reserve import DiskReserve
from radserve.dicom_io.store import StudyStore
from radserve.dicom_io.study_query import StudyQuery
from radserve.dicom_io.web_peer.archive import WebArchive as Client
from radserve.dicom_io.web_peer.peer import WebPeer
from radserve.errors import ErrorCode, PeerError, RadserveError
from radserve.references import StudyRef
from tests.dicom_io.dimse.support import InlineWorkers, slice_bytes
from tests.support.dicomweb import WebArchive, header, multipart, served

SLICES = [slice_bytes(number) for number in range(1, 13)]
STUDY = str(header(SLICES[0]).StudyInstanceUID)
REPORT = slice_bytes(99, SOPClassUID="1.2.840.10008.5.1.4.1.1.88.33")


@pytest.fixture
def archive() -> WebArchive:
    held = WebArchive()
    held.add(*SLICES, REPORT)
    return held


@pytest.fixture
def client(archive: WebArchive, tmp_path: Path) -> Iterator[Client]:
    with served(archive.app()) as url:
        yield Client(WebPeer(f"{url}/dicom-web", response_seconds=20), DiskReserve(tmp_path, 0))


@asynccontextmanager
async def opened_store(folder: Path) -> AsyncIterator[StudyStore]:
    workers: Any = InlineWorkers()
    store = StudyStore(folder, workers)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


async def pulled(client: Client, folder: Path) -> tuple[PulledStudy, list[bytes]]:
    async with opened_store(folder) as store:
        result = await pull_study(client, StudyRef(STUDY), store)
    return result, sorted(path.read_bytes() for path in folder.rglob("*.dcm"))


async def test_a_study_comes_byte_for_byte_and_what_is_no_image_stays(client: Client, tmp_path: Path) -> None:
    result, found = await pulled(client, tmp_path / "store")
    assert found == sorted(SLICES)
    assert (result.stored, result.skipped, result.failures) == (12, 1, {})
    again, found = await pulled(client, tmp_path / "store")
    assert (again.stored, len(found)) == (12, 12)


async def test_studies_are_found_by_what_is_asked(client: Client) -> None:
    (found,) = await client.find_studies(StudyQuery(patient_id=str(header(SLICES[0]).PatientID)))
    assert found.study_instance_uid == STUDY
    assert not await client.find_studies(StudyQuery(patient_id="nobody"))


async def test_what_the_archive_lists_and_does_not_give_is_named(
    archive: WebArchive, client: Client, tmp_path: Path
) -> None:
    withheld = str(header(SLICES[3]).SOPInstanceUID)
    archive.withheld.add(withheld)
    result, found = await pulled(client, tmp_path / "store")
    assert len(found) == result.stored == 11
    assert list(result.failures) == [withheld]
    assert archive.requests[-1][1].endswith(f"/instances/{withheld}"), "it was asked for by itself as well"


async def test_what_the_store_refuses_is_named_with_its_cause_and_the_rest_comes(
    archive: WebArchive, client: Client, tmp_path: Path
) -> None:
    (conflict,) = archive.add(slice_bytes(2, PatientComments="other bytes"))
    async with opened_store(tmp_path / "store") as store, store.receive() as incoming:
        incoming.write(slice_bytes(2))
        await incoming.commit()
    result, found = await pulled(client, tmp_path / "store")
    assert len(found) == 12 and slice_bytes(2) in found
    assert {uid: error.code for uid, error in result.failures.items()} == {conflict: ErrorCode.UID_CONFLICT}


async def test_a_transfer_that_is_cut_off_goes_on_with_what_is_missing(
    archive: WebArchive, client: Client, tmp_path: Path
) -> None:
    cut: list[bytes] = [b"--b"]

    def answer(request: Request) -> Response | None:
        is_series = request.url.path.split("/")[-2] == "series"
        return multipart(SLICES[:5], end=cut.pop()) if is_series and cut else None

    archive.answer = answer
    result, found = await pulled(client, tmp_path / "store")
    assert found == sorted(SLICES) and not result.failures


async def test_a_full_disk_ends_the_pull_and_leaves_no_residue(archive: WebArchive, tmp_path: Path) -> None:
    with served(archive.app()) as url:
        full = Client(WebPeer(f"{url}/dicom-web"), DiskReserve(tmp_path, 1 << 60))
        with pytest.raises(RadserveError) as caught:
            await pulled(full, tmp_path / "store")
    assert caught.value.code is ErrorCode.STORAGE_FULL
    assert not list((tmp_path / "store").rglob("*.dcm"))


async def test_a_study_that_is_not_there_and_an_archive_that_is_away_are_errors(
    archive: WebArchive, client: Client, tmp_path: Path
) -> None:
    archive.held.clear()
    with pytest.raises(PeerError) as caught:
        await pulled(client, tmp_path / "store")
    assert caught.value.code is ErrorCode.STUDY_NOT_FOUND
    away = Client(WebPeer("http://127.0.0.1:9/dicom-web"))
    with pytest.raises(PeerError, match="cannot be reached"):
        await pulled(away, tmp_path / "store")


@pytest.mark.parametrize("uid", ["../../x", "", "1.2.x", "9" * 70])
async def test_a_listing_with_uids_that_are_none_is_passed_over(
    archive: WebArchive, client: Client, tmp_path: Path, uid: str
) -> None:
    def answer(request: Request) -> Response | None:
        if not request.url.path.endswith("/instances"):
            return None
        given = {"00080016": "1.2", "00080018": "1.3", "0020000E": uid}
        item = json.dumps({tag: {"Value": [value]} for tag, value in given.items()})
        return Response(f"[{item}]", media_type="application/dicom+json")

    archive.answer = answer
    with pytest.raises(PeerError, match="no images"):
        await pulled(client, tmp_path / "store")
    assert all("x" not in path.split("/")[2:] for _, path, _ in archive.requests)
