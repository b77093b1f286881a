"""HL7 v2 messages against the reader of the `hl7` package, and what is malformed named by its place."""

from __future__ import annotations

import hl7
import pytest
from hypothesis import given
from hypothesis import strategies as st

from radserve.errors import ErrorCode, RequestError
from radserve.server.context.hl7_message import read_message
from tests.support.hl7 import HEADER, message


def refusal(data: bytes) -> str:
    with pytest.raises(RequestError) as caught:
        read_message(data)
    assert caught.value.code is ErrorCode.CONTEXT_INVALID
    return caught.value.client_message


def test_segments_fields_components_and_repetitions_are_those_of_the_hl7_package() -> None:
    data = message(
        "PID|1||4711^^^HOSP~0815^^^CITY||Muster^Erika^^^Dr.||19800301|F",
        "OBR|1|||71020^Chest two views^L|||||||||Fever||||||||||||||||||R05^Cough^I10~R50^Fever^I10",
        "OBX|1|NM|1988-5^CRP^LN||112|mg/L^milligram per litre^UCUM|0-5|H|||F",
        "ZZZ",
    )
    ours, theirs = read_message(data), hl7.parse(data.decode())
    assert [segment.name for segment in ours.segments] == [str(segment[0]) for segment in theirs]
    for mine, other in zip(ours.segments[1:], theirs[1:], strict=True):
        for number in range(1, len(other)):
            expected = [
                [str(component) for component in (repetition if isinstance(repetition, list) else [repetition])]
                for repetition in other[number]
            ]
            assert [list(each) for each in mine.repetitions(number)] == (expected if str(other[number]) else [])


@pytest.mark.parametrize("text", [r"a \T\ b", r"\F\\S\\R\\E\\T\x", r"one\.br\two", r"\X41420D0A\x", "plain", ""])
def test_escapes_are_resolved_as_the_hl7_package_does(text: str) -> None:
    data = message(f"NTE|1||{text}")
    theirs = hl7.parse(data.decode())
    expected = theirs.unescape(str(theirs.segment("NTE")[3])).replace("\r", "\n")
    assert read_message(data).segments[1].text(3).replace("\r", "\n") == expected


def test_formatting_leaves_the_text_alone() -> None:
    text = read_message(message(r"NTE|1||\H\bold\N\ and\.sp2\apart\.sk3\from\.in+4\it")).segments[1].text(3)
    assert text == "bold and\n\napart   fromit"


def test_a_message_may_name_its_own_separators() -> None:
    data = message("OBX!1!NM!CRP@C-reactive protein!!5*6!mg#per#L", header="MSH!@*%#!A!B!C!D!20260102!!ORU@R01!1!P!2.3")
    observation = read_message(data).segments[1]
    assert observation.text(3, 2) == "C-reactive protein"
    assert observation.repetitions(5) == (("5",), ("6",))
    assert observation.text(6) == "mg per L"
    assert read_message(data.replace(b"mg#per#L", b"%T%g")).segments[1].text(6) == "#g"


@pytest.mark.parametrize("end", ["\r", "\n", "\r\n"])
def test_segments_end_as_the_standard_says_or_as_files_do(end: str) -> None:
    assert [each.name for each in read_message(message("PID|1", "NTE|1", end=end)).segments] == ["MSH", "PID", "NTE"]


def test_the_frame_of_mllp_may_be_left_around_a_message() -> None:
    assert len(read_message(b"\x0b" + message("PID|1") + b"\x1c\r").segments) == 2


@pytest.mark.parametrize(
    ("stated", "encoding", "text"),
    [
        ("", "utf-8", "Käse"),
        ("UNICODE UTF-8", "utf-8", "Grüße 肺炎"),
        ("8859/1", "latin-1", "Fieber seit Jänner, ½ Tag"),
        ("8859/15", "iso8859-15", "œdème à 5 €"),
        ("8859/5", "iso8859-5", "кашель"),
        ("GB 18030-2000", "gb18030", "咳嗽"),
    ],
)
def test_the_character_set_is_that_of_msh_18(stated: str, encoding: str, text: str) -> None:
    data = message(f"NTE|1||{text}", header=f"{HEADER}||||||{stated}", encoding=encoding)
    assert read_message(data).segments[1].text(3) == text


@pytest.mark.parametrize(
    ("data", "place", "problem"),
    [
        (b"", "segment 1", "begins with MSH"),
        (b"FHS|^~\\&|batch\r", "segment 1", "begins with MSH"),
        (b"MSH", "segment 1 (MSH-2)", "encoding characters"),
        (b"MSH|^~\\|A|B\r", "segment 1 (MSH-2)", "3 encoding characters"),
        (b"MSH|^^\\&|A|B\r", "segment 1 (MSH-2)", "not different printable marks"),
        (message(header=f"{HEADER}||||||ISO IR87"), "segment 1 (MSH-18)", "'ISO IR87' is not supported"),
        (message("PID|1", "x"), "segment 3", "a name of three characters"),
        (message("PID^1"), "segment 2", "a name of three characters"),
        (message("NTE|1||\xe4", encoding="latin-1"), "segment 2 (NTE-3)", "not of the character set utf-8"),
    ],
)
def test_what_is_malformed_is_named_by_its_place(data: bytes, place: str, problem: str) -> None:
    text = refusal(data)
    assert text.startswith(f"{place}: ") and problem in text


@pytest.mark.parametrize("bad", ["no end\\", "\\Q\\", "\\X4\\", "\\XC3\\", "\\X\\"])
def test_a_bad_escape_is_named_by_its_field(bad: str) -> None:
    observation = read_message(message("PID|1||secret", f"OBX|1|ST|a||secret {bad}")).segments[2]
    with pytest.raises(RequestError, match=r"segment 3 \(OBX-5\)") as caught:
        observation.text(5)
    assert "secret" not in caught.value.client_message


@given(st.binary(max_size=200), st.sampled_from([b"", b"MSH|^~\\&|", HEADER.encode() + b"\r"]))
def test_any_bytes_are_a_message_or_a_coded_refusal(data: bytes, start: bytes) -> None:
    try:
        for segment in read_message(start + data).segments:
            for number in range(len(segment.fields)):
                segment.repetitions(number + 1)
    except RequestError as error:
        assert error.code is ErrorCode.CONTEXT_INVALID
