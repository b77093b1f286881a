"""`radserve pull` from a DICOMweb archive into a data folder; a real PACS is in tests/integration."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from radserve.work import Signal
from tests.dicom_io.dimse.support import slice_bytes
from tests.support.dicomweb import WebArchive, header, served
from tests.support.records import call, on_site

SLICES = [slice_bytes(number) for number in range(1, 4)]
STUDY = str(header(SLICES[0]).StudyInstanceUID)


@pytest.fixture
def archive() -> WebArchive:
    held = WebArchive()
    held.add(*SLICES)
    return held


@pytest.fixture
def url(archive: WebArchive, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("RADSERVE_DISK_RESERVE_MIB", "0")
    monkeypatch.setenv("COLUMNS", "400")
    with served(archive.app()) as base:
        monkeypatch.setenv("RADSERVE_WEB_AUTHORIZATION", json.dumps({"127.0.0.1": "Bearer sesame"}))
        yield f"dicomweb+{base}/dicom-web"


def test_a_study_is_pulled_into_the_data_folder_and_known_to_be_complete(
    archive: WebArchive, url: str, tmp_path: Path
) -> None:
    printed = call("pull", "--from", url, "--study", STUDY, "--data-dir", tmp_path)
    assert "3 images of 1 studies pulled, 0 failures" in printed
    assert sorted(path.read_bytes() for path in tmp_path.rglob("*.dcm")) == sorted(SLICES)
    assert {headers["authorization"] for _, _, headers in archive.requests} == {"Bearer sesame"}

    async def look(records: object, store: object) -> list[Signal]:
        return [study.signal for study in await records.ledger.open_studies()]  # type: ignore[attr-defined]

    assert on_site(tmp_path, look) == [Signal.COMPLETE]


def test_studies_are_pulled_by_query(url: str, tmp_path: Path) -> None:
    patient = str(header(SLICES[0]).PatientID)
    assert "3 images" in call("pull", "--from", url, "--patient-id", patient, "--data-dir", tmp_path)
    assert "0 images of 0 studies" in call("pull", "--from", url, "--patient-id", "nobody", "--data-dir", tmp_path)


def test_what_does_not_come_is_named_and_the_exit_code_says_so(archive: WebArchive, url: str, tmp_path: Path) -> None:
    withheld = str(header(SLICES[1]).SOPInstanceUID)
    archive.withheld.add(withheld)
    printed = call("pull", "--from", url, "--study", STUDY, "--data-dir", tmp_path, code=1)
    assert f"refused SERVER_UNREACHABLE: {withheld}" in printed
    archive.held[withheld] = slice_bytes(2, Rows=0)  # it comes now, and cannot be used
    archive.withheld.clear()
    printed = call("pull", "--from", url, "--study", STUDY, "--data-dir", tmp_path, code=3)
    assert f"refused INVALID_HEADER: {withheld}" in printed and "2 images" in printed


def test_a_whole_archive_is_not_pulled_by_mistake(url: str, tmp_path: Path) -> None:
    assert "expected --study" in call("pull", "--from", url, "--data-dir", tmp_path, code=2)
