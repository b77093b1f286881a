"""Modality -> Orthanc -> autoroute -> radserve -> results back in Orthanc, by C-STORE and by STOW-RS; and pulling."""

from __future__ import annotations

import json
import sqlite3
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicomweb_client import DICOMwebClient
from pydicom import Dataset
from typer.testing import CliRunner

from radserve.server.cli import app
from tests.dicom_io.dimse.support import dcmtk, slice_files
from tests.support.dicoms import cr, part10
from tests.support.dicomweb import header, served
from tests.support.orthanc import Orthanc, running_orthanc, until
from tests.support.server import live_server
from tests.support.worklist import OriginServer

RULES = """
[[rule]]
name = "reports by C-STORE"
pack = "cxr-bus-mini"
outputs = ["sr"]
destinations = ["archive"]
[[rule]]
name = "pictures by STOW-RS"
pack = "cxr-bus-mini"
outputs = ["sc"]
destinations = ["web"]
"""
CR, SR, PICTURE = "CR", "SR", "OT"


def radiograph(folder: Path, study: str) -> tuple[str, Path]:
    """The Study Instance UID and the file."""
    pixels = np.random.default_rng(1).integers(0, 255, (40, 40), dtype=np.uint8)
    given = {"PatientAge": "003Y", "PatientID": f"P-{study}", "AccessionNumber": f"A-{study}"}
    data = part10(cr(pixels, study=study, instance=study, **given))
    path = folder / f"{study}.dcm"
    path.write_bytes(data)
    return str(header(data).StudyInstanceUID), path


def send(orthanc: Orthanc, *paths: Path) -> None:
    """What the modality does."""
    sent = dcmtk("storescu", "-aec", "PACS", "-aet", "MODALITY", "127.0.0.1", str(orthanc.dicom_port), *paths)
    assert sent.returncode == 0, sent.stderr


def value(item: dict[str, Any], tag: str) -> Any:
    return item[tag]["Value"][0]


def rows(folder: Path, query: str) -> list[tuple[Any, ...]]:
    with sqlite3.connect(folder / "index.db") as database:
        return database.execute(query).fetchall()


@pytest.mark.slow
def test_studies_find_their_way_through_an_outage_and_results_come_back_once(tmp_path: Path) -> None:
    first, first_file = radiograph(tmp_path, "one")
    second, second_file = radiograph(tmp_path, "two")
    rules = tmp_path / "rules.toml"
    rules.write_text(RULES)
    worklist = OriginServer()
    with running_orthanc(tmp_path / "orthanc") as orthanc, served(worklist.app()) as worklist_url:
        archive = DICOMwebClient(orthanc.web_url)

        def has_results(study: str) -> bool:
            return len(archive.search_for_series(study)) == 3

        send(orthanc, first_file)
        until(lambda: orthanc.sendings("Failure", "Retry"))  # radserve is down
        given = {
            "dimse_port": orthanc.our_port,
            "disk_reserve_mib": 0,
            "workflow": True,
            "rules_file": rules,
            "destinations": {"archive": orthanc.dicom_url, "web": f"dicomweb+{orthanc.web_url}"},
            "study_quiet_s": 1.0,
            "storage_commitment": "required",
            "ups_url": f"{worklist_url}/ups",
            "ups_archive_url": orthanc.web_url,
            "ups_poll_s": 0.5,
        }
        data = tmp_path / "data"
        with live_server(data, **given):
            until(lambda: has_results(first))
            send(orthanc, second_file)
            until(lambda: has_results(second))
            until(lambda: {row[0] for row in rows(data, "SELECT state FROM studies")} == {"delivered"})
            check_no_loop(orthanc, [first, second])
            check_returned_picture_is_not_analysed(orthanc, first, lambda query: rows(data, query))
            check_workitem(worklist, first)

        for study, name in ((first, "one"), (second, "two")):
            check_results(archive, study, f"P-{name}", f"A-{name}")
        assert len(rows(data, "SELECT * FROM results")) == 2
        assert not rows(data, "SELECT * FROM quarantine")
        delivered = rows(data, "SELECT destination, state FROM deliveries ORDER BY destination")
        assert delivered == [("archive", "delivered")] * 2 + [("web", "delivered")] * 2


