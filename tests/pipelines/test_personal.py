"""What may tell of a person is found, and what a report says of an image is not taken for that."""

from __future__ import annotations

import pytest

from radserve.pipelines.personal import name_parts, traits

KNOWN = (*name_parts("Doe^Jane^^Dr.=王^小东"), "MRN-777", "ACC9")


@pytest.mark.parametrize(
    ("text", "trait"),
    [
        ("Findings discussed with doe.", "known"),
        ("The chest of JANE is clear.", "known"),
        ("See acc9 for more.", "known"),
        ("王小东双肺清晰。", "known"),
        ("Compared with 2024-03-01.", "date"),
        ("Compared with 3 March 2024.", "date"),
        ("2024年3月1日对比。", "date"),
        ("See 1.2.840.10008.5.1 for the prior.", "identifier"),
        ("Accession given by phone.", "identifier"),
        ("Call 030 1234 5678.", "contact"),
        ("Write to a.b@example.org.", "contact"),
        ("Dr. Weber was told.", "name"),
        ("The result was given to Weber by phone.", "capitalised"),
        ("WEBER was told.", "capitalised"),
        ("Poor patient, no insurance.", "attribute"),
    ],
)
def test_what_may_tell_of_a_person_is_found_by_its_class(text: str, trait: str) -> None:
    assert trait in traits(text, KNOWN)


@pytest.mark.parametrize(
    "text",
    [
        "Findings: There is opacity in the left lower lobe, 12 mm.\nImpression: Pneumonia. Follow-up in 6 weeks.",
        "Findings: No sign of pneumonia; COPD is likely.\nImpression: No acute finding.",
        "Findings: 双肺清晰，未见肺炎征象。\nImpression: 未见肺炎。",  # noqa: RUF001
        "Doeskin gloves are not seen.",
    ],
)
def test_a_report_that_speaks_of_the_image_alone_is_let_through(text: str) -> None:
    assert traits(text, KNOWN) == ()


def test_words_that_are_usual_may_have_a_capital() -> None:
    text = "There is Malignant breast lesion."
    assert traits(text) == ("capitalised",)
    assert traits(text, words=["Malignant breast lesion"]) == ()
