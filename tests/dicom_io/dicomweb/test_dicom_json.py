"""Headers in the DICOM JSON model, compared with pydicom's own writing of it."""

from __future__ import annotations

import base64
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom import Dataset, config, dcmread
from pydicom.datadict import tag_for_keyword
from pydicom.errors import InvalidDicomError
from pydicom.sequence import Sequence

from radserve.dicom_io.dicomweb.dicom_json import read_metadata
from radserve.dicom_io.dicomweb.json_model import element
from radserve.errors import DicomError
from tests.support.dicoms import cr, save

FILES = Path(pydicom.__file__).parent / "data" / "test_files"
URL = "http://server/instance"


def metadata(path: Path) -> dict[str, dict[str, object]]:
    (found,) = read_metadata([path], [URL])
    assert isinstance(found, bytes)
    return dict(json.loads(found))


def without_empty(value: Any) -> Any:
    """An empty sequence has no value (PS3.18 section F.2.5); pydicom writes one without items."""
    if isinstance(value, dict):
        return {name: without_empty(each) for name, each in value.items() if (name, each) != ("Value", [])}
    return [without_empty(each) for each in value] if isinstance(value, list) else value


def test_headers_are_what_pydicom_writes_but_for_bulk_data_and_the_character_set() -> None:
    compared = 0
    for path in sorted(FILES.glob("*.dcm")):
        (found,) = read_metadata([path], [URL])
        try:
            with warnings.catch_warnings(action="ignore"):
                expected = json.loads(dcmread(path, stop_before_pixels=True).to_json(bulk_data_threshold=1 << 30))
        except (ValueError, InvalidDicomError):  # pydicom cannot write it
            continue
        if isinstance(found, bytes):  # what is cut off is refused
            compared += 1
            assert_alike(json.loads(found), expected, path.name)
    assert compared > 70


def assert_alike(header: dict[str, Any], expected: dict[str, Any], name: str) -> None:
    for tag, value in expected.items():
        if tag == "00080005":
            assert header[tag] == {"vr": "CS", "Value": ["ISO_IR 192"]}
        elif "BulkDataURI" in header.get(tag, {}):
            assert header[tag] == {"vr": value["vr"], "BulkDataURI": f"{URL}/bulkdata/{tag}"}
            assert len(base64.b64decode(value["InlineBinary"])) > 1024
        elif int(tag, 16) & 0xFFFF and int(tag, 16) >> 16 >= 8 and "BulkDataURI" not in str(header[tag]):
            assert without_empty(header[tag]) == without_empty(value), (name, tag)


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        *(("ImageType", ["ORIGINAL", "", "AXIAL"]), ("StudyDescription", " led and trailed "), ("SeriesNumber", "+07")),
        *(("PixelSpacing", ["0.70", "1e-2"]), ("StudyDate", "2024.01.02"), ("BodyPartExamined", "ÄBDOMEN")),
        *(("RescaleSlope", "1."), ("StudyID", "a\\b"), ("AccessionNumber", " ")),
    ],
)
def test_odd_but_readable_values_are_what_pydicom_makes_of_them(keyword: str, value: Any, tmp_path: Path) -> None:
    with config.disable_value_validation():
        path = save(cr(np.zeros((4, 4), np.uint8), **{keyword: value}), tmp_path / "a.dcm")
    tag = f"{tag_for_keyword(keyword):08X}"
    expected = json.loads(dcmread(path, stop_before_pixels=True).to_json(bulk_data_threshold=1 << 30))[tag]
    assert without_empty(metadata(path)[tag]) == without_empty(expected)


def test_pixels_nested_bulk_data_and_odd_values_stay_apart(tmp_path: Path) -> None:
    item = Dataset()
    item.add_new(0x00420011, "OB", b"%PDF" + bytes(2000))
    image = cr(np.zeros((4, 4), np.uint8), PatientName="Müller^Jörg=ミュラー", IconImageSequence=Sequence([item]))
    image.add_new(0x00281055, "FD", float("nan"))  # what JSON has no number for
    image.add_new(0x00189313, "FD", [1.5, float("inf"), 2.0])
    found = metadata(save(image, tmp_path / "a.dcm"))
    assert found["7FE00010"] == {"vr": "OB", "BulkDataURI": f"{URL}/bulkdata/7FE00010"}
    assert found["00880200"]["Value"] == [
        {"00420011": {"vr": "OB", "BulkDataURI": f"{URL}/bulkdata/00880200/1/00420011"}}
    ]
    assert found["00100010"]["Value"] == [{"Alphabetic": "Müller^Jörg", "Ideographic": "ミュラー"}]
    assert found["00189313"]["Value"] == [1.5, None, 2.0]
    assert found["00083002"]["Value"] == ["1.2.840.10008.1.2.1"]


def test_an_element_that_cannot_be_read_costs_only_itself(tmp_path: Path) -> None:
    path = save(cr(np.zeros((4, 4), np.uint8), SeriesNumber=77), tmp_path / "a.dcm")
    path.write_bytes(path.read_bytes().replace(b"IS\x02\x0077", b"IS\x02\x00.."))
    found = metadata(path)
    assert "Value" not in found["00200011"]
    assert found["00100020"]["Value"] == ["P-0001"]


def test_deep_nesting_is_refused_as_a_value(tmp_path: Path) -> None:
    inner = Dataset()
    for _ in range(60):
        outer = Dataset()
        outer.ContentSequence = Sequence([inner])
        inner = outer
    image = cr(np.zeros((4, 4), np.uint8), ContentSequence=Sequence([inner]))
    (found,) = read_metadata([save(image, tmp_path / "a.dcm")], [URL])
    assert isinstance(found, DicomError)


def test_empty_values_are_left_out() -> None:
    assert element("LO", "", None) == {"vr": "LO"}
    assert element("PN", "A^B==C") == {"vr": "PN", "Value": [{"Alphabetic": "A^B", "Phonetic": "C"}]}