def check_results(archive: DICOMwebClient, study: str, patient: str, accession: str) -> None:
    """The results are objects of the source study, in series of their own."""
    series = {value(each, "00080060"): each for each in archive.search_for_series(study)}
    assert series.keys() == {CR, SR, PICTURE}
    (found,) = archive.search_for_studies(search_filters={"StudyInstanceUID": study})
    assert (value(found, "00100020"), value(found, "00080050")) == (patient, accession)
    for each in series.values():
        (instance,) = archive.retrieve_series_metadata(study, value(each, "0020000E"))
        assert (value(instance, "00100020"), value(instance, "00080050")) == (patient, accession)


def check_no_loop(orthanc: Orthanc, studies: list[str]) -> None:
    """The studies become stable again with their results, and nothing is sent because of that."""

    def last(kind: str) -> int:
        return max(each["Seq"] for each in orthanc.get("/changes?limit=1000")["Changes"] if each["ChangeType"] == kind)

    until(lambda: last("StableStudy") > last("NewInstance"))
    until(lambda: orthanc.log.read_text().count("has arrived") == len(studies))
    assert len(orthanc.sendings("Success", "Running", "Pending")) == len(studies)


def check_returned_picture_is_not_analysed(orthanc: Orthanc, study: str, look: Callable[[str], Any]) -> None:
    """Where someone sends a result of ours back, it is stored, and that is all."""
    (picture,) = orthanc.post(
        "/tools/find", {"Level": "Series", "Query": {"StudyInstanceUID": study, "Modality": PICTURE}}
    )
    sent = orthanc.post("/modalities/radserve/store", {"Resources": [picture], "Synchronous": True})
    assert sent["FailedInstancesCount"] == 0
    until(lambda: look("SELECT count(*) FROM revisions WHERE state != 'complete'") == [(3,)])


def check_workitem(worklist: OriginServer, study: str) -> None:
    """A workitem for a study that was analysed already is completed with the results that there are."""
    step = worklist.schedule("1.2.3", (study, ""))
    until(lambda: step.state == "COMPLETED", lambda: step.state != "CANCELED")
    (performed,) = Dataset.from_json(step.data).UnifiedProcedureStepPerformedProcedureSequence
    report, picture = sorted(performed.OutputInformationSequence, key=lambda each: "WADORSRetrievalSequence" in each)
    assert report.DICOMRetrievalSequence[0].RetrieveAETitle == "PACS"
    url = picture.WADORSRetrievalSequence[0].RetrieveURL
    with urllib.request.urlopen(url, timeout=60) as answer:
        assert picture.ReferencedSOPSequence[0].ReferencedSOPInstanceUID.encode() in answer.read()


@pytest.mark.slow
def test_a_study_is_pulled_from_orthanc_by_wado_by_c_get_and_by_c_move(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = slice_files(tmp_path / "out", 12)
    sent = sorted(path.read_bytes()[-960:] for path in files)  # the pixels: Orthanc writes the file meta anew
    study = str(header(files[0].read_bytes()).StudyInstanceUID)
    with running_orthanc(tmp_path / "orthanc", Plugins=["/usr/share/orthanc/plugins/libOrthancDicomWeb.so"]) as orthanc:
        send(orthanc, *files)
        monkeypatch.setenv("RADSERVE_DISK_RESERVE_MIB", "0")
        monkeypatch.setenv("RADSERVE_DIMSE_PORT", str(orthanc.our_port))
        monkeypatch.setenv("COLUMNS", "300")
        ways = (
            ("wado", orthanc.web_url, ["--study", study]),
            ("get", orthanc.dicom_url, ["--patient-id", "P-0001", "--modality", "CT"]),
            ("move", orthanc.dicom_url, ["--study", study, "--move-to", "RADSERVE"]),
        )
        for name, url, what in ways:
            folder = tmp_path / name
            run = CliRunner().invoke(app, ["pull", "--from", url, *what, "--data-dir", str(folder)])
            assert run.exit_code == 0, (name, run.output, run.exception)
            assert "12 images of 1 studies pulled, 0 failures" in run.output, name
            assert sorted(path.read_bytes()[-960:] for path in (folder / "studies").rglob("*.dcm")) == sent, name


def test_the_example_is_what_the_guide_shows() -> None:
    guide = (Path(__file__).parents[2] / "docs" / "orthanc.md").read_text()
    shown = json.loads(guide.split("```json\n")[1].split("```")[0])
    example = json.loads((Path(__file__).parents[2] / "examples" / "orthanc" / "orthanc.json").read_text())
    assert shown == example
