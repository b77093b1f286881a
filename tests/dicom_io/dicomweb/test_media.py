"""What a client accepts decides what it gets (PS3.18 section 8.7)."""

from __future__ import annotations

import pytest

from radserve.dicom_io.dicomweb.media import (
    FrameForm,
    InstanceForm,
    NotAcceptableError,
    accepted,
    choose,
    frame_form,
    instance_form,
    media_type,
)
from radserve.errors import RequestError

LITTLE, JPEG_LS, JPEG = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.50"
MULTI = 'multipart/related; type="application/dicom"'


def test_a_media_type_has_its_parameters() -> None:
    found = media_type('Multipart/Related ; Type="application/dicom"; boundary="a;b\\"c"; x=y/z;')
    assert found.name == "multipart/related"
    assert found.parameters == {"type": "application/dicom", "boundary": 'a;b"c', "x": "y/z"}


@pytest.mark.parametrize(
    "text", ["", "text", "a/b; c", 'a/b; c="', "a/b, c/d", "a/b; c=1; C=2", "a/b;;c=d e", "a/b \0"]
)
def test_text_that_is_no_media_type_is_refused(text: str) -> None:
    with pytest.raises(RequestError):
        media_type(text)


def test_ranges_come_by_quality_then_by_their_order() -> None:
    found = accepted('image/png;q=0.5, image/jpeg, */*;q=0.1, text/plain;q=0, application/x;a="1,2"')
    assert [each.name for each in found] == ["image/jpeg", "application/x", "image/png", "*/*"]
    assert [each.name for each in accepted(" ")] == ["*/*"]
    with pytest.raises(RequestError):
        accepted("a/b;q=2.5")


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", InstanceForm(True, (LITTLE,))),
        (MULTI, InstanceForm(True, (LITTLE,))),
        (f"{MULTI}; transfer-syntax=*", InstanceForm(True, ("*",))),
        (f"{MULTI}; transfer-syntax={JPEG_LS}, {MULTI}; q=0.5", InstanceForm(True, (JPEG_LS, LITTLE))),
        ("application/dicom; transfer-syntax=*", InstanceForm(False, ("*",))),
        ("multipart/related; type=application/dicom", InstanceForm(True, (LITTLE,))),
    ],
)
def test_instances_are_given_as_they_are_accepted(accept: str, expected: InstanceForm) -> None:
    assert instance_form(accepted(accept), single=True) == expected


def test_a_study_is_not_given_as_one_file() -> None:
    with pytest.raises(NotAcceptableError):
        instance_form(accepted("application/dicom"), single=False)
    with pytest.raises(NotAcceptableError):
        instance_form(accepted('multipart/related; type="application/dicom+xml"'), single=True)


def test_an_instance_keeps_its_syntax_where_it_may_and_is_decoded_where_that_is_wanted() -> None:
    assert InstanceForm(True, ("*",)).choose(JPEG_LS) == JPEG_LS
    assert InstanceForm(True, (JPEG, LITTLE)).choose(JPEG_LS) == LITTLE
    assert InstanceForm(True, (JPEG,)).choose(JPEG_LS) is None
    assert InstanceForm(True, (JPEG, JPEG_LS)).choose(JPEG_LS) == JPEG_LS


OCTETS = 'multipart/related; type="application/octet-stream"'


@pytest.mark.parametrize(
    ("accept", "stored", "expected"),
    [
        ("", JPEG_LS, FrameForm(True, "application/octet-stream", LITTLE, True)),
        (OCTETS, JPEG_LS, FrameForm(True, "application/octet-stream", LITTLE, True)),
        ("multipart/related; type=application/octet-stream; transfer-syntax=*", JPEG_LS,
         FrameForm(True, "application/octet-stream", JPEG_LS, False)),
        ("multipart/related; type=application/octet-stream; transfer-syntax=*", LITTLE,
         FrameForm(True, "application/octet-stream", LITTLE, True)),
        ('multipart/related; type="image/jls"', JPEG_LS, FrameForm(True, "image/jls", JPEG_LS, False)),
        (f'multipart/related; type="image/jpeg"; transfer-syntax={JPEG}', JPEG,
         FrameForm(True, "image/jpeg", JPEG, False)),
        (f'multipart/related; type="image/jpeg"; q=0.9, {OCTETS}; q=0.1', JPEG_LS,
         FrameForm(True, "application/octet-stream", LITTLE, True)),
        ("application/octet-stream", JPEG_LS, FrameForm(False, "application/octet-stream", LITTLE, True)),
    ],
)  # fmt: skip
def test_frames_are_given_as_they_are_accepted(accept: str, stored: str, expected: FrameForm) -> None:
    assert frame_form(accepted(accept), stored, single=True) == expected


@pytest.mark.parametrize(
    "accept", ['multipart/related; type="image/jpeg"', f"{OCTETS}; transfer-syntax={JPEG}", "text/html", "image/png"]
)
def test_frames_that_cannot_be_given_so_are_not_given(accept: str) -> None:
    with pytest.raises(NotAcceptableError):
        frame_form(accepted(accept), JPEG_LS, single=True)


def test_the_most_wanted_of_what_is_offered_is_chosen() -> None:
    assert choose(accepted("image/*;q=0.5, image/png"), ("image/jpeg", "image/png")) == "image/png"
    assert choose(accepted("*/*"), ("image/jpeg", "image/png")) == "image/jpeg"
    with pytest.raises(NotAcceptableError, match="image/jpeg"):
        choose(accepted("image/gif"), ("image/jpeg",))
