"""write_sr: valid by an independent checker, equal in content when read back, and the same on every run."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pydicom
import pytest
from highdicom.sr import ComprehensiveSR
from pydicom.data import get_charset_files, get_testdata_file
from pydicom.sr.codedict import codes
from pydicom.uid import ComprehensiveSRStorage

from radserve.dicom_io.parse import IMAGE_STORAGE
from radserve.dicom_io.result_objects import instance_of
from radserve.dicom_io.write_sr import PRESENCE, write_sr
from radserve.errors import DicomError, ErrorCode, RadserveError
from radserve.references import SourceContext
from radserve.results import ResultWarning, WarningCode
from tests.support.dicoms import cr, ct, us
from tests.support.results import PACK, sample_finding, sample_image, sample_result
from tests.support.written import assert_valid

SMALL = np.arange(64 * 48, dtype=np.uint16).reshape(64, 48)
FRAMES = np.zeros((5, 60, 80), dtype=np.uint8)
SPARSE = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "PatientAge", "StudyDate", "StudyTime", "StudyID"),
    *("AccessionNumber", "ReferringPhysicianName", "SpecificCharacterSet", "PatientOrientation", "Laterality"),
)


def read(data: bytes) -> Any:
    return ComprehensiveSR.from_dataset(pydicom.dcmread(io.BytesIO(data)))


def rg1() -> pydicom.Dataset:
    path = get_testdata_file("RG1_UNCR.dcm", download=False)
    if path is None:
        pytest.skip("pydicom-data with RG1_UNCR.dcm is not installed")
    return pydicom.dcmread(path)


def test_the_sr_of_a_real_radiograph_passes_dciodvfy(tmp_path: Path) -> None:
    ds = rg1()
    data = write_sr(sample_result(sample_image(ds)))
    assert_valid(data, tmp_path)
    document = read(data)
    assert document.StudyInstanceUID == ds.StudyInstanceUID
    assert document.PatientID == ds.PatientID and document.PatientName == ds.PatientName
    assert document.AccessionNumber == ds.get("AccessionNumber", "")


@pytest.mark.parametrize(
    "ds", [us(FRAMES), us(FRAMES[0]), cr(SMALL, ImagerPixelSpacing=[0.2, 0.2]), ct(SMALL.astype(np.int16))]
)
def test_the_sr_of_every_kind_of_source_passes_dciodvfy(ds: pydicom.Dataset, tmp_path: Path) -> None:
    assert_valid(write_sr(sample_result(sample_image(ds))), tmp_path)


@pytest.mark.parametrize("sop_class_uid", sorted(IMAGE_STORAGE))
def test_an_sr_can_be_written_for_every_class_of_image_that_is_read(sop_class_uid: str) -> None:
    document = read(write_sr(sample_result(sample_image(cr(SMALL, SOPClassUID=sop_class_uid, Modality="OT")))))
    assert [entry[3] for entry in document.get_evidence()] == [sop_class_uid]
    group = document.content.get_planar_roi_measurement_groups()[0]
    assert group.roi.ContentSequence[0].ReferencedSOPSequence[0].ReferencedSOPClassUID == sop_class_uid
    assert (document.PatientName, document.PatientAge) == ("Doe^Jane", "044Y")


def test_the_sr_of_a_source_without_type_2_attributes_passes_dciodvfy(tmp_path: Path) -> None:
    data = write_sr(sample_result(sample_image(cr(SMALL, **dict.fromkeys(SPARSE)))))
    assert_valid(data, tmp_path)
    assert read(data).ContentDate == "19700101"


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_values_that_break_their_vr_are_left_empty(tmp_path: Path) -> None:
    source = cr(SMALL, PatientSex="FEMALE", PatientAge="44", StudyTime="noon", AccessionNumber="A" * 40)
    data = write_sr(sample_result(sample_image(source)))
    assert_valid(data, tmp_path)
    document = read(data)
    assert not document.PatientSex and not document.StudyTime and not document.AccessionNumber
    assert "PatientAge" not in document


def test_content_reads_back_as_it_was_given() -> None:
    image = sample_image(us(FRAMES))
    result = sample_result(image)
    groups = read(write_sr(result)).content.get_planar_roi_measurement_groups()
    assert len(groups) == len(result.findings) == 2
    for group, finding in zip(groups, result.findings, strict=True):
        assert (group.tracking_uid, group.tracking_identifier) == (finding.tracking_uid, finding.tracking_identifier)
        assert (group.finding_type.value, group.finding_type.scheme_designator) == (finding.code.value, "SCT")
        assert [site.value.value for site in group.finding_sites] == [finding.site.value]
        measured = {str(item.name.meaning): (item.value, item.unit.value) for item in group.get_measurements()}
        assert measured["Probability"] == (pytest.approx(finding.probability * 100, abs=1e-9), "%")
        assert measured["Score"] == (finding.score, "1")
        (presence,) = group.get_qualitative_evaluations(name=PRESENCE)
        assert presence.value.meaning == ("Present" if finding.positive else "Absent")
        region = group.roi
        assert region.graphic_type.value == "POLYLINE"
        np.testing.assert_allclose(region.value, finding.region.outline, rtol=1e-6)
        reference = region.ContentSequence[0].ReferencedSOPSequence[0]
        assert reference.ReferencedSOPInstanceUID == image.instance.sop_instance_uid
        assert reference.ReferencedFrameNumber == finding.region.frame == 5


def test_single_frame_sources_are_referenced_without_a_frame_number() -> None:
    group = read(write_sr(sample_result(sample_image(cr(SMALL))))).content.get_planar_roi_measurement_groups()[0]
    assert "ReferencedFrameNumber" not in group.roi.ContentSequence[0].ReferencedSOPSequence[0]


def test_algorithm_and_device_name_the_pack_its_digest_and_the_threshold() -> None:
    document = read(write_sr(sample_result(sample_image(cr(SMALL)))))
    found = hd.sr.utils.find_content_items(document, value_type=hd.sr.ValueTypeValues.TEXT, recursive=True)
    texts = [(item.ConceptNameCodeSequence[0].CodeMeaning, item.TextValue) for item in found]
    parameters = ("label=Pneumonia", "threshold=0.5", "model_version=3", f"pipeline_digest=sha256:{PACK.digest}")
    parameters += ("licence=CC-BY-4.0", "plugin=radserve.preprocessors:median of acme 1.2")
    expected = {("Algorithm Name", "sample-pack"), ("Algorithm Version", "1.2.0")}
    expected |= {("Algorithm Parameters", parameter) for parameter in parameters}
    assert expected <= set(texts)
    assert ("Device Observer Model Name", "sample-pack") in texts


def test_what_the_result_warns_of_stands_before_the_findings(tmp_path: Path) -> None:
    foreign = ResultWarning(WarningCode.OUT_OF_DISTRIBUTION, "An image is unlike those this model learned from.")
    image = sample_image(cr(SMALL))
    data = write_sr(sample_result(image, warnings=(foreign,)))
    assert_valid(data, tmp_path)
    document = read(data)
    content = list(document.content[0].ContentSequence)
    (comment,) = [item for item in content if item.name == codes.DCM.Comment]
    assert comment.value == "An image is unlike those this model learned from. (OUT_OF_DISTRIBUTION)"
    assert content.index(comment) < [item.name for item in content].index(codes.DCM.ImagingMeasurements)
    without = read(write_sr(sample_result(image, warnings=())))
    assert codes.DCM.Comment not in [item.name for item in without.content[0].ContentSequence]
    assert without.SOPInstanceUID != document.SOPInstanceUID


def test_a_draft_is_preliminary_and_unverified() -> None:
    document = read(write_sr(sample_result(sample_image(cr(SMALL)))))
    flags = document.CompletionFlag, document.PreliminaryFlag, document.VerificationFlag
    assert flags == ("COMPLETE", "PRELIMINARY", "UNVERIFIED")


def test_a_result_that_left_series_out_is_partial() -> None:
    left_out = (ResultWarning(WarningCode.SERIES_NOT_ANALYSED, "1 series was left out."),)
    assert read(write_sr(sample_result(sample_image(cr(SMALL)), warnings=left_out))).CompletionFlag == "PARTIAL"


def test_two_writes_are_byte_identical() -> None:
    assert write_sr(sample_result(sample_image(rg1()))) == write_sr(sample_result(sample_image(rg1())))


def test_another_pack_digest_gives_other_uids_and_the_order_of_sources_does_not() -> None:
    image, other = sample_image(cr(SMALL)), sample_image(cr(SMALL + 1))
    first = read(write_sr(sample_result(image, other)))
    turned = read(write_sr(sample_result(image, other, sources=(other.source, image.source))))
    repacked = read(write_sr(sample_result(image, other, pack=replace(PACK, digest="f" * 64))))
    assert first.SOPInstanceUID == turned.SOPInstanceUID
    assert first.SOPInstanceUID != repacked.SOPInstanceUID
    assert first.SeriesInstanceUID != repacked.SeriesInstanceUID


def test_a_revised_sr_names_the_one_it_replaces(tmp_path: Path) -> None:
    result = sample_result(sample_image(cr(SMALL)))
    first = write_sr(result)
    predecessor = instance_of(first)
    data = write_sr(replace(result, revision=2, predecessor=predecessor))
    assert_valid(data, tmp_path)
    document = read(data)
    assert document.SOPInstanceUID != predecessor.sop_instance_uid
    assert "PredecessorDocumentsSequence" not in read(first)
    (study,) = document.PredecessorDocumentsSequence
    (series,) = study.ReferencedSeriesSequence
    (reference,) = series.ReferencedSOPSequence
    old = read(first)
    assert (study.StudyInstanceUID, series.SeriesInstanceUID) == (old.StudyInstanceUID, old.SeriesInstanceUID)
    assert (reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID) == (
        ComprehensiveSRStorage,
        old.SOPInstanceUID,
    )
    assert [entry[2] for entry in document.get_evidence()] == [entry[2] for entry in old.get_evidence()]


def test_content_date_is_that_of_the_study() -> None:
    document = read(write_sr(sample_result(sample_image(cr(SMALL)))))
    assert (document.ContentDate, document.ContentTime) == ("20260102", "101112")
    assert "InstanceCreationDate" not in document


@pytest.mark.parametrize("name", ["chrH31.dcm", "chrX1.dcm", "chrGreek.dcm", "chrKoreanMulti.dcm", "chrRuss.dcm"])
def test_names_in_other_scripts_and_their_character_set_are_kept(name: str, tmp_path: Path) -> None:
    original = pydicom.dcmread(get_charset_files(name)[0])
    data = write_sr(
        sample_result(
            sample_image(
                cr(SMALL, SpecificCharacterSet=original.SpecificCharacterSet, PatientName=original.PatientName)
            )
        )
    )
    document = read(data)
    assert document.PatientName == original.PatientName
    assert document.SpecificCharacterSet == original.SpecificCharacterSet
    assert_valid(data, tmp_path)


def test_a_label_beyond_the_source_character_set_turns_the_sr_into_utf_8(tmp_path: Path) -> None:
    image = sample_image(cr(SMALL, SpecificCharacterSet="ISO_IR 100", PatientName="Müller^Jürgen"))
    finding = replace(sample_finding(image), tracking_identifier="肺炎 1")
    data = write_sr(sample_result(image, findings=(finding,)))
    assert_valid(data, tmp_path)
    document = read(data)
    assert document.SpecificCharacterSet == "ISO_IR 192"
    assert document.PatientName == "Müller^Jürgen"
    assert document.content.get_planar_roi_measurement_groups()[0].tracking_identifier == "肺炎 1"


def test_the_image_library_lists_sources_that_say_enough_and_evidence_lists_all() -> None:
    full = sample_image(cr(SMALL, ImagerPixelSpacing=[0.2, 0.3]))
    sparse = sample_image(cr(SMALL + 1))
    document = read(write_sr(sample_result(full, sparse)))
    library = hd.sr.utils.find_content_items(document, name=codes.DCM.ImageLibrary, recursive=True)
    listed = hd.sr.utils.find_content_items(library[0], value_type=hd.sr.ValueTypeValues.IMAGE, recursive=True)
    assert [item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for item in listed] == [
        full.instance.sop_instance_uid
    ]
    assert {entry[2] for entry in document.get_evidence()} == {
        full.instance.sop_instance_uid,
        sparse.instance.sop_instance_uid,
    }


def test_a_finding_on_an_unknown_instance_is_refused() -> None:
    image, other = sample_image(cr(SMALL)), sample_image(cr(SMALL + 1))
    with pytest.raises(RadserveError, match=r"StudyResult\.sources") as caught:
        write_sr(sample_result(image, sources=(other.source,)))
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT


def test_a_header_that_is_not_dicom_gives_an_error_without_its_bytes() -> None:
    image = sample_image(cr(SMALL))
    broken = SourceContext(image.instance, b"Doe^Jane is not a header")
    with pytest.raises(DicomError) as caught:
        write_sr(sample_result(image, sources=(broken,)))
    assert caught.value.code is ErrorCode.INVALID_HEADER
    assert "Doe" not in str(caught.value)
