"""write_not_analysable: a study without a result says so where others say what was found."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from highdicom.sr import ComprehensiveSR, MeasurementReport

from radserve.clinical_context import ClinicalContext, LaboratoryValue
from radserve.dicom_io.parse import IMAGE_STORAGE
from radserve.dicom_io.result_objects import instance_of
from radserve.dicom_io.write_not_analysable import FAILED, NOT_ATTEMPTED, SUMMARY_OF_ANALYSES, write_not_analysable
from radserve.dicom_io.write_sr import write_sr
from radserve.errors import DicomError, ErrorCode, RadserveError
from radserve.image import Image
from radserve.references import SourceContext
from radserve.results import StudyFailure
from tests.support.dicoms import cr
from tests.support.results import PACK, sample_image, sample_result
from tests.support.said import said
from tests.support.written import IMAGES, assert_valid, cr_images, ct_images, us_images

REASON = "pack sample-pack takes modality ['CR']; the study has ['US']"
FAILURE = StudyFailure(ErrorCode.NO_APPLICABLE_INPUT, REASON)


def sources(images: tuple[Image, ...]) -> list[SourceContext]:
    return [image.source for image in images]


def read(data: bytes) -> ComprehensiveSR:
    return ComprehensiveSR.from_dataset(pydicom.dcmread(io.BytesIO(data)))


@pytest.mark.parametrize("name", IMAGES)
def test_it_passes_dciodvfy_for_every_source(name: str, tmp_path: Path) -> None:
    assert_valid(write_not_analysable(FAILURE, sources(IMAGES[name]()), PACK), tmp_path)


def test_a_failure_of_a_revised_study_names_the_sr_it_replaces(tmp_path: Path) -> None:
    images = sources(us_images())
    first = write_not_analysable(FAILURE, images, PACK)
    data = write_not_analysable(replace(FAILURE, revision=2, predecessor=instance_of(first)), images, PACK)
    assert_valid(data, tmp_path)
    document = read(data)
    (reference,) = document.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence
    assert reference.ReferencedSOPInstanceUID == read(first).SOPInstanceUID != document.SOPInstanceUID


@pytest.mark.parametrize("sop_class_uid", sorted(IMAGE_STORAGE))
def test_it_can_be_written_for_every_class_of_image_that_is_read(sop_class_uid: str) -> None:
    document = read(write_not_analysable(FAILURE, sources(cr_images(SOPClassUID=sop_class_uid)), PACK))
    assert [entry[3] for entry in document.get_evidence()] == [sop_class_uid]


@pytest.mark.parametrize(
    ("code", "status"), [(ErrorCode.NO_APPLICABLE_INPUT, NOT_ATTEMPTED), (ErrorCode.DECODE_FAILED, FAILED)]
)
def test_the_status_and_the_reason_stand_in_one_measurement_group(code: ErrorCode, status: object) -> None:
    images = us_images()
    document = read(write_not_analysable(StudyFailure(code, REASON), sources(images), PACK))
    assert isinstance(document.content, MeasurementReport)
    (group,) = document.content.get_image_measurement_groups()
    (evaluation,) = group.get_qualitative_evaluations(name=SUMMARY_OF_ANALYSES)
    assert (evaluation.value.value, evaluation.value.scheme_designator) == (status.value, "DCM")  # type: ignore[attr-defined]
    (source,) = group.source_images
    reference = source.ReferencedSOPSequence[0]
    assert (reference.ReferencedSOPInstanceUID, reference.ReferencedSOPClassUID) == (
        images[0].instance.sop_instance_uid,
        images[0].instance.sop_class_uid,
    )
    (comment,) = [item for item in group[0].ContentSequence if item.ValueType == "TEXT" and item.name.value == "121106"]
    assert REASON in comment.value and code in comment.value


def test_it_is_a_preliminary_unverified_partial_document_of_the_study() -> None:
    images = cr_images()
    document = read(write_not_analysable(FAILURE, sources(images), PACK))
    flags = document.CompletionFlag, document.PreliminaryFlag, document.VerificationFlag
    assert flags == ("PARTIAL", "PRELIMINARY", "UNVERIFIED")
    assert document.StudyInstanceUID == images[0].instance.study_instance_uid
    assert (document.PatientName, document.SeriesDescription) == ("Doe^Jane", "Not analysed by AI")


def test_the_request_stands_in_it_as_in_the_sr_of_a_result(tmp_path: Path) -> None:
    context = ClinicalContext("Cough\nAllergy: nüts", 41.0, "F", (LaboratoryValue("CRP", "90", "mg/L"),), "1.2.3")
    image = sample_image(cr(np.zeros((64, 48), np.uint16), SpecificCharacterSet="ISO_IR 100", PatientName="Müller"))
    data = write_not_analysable(replace(FAILURE, context=context), [image.source], PACK)
    assert_valid(data, tmp_path)
    assert said(data) == said(write_sr(sample_result(image, context=context)))
    document = read(data)
    assert document.PatientName == "Müller"
    assert document.SOPInstanceUID != read(write_not_analysable(FAILURE, [image.source], PACK)).SOPInstanceUID


def test_the_same_failure_is_the_same_object_and_another_is_another() -> None:
    images = ct_images()
    first, again = (write_not_analysable(FAILURE, sources(images), PACK) for _ in range(2))
    other = write_not_analysable(StudyFailure(ErrorCode.DECODE_FAILED, "slice 3"), sources(images), PACK)
    assert first == again
    assert read(first).SOPInstanceUID != read(other).SOPInstanceUID
    assert read(first).SeriesInstanceUID == read(other).SeriesInstanceUID


def test_sources_of_another_study_or_none_are_refused() -> None:
    images = cr_images()
    named = StudyFailure(ErrorCode.INTERNAL, "x", study_instance_uid="1.2.3")
    mixed = [*sources(images), *sources(cr_images(study="other"))]
    for failure, given in ((FAILURE, []), (FAILURE, mixed), (named, sources(images))):
        with pytest.raises(RadserveError, match="sources") as caught:
            write_not_analysable(failure, given, PACK)
        assert caught.value.code is ErrorCode.INVALID_ARGUMENT


def test_a_header_that_is_not_dicom_gives_an_error_without_its_bytes() -> None:
    broken = SourceContext(cr_images()[0].instance, b"Doe^Jane is not a header")
    with pytest.raises(DicomError) as caught:
        write_not_analysable(FAILURE, [broken], PACK)
    assert caught.value.code is ErrorCode.INVALID_HEADER and "Doe" not in str(caught.value)
