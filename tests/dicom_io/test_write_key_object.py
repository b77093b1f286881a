"""write_key_object: positive images are marked as of interest, negative ones as looked at."""

from __future__ import annotations

import io

import highdicom as hd
import pydicom
from pydicom.sr.codedict import codes

from radserve.dicom_io.write_key_object import write_key_object
from tests.support.results import sample_finding, sample_result
from tests.support.written import ct_images, result_of, us_images


def document(images: tuple, *, positive: bool = True) -> hd.ko.KeyObjectSelectionDocument:
    (data,) = write_key_object(result_of(images, positive=positive), ())
    return hd.ko.KeyObjectSelectionDocument.from_dataset(pydicom.dcmread(io.BytesIO(data)))


def description(ko: hd.ko.KeyObjectSelectionDocument) -> str:
    (item,) = [item for item in ko.ContentSequence if item.ConceptNameCodeSequence[0].CodeValue == "113012"]
    return str(item.TextValue)


def test_the_images_of_positive_findings_are_of_interest() -> None:
    images = ct_images()
    ko = document(images)
    assert ko.ConceptNameCodeSequence[0].CodeValue == codes.DCM.OfInterest.value
    references = ko.content.get_references()
    assert [item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for item in references] == [
        image.instance.sop_instance_uid for image in images
    ]
    assert description(ko) == "AI draft, not verified: Pneumonia 87%, Pneumonia 87%, Pneumonia 87%"


def test_a_negative_study_says_so_and_names_what_was_looked_at() -> None:
    images = ct_images()
    ko = document(images, positive=False)
    assert ko.ConceptNameCodeSequence[0].CodeValue == codes.DCM.ForReportAttachment.value
    assert len(ko.content.get_references()) == 3
    assert "No finding above threshold (Malignant lesion 3%" in description(ko)


def test_only_positive_images_are_chosen_where_there_are_some() -> None:
    images = ct_images()
    findings = (sample_finding(images[0]), sample_finding(images[1], "Malignant lesion", 0.1))
    (data,) = write_key_object(sample_result(*images, findings=findings), ())
    ko = hd.ko.KeyObjectSelectionDocument.from_dataset(pydicom.dcmread(io.BytesIO(data)))
    (chosen,) = ko.content.get_references()
    assert chosen.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == images[0].instance.sop_instance_uid


def test_the_frames_of_a_multi_frame_source_are_named_once_each() -> None:
    (image,) = us_images()
    findings = tuple(sample_finding(image, frame=frame) for frame in (4, 2, 4))
    (data,) = write_key_object(sample_result(image, findings=findings), ())
    ds = pydicom.dcmread(io.BytesIO(data))
    (item,) = [each for each in ds.ContentSequence if each.ValueType == "IMAGE"]
    assert item.ReferencedSOPSequence[0].ReferencedFrameNumber == [2, 4]


def test_the_device_that_observed_is_the_pack() -> None:
    texts = [item.TextValue for item in document(ct_images()).ContentSequence if item.ValueType == "TEXT"]
    assert "sample-pack" in texts
