"""Query strings of QIDO-RS as values; a refusal names the key and never the value."""

from __future__ import annotations

import pytest

from radserve.dicom_io.dicomweb.query import FUZZY, Match, read_query
from radserve.dicom_io.dicomweb.search_attributes import ATTRIBUTES, Level
from radserve.errors import RadserveError


def test_keys_are_keywords_or_tags_and_values_follow_their_representation() -> None:
    items = [
        *(("PatientName", "Doe*"), ("00080020", "20240101-"), ("ModalitiesInStudy", "CT,MR")),
        *(("StudyInstanceUID", "1.2,1.3"), ("limit", "7"), ("offset", "2"), ("fuzzymatching", "true")),
        ("includefield", "all"),
    ]
    query = read_query(Level.STUDY, items)
    assert [(each.attribute.keyword, each.values, each.is_range) for each in query.matches] == [
        ("PatientName", ("Doe*",), False),
        ("StudyDate", ("20240101", ""), True),
        ("ModalitiesInStudy", ("CT", "MR"), False),
        ("StudyInstanceUID", ("1.2", "1.3"), False),
    ]
    assert (query.limit, query.offset, query.warnings, query.included) == (7, 2, (FUZZY,), frozenset(ATTRIBUTES))


def test_an_empty_value_matches_everything_and_is_returned() -> None:
    query = read_query(Level.STUDY, [("StudyDescription", ""), ("AccessionNumber", "*")])
    assert query.matches == ()
    assert query.included == {"00081030", "00080050"}


def test_the_uids_of_the_address_are_conditions() -> None:
    query = read_query(Level.SERIES, [], {"StudyInstanceUID": "1.2.3"})
    assert query.matches == (Match(ATTRIBUTES["0020000D"], ("1.2.3",)),)


def test_a_great_limit_is_cut() -> None:
    assert read_query(Level.STUDY, [("limit", "99999")]).limit == 1000


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("PatientNme", "secret", "neither a keyword nor a tag"),
        ("PatientName; DROP TABLE", "secret", "neither"),
        ("../../etc", "secret", "neither"),
        ("0010001", "secret", "neither"),
        ("PatientAddress", "secret", "PatientAddress is not matched"),
        ("00101040", "secret", "PatientAddress is not matched"),
        ("PerformedProcedureStepStartDate", "20240105", "is not matched for a search of study level"),
        ("00400275", "secret", "RequestAttributesSequence is not matched here"),
        ("00400275.00401001", "secret", "RequestedProcedureID is not matched for a search of study level"),
        ("RequestAttributesSequence.ReasonForTheRequestedProcedure", "secret", "is not matched here"),
        ("RequestAttributesSequence.RequestedProcedureId", "secret", "neither"),
        ("0040A730.00080100", "secret", "ContentSequence.CodeValue is not matched here"),
        (".".join(["00400275"] * 18), "secret", "neither"),
        ("SOPInstanceUID", "1.2", "not matched for a search of study level"),
        ("NumberOfStudyRelatedInstances", "5", "not matched"),
        ("StudyDate", "secret", "StudyDate is neither a value nor a range"),
        ("StudyDate", "20240101-20240131-20240201", "StudyDate"),
        ("StudyDate", "-", "StudyDate"),
        ("StudyTime", "9:30 secret", "StudyTime"),
        ("StudyInstanceUID", "1.2/../secret", "StudyInstanceUID"),
        ("StudyInstanceUID", "1" * 65, "StudyInstanceUID"),
        ("PatientID", "x" * 300, "PatientID"),
        ("PatientID", "secret\0", "NUL"),
        ("limit", "-1", "limit"),
        ("limit", "1e9", "limit"),
        ("offset", "99999999", "offset"),
        ("fuzzymatching", "perhaps", "fuzzymatching"),
        ("includefield", "secret field", "neither"),
    ],
)
def test_what_cannot_be_understood_is_refused_by_its_key(key: str, value: str, told: str) -> None:
    with pytest.raises(RadserveError, match=told) as caught:
        read_query(Level.STUDY, [(key, value)])
    assert "secret" not in caught.value.client_message


def test_keys_within_the_requests_of_a_series_are_keywords_or_tags_with_a_dot() -> None:
    items = [
        ("RequestAttributesSequence.ScheduledProcedureStepID", "S*"),
        ("00400275.00401001", "R1"),
        ("PerformedProcedureStepStartTime", "0900-"),
    ]
    query = read_query(Level.SERIES, items)
    assert [(each.attribute.column, each.values) for each in query.matches] == [
        ("scheduled_procedure_step_id", ("S*",)),
        ("requested_procedure_id", ("R1",)),
        ("start_time", ("0900", "")),
    ]
    assert query.included == {"00400275", "00400245"}, "what is returned of them is the sequence"
    asked = [("includefield", "RequestAttributesSequence.RequestedProcedureID,00081140.00081155")]
    assert read_query(Level.INSTANCE, asked).included == {"00400275", "00081140"}


def test_a_key_may_be_there_once() -> None:
    with pytest.raises(RadserveError, match="PatientID is there twice"):
        read_query(Level.STUDY, [("PatientID", "a"), ("00100020", "b")])
    with pytest.raises(RadserveError, match="StudyInstanceUID is there twice"):
        read_query(Level.SERIES, [("StudyInstanceUID", "1.2")], {"StudyInstanceUID": "1.3"})
