"""`radserve pull --server`: from a DICOMweb archive into a running server, through its API."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from radserve.server.cli import app
from radserve.v1 import study_pb2
from tests.dicom_io.dimse.support import slice_bytes
from tests.support.dicomweb import WebArchive, served
from tests.support.server import LiveServer


def test_a_study_is_pulled_into_a_running_server_and_what_it_refuses_is_named(
    server: LiveServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setenv("RADSERVE_DISK_RESERVE_MIB", "0")
    given = {"StudyInstanceUID": "1.2.77", "SeriesInstanceUID": "1.2.77.1"}
    slices = [slice_bytes(number, SOPInstanceUID=f"1.2.77.1.{number}", **given) for number in range(1, 4)]
    archive = WebArchive()
    archive.add(*slices)
    with served(archive.app()) as url:
        command = ["pull", "--from", f"{url}/dicom-web", "--study", "1.2.77", "--server", server.address]
        run = CliRunner().invoke(app, [*command, "--data-dir", str(tmp_path)])
        assert run.exit_code == 0, (run.output, run.exception)
        assert "3 images of 1 studies pulled, 0 failures" in run.output
        (series,) = server.studies.GetStudy(study_pb2.GetStudyRequest(study_instance_uid="1.2.77")).study.series
        assert len(series.instances) == 3
        assert not list(tmp_path.rglob("*.dcm"))

        archive.add(slice_bytes(1, SOPInstanceUID="1.2.77.1.1", PatientComments="other", **given))
        run = CliRunner().invoke(app, [*command, "--data-dir", str(tmp_path)])
    assert run.exit_code == 3, (run.output, run.exception)
    assert "refused UID_CONFLICT: 1.2.77.1.1" in run.output
