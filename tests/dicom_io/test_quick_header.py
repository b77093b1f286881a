"""What is read where it arrives is what the sandbox would read, or nothing."""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.data import get_testdata_files
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
    RLELossless,
)

from radserve.dicom_io.index_entry import IndexEntry, read_entry
from radserve.dicom_io.nested import MAX_DEPTH, OddError, elements_of_items, end_of_items
from radserve.dicom_io.performed_steps import MOST_REQUESTS, PerformedStep
from radserve.dicom_io.quick_header import entry_of, quick_header
from radserve.errors import RadserveError
from tests.support.dicoms import ct, part10, us
from tests.support.mutants import mutants

IMAGE = np.arange(64, dtype=np.int16).reshape(8, 8)
QUICK_SYNTAXES = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, RLELossless, JPEGLSLossless, HTJ2KLossless)
NAMES: dict[str, dict[str, Any]] = {
    "ascii": {},
    "latin": {"SpecificCharacterSet": "ISO_IR 100", "PatientName": "Müller^Änne", "StudyDescription": "Schädel"},
    "utf-8": {"SpecificCharacterSet": "ISO_IR 192", "PatientName": "Wang^Xiao=王^小东", "StudyDescription": "胸部 CT"},
    "gb18030": {"SpecificCharacterSet": "GB18030", "PatientName": "Wang^Xiao=王^小东=", "PatientID": "病例 7"},
}


def quick(data: bytes) -> IndexEntry | None:
    found = quick_header(data)
    return entry_of(found, data) if found else None


def in_sandbox(data: bytes, path: Path) -> IndexEntry | None:
    path.write_bytes(data)
    try:
        return read_entry(path)
    except RadserveError:
        return None


@pytest.mark.parametrize("syntax", QUICK_SYNTAXES)
@pytest.mark.parametrize("names", NAMES)
def test_usual_instances_are_read_as_the_sandbox_reads_them(tmp_path: Path, syntax: str, names: str) -> None:
    data = part10(ct(IMAGE, AccessionNumber="A-17", PatientAge="061Y", StudyID="", **NAMES[names]), syntax)
    found = quick(data)
    assert found is not None
    assert found == in_sandbox(data, tmp_path / "file")


def test_sequences_and_many_frames_are_stepped_over(tmp_path: Path) -> None:
    code, nested = Dataset(), Dataset()
    code.CodeValue, code.CodingSchemeDesignator = "1", "DCM"
    nested.PurposeOfReferenceCodeSequence = [code]
    nested.is_undefined_length_sequence_item = True  # type: ignore[attr-defined]
    for undefined in (False, True):
        ds = us(np.stack([IMAGE.astype(np.uint8)] * 3))
        ds.SourceImageSequence = [nested, nested]
        ds["SourceImageSequence"].is_undefined_length = undefined
        for syntax in (ImplicitVRLittleEndian, ExplicitVRLittleEndian, RLELossless):
            data = part10(ds, syntax)
            assert quick(data) == in_sandbox(data, tmp_path / "file") is not None


def odd_cases() -> dict[str, bytes]:
    plain = part10(ct(IMAGE))
    at = plain.index(b"\x08\0\x60\0CS")
    big = plain.index(b"\x20\0\x0d\0UI")
    return {
        "big endian": part10(ct(IMAGE), ExplicitVRBigEndian),
        "deflated": part10(ct(IMAGE), DeflatedExplicitVRLittleEndian),
        "no preamble": plain[132:],
        "cut off in the pixels": plain[:-10],
        "cut off in the header": plain[: big + 4],
        "no pixels": plain[: plain.index(b"\xe0\x7f\x10\0")],
        "unknown VR": plain[: at + 4] + b"XX" + plain[at + 6 :],
        "a length beyond the end": plain[: at + 6] + b"\xff\xff" + plain[at + 8 :],
        "escape sequences": part10(ct(IMAGE, SpecificCharacterSet=["", "ISO 2022 IR 87"], PatientName="A^B=\u4e9c")),
        "several values": part10(ct(IMAGE, Manufacturer="one\\two")),
        "no study": part10(ct(IMAGE, StudyInstanceUID=None)),
        "a study that leads elsewhere": plain.replace(ct(IMAGE).StudyInstanceUID.encode()[:6], b"../../"),
        "another SOP class": part10(ct(IMAGE, SOPClassUID="1.2.840.10008.5.1.4.1.1.88.33")),
        "nothing": b"",
    }


@pytest.mark.parametrize("name", odd_cases())
def test_what_is_odd_is_left_to_the_sandbox(name: str) -> None:
    assert quick_header(odd_cases()[name]) is None


def test_hostile_lengths_and_depths_end_soon() -> None:
    sequence = struct.pack("<HH2sHI", 0x0008, 0x1140, b"SQ", 0, 0xFFFFFFFF)
    item = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    end, item_end = (struct.pack("<HHI", 0xFFFE, number, 0) for number in (0xE0DD, 0xE00D))

    def nested(depth: int) -> bytes:
        return (item + sequence) * (depth - 1) + end + (item_end + end) * (depth - 1)

    deepest = nested(MAX_DEPTH)
    assert end_of_items(deepest, 0, implicit=False) == len(deepest)
    for hostile in (nested(MAX_DEPTH + 1), nested(100_000), struct.pack("<HHI", 0xFFFE, 0xE000, 0) * 1_000_000):
        with pytest.raises(OddError):
            end_of_items(hostile, 0, implicit=False)
    fragments = part10(ct(IMAGE), RLELossless)
    fragments = fragments[: fragments.index(b"\xfe\xff\x00\xe0")] + struct.pack("<HHI", 0xFFFE, 0xE000, 0) * 100_000
    assert quick_header(fragments) is None


