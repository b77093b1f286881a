"""Headers in the DICOM JSON model, compared with pydicom's own writing of it."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_file
from pydicom.sequence import Sequence

from radserve.dicom_io.dicomweb.dicom_json import element, read_metadata
from radserve.errors import DicomError
from tests.support.dicoms import cr, save

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


@pytest.mark.parametrize(
    "name", ["CT_small.dcm", "MR_small.dcm", "RG1_UNCR.dcm", "eCT_Supplemental.dcm", "test-SR.dcm"]
)
def test_a_header_is_what_pydicom_writes_but_for_bulk_data_and_the_character_set(name: str) -> None:
    path = Path(str(get_testdata_file(name)))
    found = metadata(path)
    expected = json.loads(dcmread(path, stop_before_pixels=True).to_json(bulk_data_threshold=1 << 30))
    for tag, value in expected.items():
        if tag == "00080005":
            assert found[tag] == {"vr": "CS", "Value": ["ISO_IR 192"]}
        elif "BulkDataURI" in found[tag]:
            assert found[tag] == {"vr": value["vr"], "BulkDataURI": f"{URL}/bulkdata/{tag}"}
            assert len(base64.b64decode(value["InlineBinary"])) > 1024
        else:
            assert without_empty(found[tag]) == without_empty(value)


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
