"""What the requester said, in the SR: all of it, where a reader of the standard looks for it, and valid."""

from __future__ import annotations

import io
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from highdicom.sr import ComprehensiveSR

from radserve.clinical_context import ClinicalContext, LaboratoryValue
from radserve.dicom_io.write_outputs import OutputKind, write_outputs
from radserve.dicom_io.write_sr import write_sr
from radserve.server.context.read import read_context
from tests.support.dicoms import cr
from tests.support.results import sample_image, sample_result
from tests.support.said import content, heading, said
from tests.support.written import assert_valid

SMALL = np.arange(64 * 48, dtype=np.uint16).reshape(64, 48)
CONTEXT = ClinicalContext(
    indication="Cough for a week\nDiagnosis: Asthma (active)\nAllergy: Iodinated contrast medium, severe",
    age_years=5 / 12,
    sex="O",
    laboratory_values=(LaboratoryValue("Creatinine", "180", "umol/L"), LaboratoryValue("Culture", "negative")),
    prior_study_instance_uid="1.2.826.0.1.3680043.8.498.1",
)


def written(context: ClinicalContext, **header: Any) -> bytes:
    return write_sr(sample_result(sample_image(cr(SMALL, **header)), context=context))


def test_every_part_of_the_request_stands_under_its_heading_and_before_the_findings(tmp_path: Path) -> None:
    data = written(CONTEXT)
    assert_valid(data, tmp_path)
    found = said(data)
    information = found["Clinical Information"]
    assert [each for each in information if each[0] not in ("Subject Age", "Subject Sex")] == [
        ("Indications for Procedure", "Cough for a week"),
        ("History", "Diagnosis: Asthma (active)"),
        ("History", "Allergy: Iodinated contrast medium, severe"),
        ("Relevant Diagnostic Tests and/or Laboratory Data", "Creatinine: 180 umol/L"),
        ("Relevant Diagnostic Tests and/or Laboratory Data", "Culture: negative"),
    ]
    measured = dict(information)
    assert measured["Subject Age"] == pytest.approx(5 / 12)
    assert measured["Subject Sex"].meaning == "Other sex"
    assert found["Prior Procedure Descriptions"] == [("Procedure Study Instance UID", CONTEXT.prior_study_instance_uid)]
    order = [heading(item) for item in content(data)]
    assert order.index("Clinical Information") < order.index("Imaging Measurements")


@pytest.mark.skipif(not Path("/usr/bin/dsrdump").exists(), reason="DCMTK is not installed (apt-get install dcmtk)")
def test_dcmtk_reads_the_request_too(tmp_path: Path) -> None:
    path = tmp_path / "sr.dcm"
    path.write_bytes(written(CONTEXT))
    done = subprocess.run(
        ["/usr/bin/dsrdump", "+Pl", str(path)], capture_output=True, text=True, timeout=60, check=True
    )
    assert 'TEXT:(,,"History")="Allergy: Iodinated contrast medium, severe"' in done.stdout
    assert 'CODE:(,,"Subject Sex")=(121102,DCM,"Other sex")' in done.stdout


def test_the_findings_read_as_without_a_request() -> None:
    groups = [
        ComprehensiveSR.from_dataset(pydicom.dcmread(io.BytesIO(data))).content.get_planar_roi_measurement_groups()
        for data in (written(CONTEXT), written(ClinicalContext()))
    ]
    assert groups[0] == groups[1] and groups[0]


def test_a_study_without_a_request_has_no_such_containers(tmp_path: Path) -> None:
    data = written(ClinicalContext())
    assert_valid(data, tmp_path)
    assert said(data) == {}


def test_control_characters_and_halves_of_surrogates_become_question_marks(tmp_path: Path) -> None:
    context = ClinicalContext(
        indication="Fever\x00 \x1b$B\x7f\r\n\r\nAllergy: nuts\x85\ud800",
        laboratory_values=(LaboratoryValue("A\nB", "1"),),
    )
    data = written(context)
    assert_valid(data, tmp_path)
    assert [value for _, value in said(data)["Clinical Information"]] == ["Fever? ?$B?", "Allergy: nuts", "?", "A B: 1"]


def test_a_request_of_64_kib_in_one_line_is_kept_whole(tmp_path: Path) -> None:
    line = "Known allergy to penicillin. " * 2260 + "End."
    data = written(ClinicalContext(indication=line))
    assert_valid(data, tmp_path)
    assert said(data)["Clinical Information"] == [("Indications for Procedure", line)]


def test_a_request_beyond_the_character_set_of_the_source_turns_the_sr_into_utf_8(tmp_path: Path) -> None:
    data = written(
        ClinicalContext(indication="咳嗽\n过敏: 碘"), SpecificCharacterSet="ISO_IR 100", PatientName="Müller"
    )
    assert_valid(data, tmp_path)
    document = pydicom.dcmread(io.BytesIO(data))
    assert (document.SpecificCharacterSet, document.PatientName) == ("ISO_IR 192", "Müller")
    assert [value for _, value in said(data)["Clinical Information"]] == ["咳嗽", "过敏: 碘"]


def test_what_an_hl7_message_says_of_allergies_and_diagnoses_is_history(tmp_path: Path) -> None:
    message = (
        "MSH|^~\\&|RIS|H|AI|H|20260102||ORM^O01|1|P|2.5\rPID|1||P1||Doe^Jane||20200101|F\r"
        "OBR|1|||^Chest PA|||20260102||||||Dyspnoea\rDG1|1||J45^Asthma\rAL1|1||^Iodinated contrast|SV|Anaphylaxis\r"
    )
    context = read_context(message.encode())
    found = said(written(context))["Clinical Information"]
    assert ("Indications for Procedure", "Dyspnoea") in found
    assert ("History", "Diagnosis: Asthma") in found
    (allergy,) = [value for name, value in found if name == "History" and "Allergy" in value]
    assert "Iodinated contrast" in allergy and "Anaphylaxis" in allergy


def test_the_same_request_gives_the_same_bytes_and_another_one_other_uids() -> None:
    same = replace(CONTEXT, age_years=CONTEXT.age_years)
    assert written(CONTEXT) == written(same)
    others = [
        ClinicalContext(),
        replace(CONTEXT, indication="Cough"),
        replace(CONTEXT, age_years=6.0),
        replace(CONTEXT, laboratory_values=CONTEXT.laboratory_values[:1]),
        replace(CONTEXT, prior_study_instance_uid=""),
    ]
    uids = {pydicom.dcmread(io.BytesIO(written(each))).SOPInstanceUID for each in (CONTEXT, *others)}
    assert len(uids) == 1 + len(others)
    series = {pydicom.dcmread(io.BytesIO(written(each))).SeriesInstanceUID for each in (CONTEXT, *others)}
    assert len(series) == 1


def test_a_report_as_pdf_that_quotes_another_request_has_another_uid() -> None:
    image = sample_image(cr(SMALL))
    one, other = (
        write_outputs(sample_result(image, context=context), [image], [OutputKind.PDF])[0].data
        for context in (CONTEXT, ClinicalContext())
    )
    assert pydicom.dcmread(io.BytesIO(one)).SOPInstanceUID != pydicom.dcmread(io.BytesIO(other)).SOPInstanceUID
