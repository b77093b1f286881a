"""Orthanc as a DICOMweb client of the HTTP port: it stores, finds, retrieves, and sends nothing twice."""

from __future__ import annotations

import io
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import JPEGLSLossless

from tests.support.dicoms import cr, ct_series, part10
from tests.support.orthanc import Orthanc, running_orthanc
from tests.support.web import LiveWeb, live_web

WEB_PLUGIN = "/usr/share/orthanc/plugins/libOrthancDicomWeb.so"
VOLUME = np.random.default_rng(2).integers(-500, 500, (6, 33, 41), dtype=np.int16)


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Orthanc, LiveWeb]]:
    folder = tmp_path_factory.mktemp("dicomweb")
    with live_web(folder / "data") as web:
        servers = {"radserve": {"Url": f"{web.root}/", "HasDelete": False}}
        settings = {"Enable": True, "Root": "/dicom-web/", "Servers": servers}
        with running_orthanc(folder / "orthanc", Plugins=[WEB_PLUGIN], DicomWeb=settings) as orthanc:
            yield orthanc, web


def upload(orthanc: Orthanc, *instances: bytes) -> list[str]:
    return [str(_request(orthanc, "POST", "/instances", data)["ID"]) for data in instances]


def _request(orthanc: Orthanc, method: str, path: str, data: bytes = b"") -> Any:
    url = f"http://127.0.0.1:{orthanc.http_port}{path}"
    with urllib.request.urlopen(urllib.request.Request(url, data=data or None, method=method), timeout=60) as answer:
        return json.loads(answer.read())


def held(orthanc: Orthanc, study: str) -> list[Dataset]:
    """The instances of a study in Orthanc, by instance number."""
    (found,) = orthanc.post("/tools/find", {"Level": "Study", "Query": {"StudyInstanceUID": study}})
    files = []
    for each in orthanc.get(f"/studies/{found}/instances"):
        with urllib.request.urlopen(f"http://127.0.0.1:{orthanc.http_port}/instances/{each['ID']}/file") as answer:
            files.append(dcmread(io.BytesIO(answer.read())))
    return sorted(files, key=lambda ds: int(ds.InstanceNumber))


def stow(orthanc: Orthanc, resources: list[str]) -> Any:
    return orthanc.post("/dicom-web/servers/radserve/stow", {"Resources": resources, "Synchronous": True})


def test_orthanc_stores_finds_and_retrieves(sides: tuple[Orthanc, LiveWeb]) -> None:
    orthanc, web = sides
    slices = ct_series(VOLUME, study="from-orthanc", PatientName="Müller^Jörg", StudyDescription="CT of Orthanc")
    study = str(slices[0].StudyInstanceUID)
    ids = upload(orthanc, *(part10(each, JPEGLSLossless) for each in slices))
    assert stow(orthanc, ids)["InstancesCount"] == "6"
    assert sorted(path.stem for path in web.files()) == sorted(str(each.SOPInstanceUID) for each in slices)
    assert {dcmread(path).file_meta.TransferSyntaxUID for path in web.files()} == {JPEGLSLossless}
    stow(orthanc, ids)
    assert len(web.files()) == 6

    query = {"Uri": "/studies", "Arguments": {"PatientName": "m*", "ModalitiesInStudy": "CT"}}
    (found,) = orthanc.post("/dicom-web/servers/radserve/qido", query)
    assert found["0020000D"]["Value"] == study
    assert found["00081030"]["Value"] == "CT of Orthanc"
    (found,) = orthanc.post("/dicom-web/servers/radserve/get", query)  # as it came
    assert found["00201208"]["Value"] == [6]

    _request(orthanc, "DELETE", f"/studies/{orthanc.get('/studies')[0]}")
    assert orthanc.get("/studies") == []
    wanted = {"Resources": [{"Study": study}], "Synchronous": True}
    retrieved = orthanc.post("/dicom-web/servers/radserve/retrieve", wanted)
    assert int(retrieved["ReceivedInstancesCount"]) == 6
    for ds, values in zip(held(orthanc, study), VOLUME, strict=True):
        assert ds.file_meta.TransferSyntaxUID == JPEGLSLossless  # Orthanc asks for what is stored
        assert (ds.pixel_array == values).all()
        assert str(ds.PatientName) == "Müller^Jörg"


def test_orthanc_learns_what_is_refused(sides: tuple[Orthanc, LiveWeb]) -> None:
    orthanc, web = sides
    first = cr(np.zeros((8, 8), np.uint8), study="conflict", instance="1", PatientID="A")
    other = cr(np.ones((8, 8), np.uint8), study="conflict", instance="1", PatientID="B")
    assert web.store_instances(part10(first)).status_code == 200
    with pytest.raises(urllib.error.HTTPError):
        stow(orthanc, upload(orthanc, part10(other)))
    (kept,) = [path for path in web.files() if path.stem == str(first.SOPInstanceUID)]
    assert dcmread(kept).PatientID == "A"


def test_orthanc_reads_metadata_and_frames_through_its_proxy(sides: tuple[Orthanc, LiveWeb]) -> None:
    orthanc, web = sides
    image = cr(np.arange(48, dtype=np.uint8).reshape(6, 8), study="through-orthanc")
    assert web.store_instances(part10(image)).status_code == 200
    uri = f"/studies/{image.StudyInstanceUID}/series/{image.SeriesInstanceUID}/instances/{image.SOPInstanceUID}"
    accept = {"HttpHeaders": {"Accept": "application/dicom+json"}}
    (header,) = orthanc.post("/dicom-web/servers/radserve/get", {"Uri": f"{uri}/metadata", **accept})
    assert header["00280010"]["Value"] == [6]
    assert header["7FE00010"]["BulkDataURI"] == f"{web.root}{uri}/bulkdata/7FE00010"