def test_real_files_are_read_as_the_sandbox_reads_them_or_not_at_all(tmp_path: Path) -> None:
    read = []
    for name in sorted(get_testdata_files("**/*")):
        path = Path(name)
        if not path.is_file() or path.stat().st_size > 1_000_000:
            continue
        data = path.read_bytes()
        if (found := quick(data)) is not None:
            assert found == in_sandbox(data, tmp_path / "file"), path.name
            read.append(path.name)
    assert len(read) > 80 and "CT_small.dcm" in read


def test_mutated_files_are_read_as_the_sandbox_reads_them_or_not_at_all(tmp_path: Path) -> None:
    read = 0
    for data in mutants(seed=20261126, count=600):
        if (found := quick(data)) is not None:
            assert found == in_sandbox(data, tmp_path / "file")
            read += 1
    assert read > 30


def with_requests(*, undefined: bool = False, **attributes: Any) -> Dataset:
    """A slice of a step that answers two requests; `undefined`: its sequences and items state no length."""
    first, second, code = Dataset(), Dataset(), Dataset()
    code.CodeValue = "1"
    first.ScheduledProcedureStepID, first.RequestedProcedureID = "S1", "R1"
    first.RequestedProcedureCodeSequence = [code]
    second.RequestedProcedureID = "R\xe9 2" if "SpecificCharacterSet" in attributes else "R2"
    for each in (first, code):
        each.is_undefined_length_sequence_item = undefined  # type: ignore[attr-defined]
    ds = ct(IMAGE, PerformedProcedureStepStartDate="20260102", PerformedProcedureStepStartTime="0929", **attributes)
    ds.RequestAttributesSequence = [first, second]
    for each, keyword in ((ds, "RequestAttributesSequence"), (first, "RequestedProcedureCodeSequence")):
        each[keyword].is_undefined_length = undefined
    return ds


@pytest.mark.parametrize("undefined", [False, True])
@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, RLELossless])
@pytest.mark.parametrize("characters", [{}, {"SpecificCharacterSet": "ISO_IR 100"}])
def test_steps_and_requests_are_read_as_the_sandbox_reads_them(
    tmp_path: Path, syntax: str, undefined: bool, characters: dict[str, str]
) -> None:
    data = part10(with_requests(undefined=undefined, **characters), syntax)
    found = quick(data)
    assert found is not None and found == in_sandbox(data, tmp_path / "file")
    second = "R\xe9 2" if characters else "R2"
    assert found.steps == (
        PerformedStep("20260102", "0929", "S1", "R1"),
        PerformedStep("20260102", "0929", "", second),
    )


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_requests_that_are_no_sequence_or_too_many_are_no_reason_to_refuse_an_image(tmp_path: Path) -> None:
    request = Dataset()
    request.RequestedProcedureID = "R"
    many = ct(IMAGE, RequestAttributesSequence=[request] * (MOST_REQUESTS + 1))
    empty = ct(IMAGE, RequestAttributesSequence=[])
    plain = part10(with_requests(), ExplicitVRLittleEndian)
    other = plain.replace(b"\x40\0\x75\x02SQ\0\0", b"\x40\0\x75\x02UN\0\0")
    item = ct(IMAGE)
    item.RequestAttributesSequence = [ct(IMAGE, RequestedProcedureID="R" * 2000)]
    for data, steps in ((part10(many), 1), (part10(empty), 0), (other, None), (part10(item), 1)):
        sandbox = in_sandbox(data, tmp_path / "file")
        assert sandbox is not None and (steps is None or len(sandbox.steps) == steps)
        assert quick(data) in (None, sandbox)


def test_hostile_items_end_soon() -> None:
    item = struct.pack("<HHI", 0xFFFE, 0xE000, 0)
    long = struct.pack("<HHI", 0xFFFE, 0xE000, 1 << 30)
    open_item = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    element = struct.pack("<HH2sH", 0x0040, 0x1001, b"SH", 0)
    for hostile in (item * 1_000_000, long, open_item + element * 1_000_000, element, open_item * 9):
        with pytest.raises((OddError, struct.error)):
            list(elements_of_items(hostile, 0, len(hostile), implicit=False, most=MOST_REQUESTS))


BASES = [
    *(part10(ct(IMAGE, **NAMES[names]), syntax) for names in NAMES for syntax in QUICK_SYNTAXES[:2]),
    *(part10(with_requests(undefined=each), syntax) for each in (False, True) for syntax in QUICK_SYNTAXES[:2]),
]
EDIT = st.tuples(st.floats(0, 1, exclude_max=True), st.sampled_from(("set", "cut", "add")), st.binary(max_size=8))


@settings(max_examples=300, deadline=None)
@given(base=st.sampled_from(BASES), edits=st.lists(EDIT, min_size=1, max_size=4))
def test_whatever_is_edited_both_readings_agree(
    tmp_path_factory: pytest.TempPathFactory, base: bytes, edits: list[tuple[float, str, bytes]]
) -> None:
    data = bytearray(base)
    for place, how, changed in edits:
        at = 132 + int(place * (len(data) - 132))
        data[at : at + len(changed) * (how != "add")] = changed if how != "cut" else b""
    if (found := quick(bytes(data))) is not None:
        path = Path(tmp_path_factory.getbasetemp()) / "edited"
        assert found == in_sandbox(bytes(data), path)
        assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
