"""The orders of the sources in the documents: each once, whole where valid, with a result and without one."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom import Dataset
from pydicom.uid import generate_uid

from radserve.dicom_io.requested import referenced_requests
from radserve.dicom_io.write_not_analysable import write_not_analysable
from radserve.dicom_io.write_sr import write_sr
from radserve.errors import ErrorCode
from radserve.image import Image
from radserve.results import StudyFailure
from tests.support.dicoms import cr
from tests.support.results import PACK, sample_image, sample_result
from tests.support.written import assert_valid

PIXELS = np.arange(64 * 48, dtype=np.uint16).reshape(64, 48)
STUDY = generate_uid(entropy_srcs=["another study"])


def request(**values: Any) -> Dataset:
    item = Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return item


def code(value: str, meaning: str) -> Dataset:
    return request(CodeValue=value, CodingSchemeDesignator="99HOSPITAL", CodeMeaning=meaning)


def image_of(*requests: Dataset, **header: Any) -> Image:
    return sample_image(cr(PIXELS, RequestAttributesSequence=list(requests), **header))


FULL = request(
    StudyInstanceUID=STUDY,
    AccessionNumber="A-77",
    RequestedProcedureID="RP-5",
    RequestedProcedureDescription="Chest PA",
    RequestedProcedureCodeSequence=[code("CHPA", "Chest PA")],
    ReasonForTheRequestedProcedure="Cough",
    ScheduledProcedureStepID="SPS-1",
)


@pytest.mark.parametrize("has_result", [True, False])
def test_a_document_names_the_order_of_its_images(has_result: bool, tmp_path: Path) -> None:
    image = image_of(FULL)
    failure = StudyFailure(ErrorCode.NO_APPLICABLE_INPUT, "not for this model")
    data = write_sr(sample_result(image)) if has_result else write_not_analysable(failure, [image.source], PACK)
    assert_valid(data, tmp_path)
    (item,) = pydicom.dcmread(io.BytesIO(data)).ReferencedRequestSequence
    assert item.StudyInstanceUID == STUDY
    assert (item.AccessionNumber, item.RequestedProcedureID) == ("A-77", "RP-5")
    assert (item.RequestedProcedureDescription, item.ReasonForTheRequestedProcedure) == ("Chest PA", "Cough")
    assert item.RequestedProcedureCodeSequence[0].CodeValue == "CHPA"
    assert "ScheduledProcedureStepID" not in item  # of the step of the modality, which this document is no part of
    for empty in ("PlacerOrderNumberImagingServiceRequest", "FillerOrderNumberImagingServiceRequest"):
        assert item[empty].is_empty  # type 2
    assert list(item.ReferencedStudySequence) == []


def test_each_order_is_named_once_and_one_without_a_number_is_not() -> None:
    image = image_of(FULL, FULL, request(RequestedProcedureID="RP-6"), request(ScheduledProcedureStepID="SPS-2"))
    found = referenced_requests([image.source, image.source])
    assert [item.RequestedProcedureID for item in found] == ["RP-5", "RP-6"]
    assert found[1].StudyInstanceUID == image.instance.study_instance_uid


def test_what_breaks_its_value_representation_is_left_empty(tmp_path: Path) -> None:
    with pydicom.config.disable_value_validation():
        item = request(
            RequestedProcedureID="RP-7",
            AccessionNumber="A" * 17,
            RequestedProcedureDescription="Chest\x07",
            StudyInstanceUID="no UID",
            RequestedProcedureCodeSequence=[request(CodeValue="X" * 17, CodeMeaning="Chest")],
        )
        image = image_of(item)
    data = write_sr(sample_result(image))
    assert_valid(data, tmp_path)
    (made,) = pydicom.dcmread(io.BytesIO(data)).ReferencedRequestSequence
    assert (made.AccessionNumber, made.RequestedProcedureDescription) == ("", "")
    assert list(made.RequestedProcedureCodeSequence) == []
    assert made.StudyInstanceUID == image.instance.study_instance_uid


def test_an_order_in_the_characters_of_its_source_stays_readable(tmp_path: Path) -> None:
    item = request(RequestedProcedureID="RP-8", RequestedProcedureDescription="Knie röntgen")
    data = write_sr(sample_result(image_of(item, SpecificCharacterSet="ISO_IR 100", PatientName="Müller")))
    assert_valid(data, tmp_path)
    document = pydicom.dcmread(io.BytesIO(data))
    assert document.ReferencedRequestSequence[0].RequestedProcedureDescription == "Knie röntgen"
    assert document.PatientName == "Müller"


def test_a_study_without_an_order_has_no_such_sequence() -> None:
    assert "ReferencedRequestSequence" not in pydicom.dcmread(
        io.BytesIO(write_sr(sample_result(sample_image(cr(PIXELS)))))
    )
