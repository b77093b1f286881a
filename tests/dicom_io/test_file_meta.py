"""File meta information by hand, and the look at a data set's first elements, against pydicom."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, JPEGLSLossless

from radserve.dicom_io.file_meta import FileMeta, file_head, read_file_meta, stated_uids
from radserve.errors import DicomError, ErrorCode
from tests.dicom_io.dimse.support import CT, EXPLICIT, IMPLICIT, slice_bytes

SYNTAXES = (EXPLICIT, IMPLICIT, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian, JPEGLSLossless)


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("uid", ["1.2.3", "1.2.34"])
def test_our_head_before_a_data_set_is_a_file_that_pydicom_reads(syntax: str, uid: str) -> None:
    whole = slice_bytes(1, syntax)
    meta = read_file_meta(whole)
    file = file_head(CT, uid, syntax) + whole[meta.offset :]
    found = dcmread(io.BytesIO(file))
    assert found == dcmread(io.BytesIO(whole))
    assert found.preamble == bytes(128)
    assert found.file_meta.FileMetaInformationVersion == b"\0\1"
    assert found.file_meta.MediaStorageSOPClassUID == CT
    assert found.file_meta.MediaStorageSOPInstanceUID == uid
    assert found.file_meta.TransferSyntaxUID == syntax
    assert found.file_meta.FileMetaInformationGroupLength == len(file_head(CT, uid, syntax)) - 144
    assert read_file_meta(file) == FileMeta(CT, uid, syntax, len(file_head(CT, uid, syntax)))


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_the_uids_of_a_data_set_are_found_in_its_first_elements(syntax: str) -> None:
    whole = slice_bytes(1, syntax)
    expected = dcmread(io.BytesIO(whole))
    head = whole[read_file_meta(whole).offset :][:2048]
    assert stated_uids(head, syntax) == (expected.SOPClassUID, expected.SOPInstanceUID)


def test_uids_that_are_not_there_are_empty() -> None:
    whole = slice_bytes(1)
    data = whole[read_file_meta(whole).offset :]
    without = data[: data.index(b"\x08\0\x18\0UI")] + data[data.index(b"\x08\0\x20\0DA") :]
    assert stated_uids(without, EXPLICIT) == (CT, "")
    assert stated_uids(b"", EXPLICIT) == ("", "")


@given(st.binary(max_size=200), st.sampled_from([str(uid) for uid in SYNTAXES]))
def test_any_bytes_have_two_uids_or_empty_texts(data: bytes, syntax: str) -> None:
    assert all(isinstance(uid, str) for uid in stated_uids(data, syntax))


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", ErrorCode.NOT_DICOM),
        (b"x" * 200, ErrorCode.NOT_DICOM),
        (file_head(CT, "1.2", EXPLICIT)[:-3], ErrorCode.TRUNCATED),
        (file_head(CT, "1.2", EXPLICIT)[:150], ErrorCode.TRUNCATED),
        (bytes(128) + b"DICM\x08\0", ErrorCode.INVALID_HEADER),
    ],
)
def test_a_head_that_cannot_be_read_is_refused_with_its_code(data: bytes, code: ErrorCode) -> None:
    with pytest.raises(DicomError) as caught:
        read_file_meta(data)
    assert caught.value.code is code
