"""The files that the workflow keeps of a result."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from pydicom import dcmread

from radserve.dicom_io.result_objects import failure_objects, report_file, result_objects
from radserve.errors import ErrorCode, RadserveError
from radserve.results import ResultWarning, StudyFailure, WarningCode
from tests.support.dicoms import cr
from tests.support.results import PACK, sample_image, sample_result, sample_source

IMAGE = np.arange(64 * 48, dtype=np.uint16).reshape(64, 48)


def test_each_object_names_its_kind_and_its_uid() -> None:
    image = sample_image(cr(IMAGE))
    made = result_objects(sample_result(image), [image], ["sr", "seg", "sc"])
    assert [each.output for each in made] == ["sr", "sc", "report"]  # a radiograph gets no SEG
    for each in made[:2]:
        assert dcmread(io.BytesIO(each.artifact.data)).SOPInstanceUID == each.sop_instance_uid
    assert made[2].sop_instance_uid == "" and b"Opacity" in made[2].artifact.data


def test_the_text_is_headed_as_a_draft_and_ends_with_what_speaks_against_it() -> None:
    plain = sample_result(sample_image(cr(IMAGE)))
    assert plain.report is not None
    bare = replace(plain, warnings=())
    assert report_file(bare).data.decode() == f"AI DRAFT, NOT VERIFIED\n\n{plain.report.text}"
    warned = replace(plain, warnings=(ResultWarning(WarningCode.OUT_OF_DISTRIBUTION, "unlike what it learned from"),))
    assert report_file(warned).data == report_file(bare).data + b"\nWARNINGS\n- unlike what it learned from\n"
    assert report_file(replace(bare, report=None)).data == b"AI DRAFT, NOT VERIFIED\n"


def test_a_later_revision_has_uids_of_its_own_and_a_repetition_the_same() -> None:
    image = sample_image(cr(IMAGE))
    first, again, second = (
        {each.sop_instance_uid for each in result_objects(sample_result(image, revision=n), [image], ["sr", "sc"])}
        for n in (1, 1, 2)
    )
    assert first == again
    assert first & second == {""}
    with pytest.raises(RadserveError, match="revision: got 0"):
        sample_result(image, revision=0)


def test_a_failure_is_an_sr_that_says_so() -> None:
    ds = cr(IMAGE)
    failure = StudyFailure(ErrorCode.DECODE_FAILED, "the JPEG stream is broken", "", ds.StudyInstanceUID)
    (made,) = failure_objects(failure, [sample_source(ds)], PACK)
    found = dcmread(io.BytesIO(made.artifact.data))
    assert (found.Modality, found.SOPInstanceUID) == ("SR", made.sop_instance_uid)
    assert "DECODE_FAILED" in str(found)


def test_a_kind_that_does_not_exist_is_refused() -> None:
    image = sample_image(cr(IMAGE))
    with pytest.raises(RadserveError, match="gif"):
        result_objects(sample_result(image), [image], ["gif"])
