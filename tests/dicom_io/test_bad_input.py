"""Bad and hostile files: each is refused with its code, in bounded memory and time; nothing else is raised."""

from __future__ import annotations

import warnings
from pathlib import Path

import psutil
import pytest
from pydicom.uid import (
    ImplicitVRLittleEndian,
)

from radserve.dicom_io.decode import decode_image
from radserve.dicom_io.parse import parse_header, source_context
from radserve.errors import DicomError, ErrorCode, RadserveError
from radserve.workers import WorkerLimits, WorkerPool
from tests.support.bad_dicoms import CASES, WORDS, mutants, replaced
from tests.support.dicoms import cr, part10

# A block that breaks off is told to sys.unraisablehook by the HTJ2K codec, before it is refused.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
PATIENT = ("Doe", "P-0001", "19810203")
C = ErrorCode


@pytest.mark.parametrize("name", CASES)
def test_bad_input_is_refused_with_its_code_and_without_patient_data(tmp_path: Path, name: str) -> None:
    code, make = CASES[name]
    path = tmp_path / "bad"
    path.write_bytes(make())
    with pytest.raises(RadserveError) as caught:
        decode_image(path)
    assert caught.value.code == code, caught.value
    assert not any(word in str(caught.value) for word in (*PATIENT, "Jones", "bad"))


def test_there_are_cases_of_every_code_of_a_bad_file() -> None:
    assert len(CASES) >= 60
    assert {code for code, _ in CASES.values()} == {
        C.NOT_DICOM, C.TRUNCATED, C.INVALID_HEADER, C.NO_PIXELS, C.UNSUPPORTED_SOP_CLASS, C.UNSUPPORTED_PIXELS,
        C.UNSUPPORTED_TRANSFER_SYNTAX, C.PIXELS_INCONSISTENT, C.PIXEL_BUDGET_EXCEEDED, C.DECODE_FAILED,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("rows of 0", "Rows is 0"),
        ("a structured report", "1.2.840.10008.5.1.4.1.1.88.22 (Basic Text SR Storage)"[:30]),
        ("an MPEG video", "1.2.840.10008.1.2.4.102"),
        ("other rows than the JPEG 2000 image", "(32, 32), the header (31, 32)"),
        ("an odd high bit", "HighBit is 15"),
        ("RLE of 50 bytes that claims 65535 x 65535", "65535 x 65535"),
        ("cut in the raw pixels", "2048"),
    ],
)
def test_the_refusal_names_the_offending_value(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / "bad"
    path.write_bytes(CASES[name][1]())
    with pytest.raises(DicomError) as caught:
        decode_image(path)
    assert text in caught.value.client_message


async def test_the_worst_files_stay_within_the_limits_of_a_worker(tmp_path: Path) -> None:
    limits = WorkerLimits(memory_bytes=2 * 2**30, cpu_seconds=20, wall_seconds=60)
    names = ["deflate bomb", "sequences nested 50,000 deep", "JPEG that claims 65500 x 65500", "one billion frames"]
    async with WorkerPool(name="bad", size=1, limits=limits, preload=("radserve.dicom_io.decode",)) as pool:
        before = psutil.Process().memory_info().rss
        for name in names:
            code, make = CASES[name]
            path = tmp_path / "bad"
            path.write_bytes(make())
            with pytest.raises(DicomError) as caught:
                await pool.run(decode_image, path)
            assert caught.value.code == code
        assert pool.restarts == 0
    assert psutil.Process().memory_info().rss - before < 100 * 2**20


def test_no_mutant_raises_anything_but_an_error_of_ours(tmp_path: Path) -> None:
    accepted = 0
    path = tmp_path / "mutant"
    for data in mutants(seed=7, count=400):
        path.write_bytes(data)
        for function in (parse_header, source_context, decode_image):
            try:
                function(path)
            except RadserveError as error:
                assert not any(word in str(error) for word in PATIENT)
            else:
                accepted += function is decode_image
    assert 0 < accepted < 400


def test_a_bad_file_leaves_no_warning_with_its_values(tmp_path: Path) -> None:
    path = tmp_path / "odd"
    path.write_bytes(replaced(part10(cr(WORDS, StudyDate="20260102")), b"20260102", b"Doe^Jane"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert parse_header(path).context.study_date == ""


def test_a_file_of_implicit_encoding_is_not_taken_for_text(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(part10(cr(WORDS), ImplicitVRLittleEndian))
    assert parse_header(path).rows == 32
