"""Files with something after their pixels: taken if it is made of elements, as by DCMTK and Orthanc, else refused."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from radserve.dicom_io.ends import check_whole_file
from radserve.dicom_io.index_entry import read_entry, read_received
from radserve.dicom_io.quick_header import quick_header
from radserve.errors import DicomError, ErrorCode
from tests.support.dicoms import ct, part10

DCMDUMP = shutil.which("dcmdump", path="/usr/bin")
IMAGE = np.arange(64, dtype=np.int16).reshape(8, 8)
PADDING = struct.pack("<HH2sHI", 0xFFFC, 0xFFFC, b"OB", 0, 16) + bytes(16)
SEQUENCE = (
    struct.pack("<HH2sHI", 0x7FE1, 0x1010, b"SQ", 0, 0xFFFFFFFF)
    + struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    + struct.pack("<HH2sH", 0x0008, 0x0100, b"SH", 4)
    + b"CODE"
    + struct.pack("<HHI", 0xFFFE, 0xE00D, 0)
    + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
)
GOOD = {
    "nothing": b"",
    "trailing padding": PADDING,
    "a private text": struct.pack("<HH2sH", 0x7FE1, 0x1010, b"LO", 4) + b"text",
    "a sequence of undefined length and padding": SEQUENCE + PADDING,
    "a block of zeros": bytes(512),
}
BAD = {
    "three bytes of rubbish": b"abc",
    "eight bytes of rubbish": b"rubbish!",
    "a line end": b"\n",
    "half a tag": PADDING[:3],
    "a cut head": PADDING[:10],
    "a cut value": PADDING[:-6],
    "a cut text": struct.pack("<HH2sH", 0x7FE1, 0x1010, b"LO", 40) + b"text",
    "a cut sequence": SEQUENCE[:-8],
    "padding and rubbish": PADDING + b"abc",
    "noise": np.random.default_rng(3).bytes(100),
}


def file_with(end: bytes, folder: Path, syntax: str = ExplicitVRLittleEndian) -> Path:
    path = folder / "file.dcm"
    path.write_bytes(part10(ct(IMAGE), syntax) + end)
    return path


def is_taken_by_dcmtk(path: Path) -> bool:
    if DCMDUMP is None:
        pytest.skip("DCMTK is not installed")
    return subprocess.run([DCMDUMP, "-q", path], capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless])
def test_elements_after_the_pixels_are_taken_as_by_dcmtk(tmp_path: Path, name: str, syntax: str) -> None:
    path = file_with(GOOD[name], tmp_path, syntax)
    assert read_received(path) == read_entry(path)
    check_whole_file(path)
    assert is_taken_by_dcmtk(path)


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless])
def test_what_is_cut_or_no_element_after_the_pixels_is_refused_as_by_dcmtk(
    tmp_path: Path, name: str, syntax: str
) -> None:
    path = file_with(BAD[name], tmp_path, syntax)
    for read in (read_received, check_whole_file):
        with pytest.raises(DicomError) as caught:
            read(path)
        assert caught.value.code in (ErrorCode.TRUNCATED, ErrorCode.INVALID_HEADER)
    assert quick_header(path.read_bytes()) is None
    assert read_entry(path).size == path.stat().st_size  # what is stored already stays known
    assert not is_taken_by_dcmtk(path)


def test_usual_ends_are_read_where_the_file_arrives() -> None:
    for name in ("nothing", "trailing padding", "a private text", "a sequence of undefined length and padding"):
        assert quick_header(part10(ct(IMAGE)) + GOOD[name]) is not None, name


def test_other_encodings_are_read_to_their_end_too(tmp_path: Path) -> None:
    implicit = struct.pack("<HHI", 0xFFFC, 0xFFFC, 16) + bytes(16)
    big = struct.pack(">HH2sHI", 0xFFFC, 0xFFFC, b"OB", 0, 16) + bytes(16)
    for syntax, padding in ((ImplicitVRLittleEndian, implicit), (ExplicitVRBigEndian, big)):
        read_received(file_with(padding, tmp_path, syntax))
        with pytest.raises(DicomError):
            read_received(file_with(padding[:-3], tmp_path, syntax))
    read_received(file_with(b"", tmp_path, DeflatedExplicitVRLittleEndian))


def test_a_long_row_of_elements_after_the_pixels_ends_soon(tmp_path: Path) -> None:
    path = file_with(struct.pack("<HH2sH", 0x7FE1, 0x1010, b"LO", 0) * 100_000, tmp_path)
    assert quick_header(path.read_bytes()) is None
    read_received(path)
