"""The second half of the bad-input suite: files that are refused with their code, and odd ones that are read."""

from __future__ import annotations

import io
import time
from pathlib import Path

import numpy as np
import pytest

from radserve.dicom_io.decode import decode_image
from radserve.dicom_io.parse import parse_header
from radserve.dicom_io.preamble import zero_preamble
from radserve.errors import RadserveError
from tests.support.bad_dicoms import CASES, WORDS
from tests.support.dicoms import cr, part10
from tests.support.odd_dicoms import ACCEPTED, PREAMBLES, REFUSED, preamble

# A block that breaks off is told to sys.unraisablehook by the HTJ2K codec, before it is refused.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
PATIENT = ("Doe", "P-0001", "19810203", "Jones", "passwd", "evil", "cron")


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_with_its_code_and_without_what_it_says(tmp_path: Path, name: str) -> None:
    code, make = REFUSED[name]
    path = tmp_path / "bad"
    path.write_bytes(make())
    started = time.process_time()
    with pytest.raises(RadserveError) as caught:
        decode_image(path)
    assert caught.value.code == code, caught.value
    assert time.process_time() - started < 5
    assert not any(word in str(caught.value) for word in (*PATIENT, str(path)))


@pytest.mark.parametrize("name", ACCEPTED)
def test_it_is_read_in_spite_of_what_is_odd(tmp_path: Path, name: str) -> None:
    path = tmp_path / "odd"
    path.write_bytes(ACCEPTED[name]())
    image = decode_image(path)
    assert np.array_equal(image.array[0], WORDS)
    assert image.instance == parse_header(path).instance
    assert not any(word in " ".join(image.provenance.warnings) for word in PATIENT)


def test_the_suite_has_its_two_hundred_cases() -> None:
    assert len({*CASES, *REFUSED, *ACCEPTED}) >= 250


@pytest.mark.parametrize("name", PREAMBLES)
def test_a_preamble_that_makes_a_program_of_the_file_is_zeroed(name: str) -> None:
    file = io.BytesIO(preamble(PREAMBLES[name]))
    file.seek(77)
    assert zero_preamble(file)
    assert file.tell() == 77
    clean = part10(cr(WORDS))
    assert clean[:128] == bytes(128)
    assert file.getvalue() == clean
    assert not zero_preamble(file)


def test_what_is_no_part_10_file_keeps_its_first_bytes() -> None:
    data = part10(cr(WORDS))[132:]
    file = io.BytesIO(data)
    assert not zero_preamble(file)
    assert file.getvalue() == data
