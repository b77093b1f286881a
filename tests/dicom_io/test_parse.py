"""Headers of instances: what is read, what is unknown, what travels on."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_files
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
)

from radserve.dicom_io.parse import parse_header, source_context
from radserve.errors import DicomError, ErrorCode
from radserve.references import InstanceRef
from tests.support.dicoms import cr, ct, part10, save, us

GREY = np.arange(12 * 10, dtype=np.uint16).reshape(12, 10)


def test_a_header_is_read_without_its_pixels(tmp_path: Path) -> None:
    ds = cr(GREY, SeriesNumber=4, InstanceNumber=7, StudyDescription="Thorax", Laterality="L")
    header = parse_header(save(ds, tmp_path / "a", JPEGLSLossless))
    assert header.instance == InstanceRef(ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID, ds.SOPClassUID)
    assert header.transfer_syntax_uid == JPEGLSLossless
    assert (header.rows, header.columns, header.frames, header.instance_number) == (12, 10, 1, 7)
    context = header.context
    assert (context.modality, context.body_part, context.view_position, context.laterality) == (
        "CR",
        "CHEST",
        "PA",
        "L",
    )
    assert (context.patient_sex, context.age_years, context.study_date) == ("F", 44.0, "20260102")
    assert (context.study_description, context.series_number) == ("Thorax", 4)


@pytest.mark.parametrize(
    "syntax",
    [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian],
)
def test_the_header_is_the_same_in_every_encoding(tmp_path: Path, syntax: str) -> None:
    reference = parse_header(save(cr(GREY), tmp_path / "a"))
    header = parse_header(save(cr(GREY), tmp_path / "b", syntax))
    assert (header.instance, header.context) == (reference.instance, reference.context)


def test_the_frames_of_a_multi_frame_instance_are_counted(tmp_path: Path) -> None:
    assert parse_header(save(us(np.zeros((5, 8, 8), np.uint8)), tmp_path / "a")).frames == 5


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian])
def test_a_character_set_that_is_no_name_at_all_is_refused(tmp_path: Path, syntax: str) -> None:
    path = save(cr(GREY, SpecificCharacterSet="ISO_IR 192"), tmp_path / "a", syntax)
    path.write_bytes(path.read_bytes().replace(b"ISO_IR 192", b"ISO\0\0\0\0192"))
    with pytest.raises(DicomError) as caught:
        parse_header(path)
    assert caught.value.code == ErrorCode.INVALID_HEADER


def test_an_empty_value_of_no_known_representation_is_unknown(tmp_path: Path) -> None:
    path = save(cr(GREY, PatientSex=""), tmp_path / "a", ExplicitVRLittleEndian)
    empty = b"\x10\x00\x40\x00CS\0\0"
    assert empty in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(empty, empty.replace(b"CS", b"C[")))
    assert parse_header(path).context.patient_sex == ""


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian])
def test_a_bare_data_set_is_read(tmp_path: Path, syntax: str) -> None:
    data = part10(cr(GREY), syntax)
    meta_length = pydicom.dcmread(io.BytesIO(data)).file_meta.FileMetaInformationGroupLength
    bare = tmp_path / "bare"
    bare.write_bytes(data[132 + 12 + meta_length :])
    header = parse_header(bare)
    assert (header.transfer_syntax_uid, header.rows, header.context.age_years) == (syntax, 12, 44.0)


@pytest.mark.parametrize(
    ("age", "birth", "study", "years"),
    [
        ("045Y", "19810203", "20260102", 45.0),
        ("018M", "", "20260102", 1.5),
        ("026W", "", "20260102", 182 / 365.25),
        ("010D", "", "20260102", 10 / 365.25),
        ("", "19810203", "20260102", 44.9),
        (None, "19810203", "20260102", 44.9),
        ("000Y", "19810203", "20260102", 44.9),  # what de-identification leaves
        ("000Y", "", "20260102", None),
        ("45", "", "20260102", None),
        ("forty", "", "20260102", None),
        ("", "19810203", "", None),
        ("", "19811399", "20260102", None),
        ("", "20300101", "20260102", None),
        ("999Y", "", "20260102", None),
    ],
)
def test_the_age_comes_from_the_header_or_the_dates_or_is_unknown(tmp_path, age, birth, study, years) -> None:
    ds = cr(GREY, PatientBirthDate=birth, StudyDate=study, PatientAge=None)
    if age is not None:
        ds.add(pydicom.DataElement("PatientAge", "AS", age, validation_mode=pydicom.config.IGNORE))
    found = parse_header(save(ds, tmp_path / "a")).context.age_years
    assert found == (None if years is None else pytest.approx(years, abs=0.02))


@pytest.mark.parametrize("keyword", ["PatientSex", "SeriesNumber", "StudyDate", "InstanceNumber", "PatientAge"])
def test_an_optional_value_that_makes_no_sense_is_unknown(tmp_path: Path, keyword: str) -> None:
    data = part10(cr(GREY, PatientBirthDate=""))
    clean = pydicom.dcmread(io.BytesIO(data))
    value = clean[keyword].value
    raw = str(value).encode().ljust(len(str(value)) + len(str(value)) % 2)
    tag = clean[keyword].tag
    head = tag.group.to_bytes(2, "little") + tag.element.to_bytes(2, "little")
    at = data.index(head + clean[keyword].VR.encode())
    assert data[at + 8 : at + 8 + len(raw)] == raw
    path = tmp_path / "a"
    path.write_bytes(data[: at + 8] + b"\xff" * len(raw) + data[at + 8 + len(raw) :])
    header = parse_header(path)
    unknown = {
        "PatientSex": header.context.patient_sex == "",
        "SeriesNumber": header.context.series_number is None,
        "StudyDate": header.context.study_date == "",
        "InstanceNumber": header.instance_number is None,
        "PatientAge": header.context.age_years is None,
    }
    assert unknown[keyword]


def test_real_files_are_read_as_pydicom_reads_them() -> None:
    compared = 0
    for path in sorted(map(Path, set(get_testdata_files("**/*.dcm")))):
        try:
            header = parse_header(path)
        except DicomError:
            continue
        ds = pydicom.dcmread(path, force=True, stop_before_pixels=True)
        assert (header.rows, header.columns) == (ds.Rows, ds.Columns), path.name
        assert header.instance.sop_instance_uid == ds.SOPInstanceUID, path.name
        assert header.frames == int(ds.get("NumberOfFrames") or 1), path.name
        compared += 1
    assert compared >= 90


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, JPEGLSLossless]
)
def test_the_source_context_is_the_header_in_explicit_little_endian(tmp_path: Path, syntax: str) -> None:
    path = save(cr(GREY, PatientName="Müller^Jörg", StudyDescription="Thorax"), tmp_path / "a", syntax)
    source = source_context(path)
    copy = pydicom.dcmread(io.BytesIO(source.header))
    assert copy.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert "PixelData" not in copy
    original = pydicom.dcmread(path, stop_before_pixels=True)
    assert [element.tag for element in copy] == [element.tag for element in original]
    assert copy.PatientName == "Müller^Jörg"
    assert source.instance.sop_instance_uid == copy.SOPInstanceUID


def test_the_source_context_leaves_bulk_behind(tmp_path: Path) -> None:
    ds = cr(GREY)
    block = ds.private_block(0x0029, "MAKER", create=True)
    block.add_new(1, "OB", bytes(100_000))
    block.add_new(2, "LO", "small")
    ds.add_new(0x60003000, "OW", bytes(2000))
    icon = pydicom.Dataset()
    icon.Rows = 2
    ds.IconImageSequence = [icon]
    source = source_context(save(ds, tmp_path / "a"))
    copy = pydicom.dcmread(io.BytesIO(source.header))
    assert (0x0029, 0x1001) not in copy
    assert copy[0x0029, 0x1002].value == "small"
    assert (0x6000, 0x3000) not in copy
    assert "IconImageSequence" not in copy
    assert len(source.header) < 4000


def test_a_value_that_cannot_be_written_is_left_out_of_the_source_context(tmp_path: Path) -> None:
    data = part10(cr(GREY), ImplicitVRLittleEndian)
    at = data.index(b"\x28\x00\x10\x00\x02\x00\x00\x00")  # Rows, 2 bytes
    number = data.index(b"\x20\x00\x11\x00\x02\x00\x00\x00")  # SeriesNumber, 2 characters
    broken = bytearray(data)
    broken[number + 8 : number + 10] = b"\xff\xfe"
    assert at > 0
    path = tmp_path / "a"
    path.write_bytes(bytes(broken))
    copy = pydicom.dcmread(io.BytesIO(source_context(path).header))
    assert copy.PatientID == "P-0001"


def test_the_representation_of_a_source_context_shows_no_header(tmp_path: Path) -> None:
    assert "Doe" not in repr(source_context(save(ct(GREY), tmp_path / "a")))


def test_no_object_of_this_module_keeps_a_patient_name(tmp_path: Path) -> None:
    assert "Doe" not in repr(parse_header(save(cr(GREY), tmp_path / "a")))


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"])
def test_a_missing_uid_is_named(tmp_path: Path, keyword: str) -> None:
    path = tmp_path / "a"
    data = part10(cr(GREY))
    value = str(cr(GREY)[keyword].value).encode()
    # The UID also stands in the file meta information for the instance: blank the data set's own.
    at = data.rindex(value)
    path.write_bytes(data[:at] + b"\0" * len(value) + data[at + len(value) :])
    with pytest.raises(DicomError, match=f"{keyword} is missing") as caught:
        parse_header(path)
    assert caught.value.code == ErrorCode.INVALID_HEADER


def test_an_empty_element_of_an_unknown_vr_is_left_out_of_the_source_context(tmp_path: Path) -> None:
    data = part10(cr(GREY))
    name = data.index(b"\x08\x00\x90\x00PN\x00\x00")  # ReferringPhysicianName, empty
    path = tmp_path / "a"
    path.write_bytes(data[: name + 4] + b"LN" + data[name + 6 :])
    copy = pydicom.dcmread(io.BytesIO(source_context(path).header))
    assert "ReferringPhysicianName" not in copy
    assert copy.PatientID == "P-0001"
