"""Clinical context from messages and resources: everything said is there, in both forms alike; what is bad is named."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from radserve.clinical_context import ClinicalContext, LaboratoryValue
from radserve.errors import ErrorCode, RequestError
from radserve.server.context.read import combined, read_context, read_context_file
from tests.support.hl7 import HEADER, message

ORDER = (
    "PID|1||4711||Muster^Erika||19800301|F",
    "ORC|NW|1|||||||20260102",
    r"OBR|1|||71020^Chest two views^L|||20260102110000||||||Fever \T\ cough\.br\no trauma" + 18 * "|" + "R05^Cough^I10",
    "DG1|1||J18.9^Pneumonia?^I10",
    "AL1|1||^Iodine contrast|SV|Rash",
    "NTE|1||Please call back",
    "OBX|1|NM|1988-5^CRP^LN||112|mg/L|<5|H|||F",
    "OBX|2|SN|718-7^Haemoglobin^LN||>^12|g/dL|||||F",
    "OBX|3|CWE|72166-2^Smoker^LN||Y^Yes||||||W",
    "OBX|4|NM|X^Odd value^L||about five|bushels||||P|",
    "OBX|5|ED|PDF^Letter^L||^application^pdf^Base64^AAAA",
)
BUNDLE: dict[str, Any] = {
    "resourceType": "Bundle",
    "type": "collection",
    "entry": [
        {"resource": {"resourceType": "Patient", "gender": "female", "birthDate": "1980-03-01"}},
        {
            "resource": {
                "resourceType": "ServiceRequest",
                "status": "active",
                "intent": "order",
                "subject": {"reference": "Patient/1"},
                "authoredOn": "2026-01-02",
                "code": {"text": "Chest two views"},
                "reasonCode": [{"coding": [{"code": "R05", "display": "Cough"}]}],
                "note": [{"text": "Fever & cough\nno trauma"}],
            }
        },
        {
            "resource": {
                "resourceType": "Observation",
                "status": "final",
                "code": {"text": "CRP"},
                "valueQuantity": {"value": 112, "unit": "mg/L"},
                "interpretation": [{"coding": [{"code": "H"}]}],
            }
        },
        {
            "resource": {
                "resourceType": "Observation",
                "status": "entered-in-error",
                "code": {"coding": [{"code": "718-7"}]},
                "valueQuantity": {"value": 12.50, "comparator": ">", "unit": "bushels"},
            }
        },
        {
            "resource": {
                "resourceType": "Observation",
                "status": "final",
                "code": {"text": "Blood pressure"},
                "component": [
                    {"code": {"text": "systolic"}, "valueQuantity": {"value": 120, "unit": "mmHg"}},
                    {"code": {"text": "diastolic"}, "dataAbsentReason": {"text": "not measured"}},
                ],
            }
        },
        {
            "resource": {
                "resourceType": "AllergyIntolerance",
                "patient": {"reference": "Patient/1"},
                "code": {"text": "Iodine contrast"},
            }
        },
        {"resource": {"resourceType": "Device", "deviceName": [{"name": "Pacemaker", "type": "user-friendly-name"}]}},
    ],
}


def bundle(**changes: Any) -> bytes:
    """The sample; `changes` name elements by entry and path: _0_birthDate="x"."""
    made = copy.deepcopy(BUNDLE)
    for path, value in changes.items():
        _, entry, name = path.split("_", 2)
        made["entry"][int(entry)]["resource"][name] = value
    return json.dumps(made).encode()


def refusal(data: bytes) -> str:
    with pytest.raises(RequestError) as caught:
        read_context(data)
    assert caught.value.code is ErrorCode.CONTEXT_INVALID
    return caught.value.client_message


def test_an_order_gives_everything_it_says() -> None:
    found = read_context(message(*ORDER))
    assert (found.age_years, found.sex) == (45.0, "F")
    assert found.indication.split("\n") == [
        "Cough",
        "Fever & cough",
        "no trauma",
        "Requested: Chest two views",
        "Diagnosis: Pneumonia?",
        "Allergy: Iodine contrast, SV, Rash",
        "Note: Please call back",
    ]
    assert found.laboratory_values == (
        LaboratoryValue("CRP", "112 (flag H)", "mg/L"),
        LaboratoryValue("Haemoglobin", ">12", "g/dL"),
        LaboratoryValue("Smoker", "Yes (withdrawn as wrong)", ""),
        LaboratoryValue("Odd value", "about five", "bushels"),
        LaboratoryValue("Letter", "[encapsulated data, not shown]", ""),
    )


def test_resources_give_everything_they_say() -> None:
    found = read_context(bundle())
    assert (found.age_years, found.sex) == (45.0, "F")
    assert found.indication.split("\n") == [
        "Cough",
        "Fever & cough",
        "no trauma",
        "Requested: Chest two views",
        "Allergy: Iodine contrast",
        "Not read from the request: 1 Device.",
    ]
    assert found.laboratory_values == (
        LaboratoryValue("CRP", "112 (H)", "mg/L"),
        LaboratoryValue("718-7", ">12.5 (entered-in-error)", "bushels"),
        LaboratoryValue("Blood pressure: systolic", "120", "mmHg"),
        LaboratoryValue("Blood pressure: diastolic", "[no value: not measured]", ""),
    )


@pytest.mark.parametrize(
    ("birth", "at", "years"),
    [
        ("19800103", "20260102", 45),
        ("19800102", "20260102", 46),
        ("20260102", "20260102", 0),
        ("20240229", "20260228", 1),
    ],
)
def test_the_age_is_counted_in_completed_years_on_the_day_of_the_order(birth: str, at: str, years: int) -> None:
    assert read_context(message(f"PID|1||1||A||{birth}|M", f"OBR|1||||||{at}0800")).age_years == years
    day = f"{birth[:4]}-{birth[4:6]}-{birth[6:]}"
    authored = f"{at[:4]}-{at[4:6]}-{at[6:]}T08:00:00Z"
    assert read_context(bundle(_0_birthDate=day, _1_authoredOn=authored)).age_years == years


@pytest.mark.parametrize("data", [message("PID|1||1||A||1980|M"), bundle(_0_birthDate="1980")])
def test_a_year_of_birth_alone_gives_no_age_and_says_so(data: bytes) -> None:
    found = read_context(data)
    assert found.age_years is None
    assert "The date of birth is given without its day: the age is not known." in found.indication


@pytest.mark.parametrize(
    ("code", "sex"), [("M", "M"), ("f", "F"), ("A", "O"), ("O", "O"), ("U", ""), ("N", ""), ("", "")]
)
def test_the_sexes_of_hl7_are_those_of_dicom(code: str, sex: str) -> None:
    found = read_context(message(f"PID|1||1||A|||{code}"))
    assert (found.sex, found.indication) == (sex, "")


def test_an_unknown_code_of_sex_stays_as_it_came() -> None:
    assert read_context(message("PID|1||1||A|||X")).indication == "Administrative sex: X"


def test_segments_that_are_not_read_are_named() -> None:
    assert read_context(message("PID|1||1", "RXO|1", "RXO|2")).indication == "Not read from the message: 2 RXO."


@pytest.mark.parametrize(
    ("data", "place"),
    [
        (message(header=HEADER.replace("ORM^O01", "ADT^A01")), "segment 1 (MSH-9)"),
        (message(header=HEADER.replace("2.5.1", "3")), "segment 1 (MSH-12)"),
        (message("PID|1||1||SECRET||1980-03-01"), "segment 2 (PID-7)"),
        (message("PID|1||1||SECRET||19800231"), "segment 2 (PID-7)"),
        (message("PID|1||1||SECRET||21000101"), "segment 2 (PID-7)"),
        (message("PID|1||1||SECRET", "PID|1||2||OTHER"), "segment 3 (PID-3)"),
        (message("PID|1||1||SECRET", r"OBX|1|ST|a||SECRET \Q\ "), "segment 3 (OBX-5)"),
        (message("OBX|1|ST|||SECRET"), "segment 2 (OBX-3)"),
        (b"SECRET", "the document"),
        (b'{"resourceType": "SECRET', "the document"),
        (b'{"resourceType": "Medication"}', "resourceType"),
        (b"[" * 100_000, "the document"),
        (b'{"a":' * 100_000, "the document"),
        (b'{"resourceType": "Bundle", "entry": [{"resource": {"resourceType": "SECRET"}}]}', "Bundle.entry.0.resource"),
        (bundle(_0_birthDate="SECRET"), "Bundle.entry.0.resource.birthDate"),
        (bundle(_0_birthDate="2100-01-01"), "Patient.birthDate"),
        (bundle(_2_status=["SECRET"]), "Bundle.entry.2.resource.status"),
        (bundle(_2_code="SECRET"), "Bundle.entry.2.resource.code"),
        (bundle(_2_resourceType="Patient"), "Bundle.entry.2.resource"),
        (b"MSH|^~\\&|" + b"x" * (1 << 20), "the message"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_named_by_its_place_and_without_a_value(data: bytes, place: str) -> None:
    text = refusal(data)
    assert text.startswith(place)
    assert "SECRET" not in text


def test_a_message_cut_anywhere_is_context_or_a_coded_refusal() -> None:
    for data in (message(*ORDER), bundle()):
        for length in range(0, len(data), 7):
            try:
                assert isinstance(read_context(data[:length]), ClinicalContext)
            except RequestError as error:
                assert error.code is ErrorCode.CONTEXT_INVALID


def test_what_is_stated_holds_and_what_is_sent_along_adds_to_it() -> None:
    stated = ClinicalContext("Cough", 46.0, "", (LaboratoryValue("WBC", "12"),), "1.2")
    both = combined(stated, ClinicalContext("Cough\nFever", 45.0, "F", (LaboratoryValue("CRP", "112", "mg/L"),)))
    assert (both.age_years, both.sex, both.prior_study_instance_uid) == (46.0, "F", "1.2")
    assert both.indication == "Cough\nCough\nFever"
    assert [each.name for each in both.laboratory_values] == ["WBC", "CRP"]


def test_a_file_that_is_not_there_is_a_coded_refusal(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="No such file") as caught:
        read_context_file(tmp_path / "SECRET.hl7")
    assert "SECRET" not in caught.value.client_message
