"""Every sentence of a draft names what it rests on, and one that rests on nothing is marked and counted."""

from __future__ import annotations

from dataclasses import replace

import pytest

from radserve.findings import ClinicalContext, EvidenceKind, PackRef, Report, ReportSentence
from radserve.pipelines.draft import SeriesDraft, compose_draft, template_sections
from radserve.pipelines.evidence import sentences_of
from radserve.pipelines.wording import CHINESE, ENGLISH, WORDINGS, Wording
from radserve.references import AcquisitionContext
from tests.pipelines.test_check import CHECKER, finding

PACK = PackRef("cxr-bus-mini", "1.0.0", 1, "ab" * 32)
CHEST = AcquisitionContext("CR", body_part="CHEST", view_position="PA")
FOUND = finding("Pneumonia", True)
ABSENT = replace(finding("Malignant breast lesion", False), tracking_uid="1.7")


def report(*sections: tuple[str, str], wording: Wording = ENGLISH, withheld: str = "") -> Report:
    draft = SeriesDraft(CHEST, 1, sections, (FOUND, ABSENT), withheld, series_instance_uid="1.2.3")
    return compose_draft(
        ClinicalContext("Fever", age_years=4), [draft], PACK, ["A series was not read."], wording, CHECKER.labels_of
    )


def of_section(draft: Report, name: str) -> list[ReportSentence]:
    return [each for each in draft.sentences if each.section == name]


def test_the_fixed_parts_rest_on_the_request_the_series_the_check_and_the_pack() -> None:
    draft = report()
    kinds = {
        name: [(each.kind.value, each.reference) for sentence in of_section(draft, name) for each in sentence.evidence]
        for name in ("Indication", "Technique", "Comparison", "Notice")
    }
    assert kinds == {
        "Indication": [("request", "context")] * 2,
        "Technique": [("series", "1.2.3"), ("check", "warnings")],
        "Comparison": [("request", "context")],
        "Notice": [("pack", PACK.digest)],
    }


def test_a_written_sentence_rests_on_the_finding_that_it_names() -> None:
    draft = report(("Findings", "Signs of pneumonia."), ("Impression", "Pneumonia."))
    for sentence in (*of_section(draft, "Findings"), *of_section(draft, "Impression")):
        assert [each.reference for each in sentence.evidence] == [FOUND.tracking_uid]
    assert draft.without_evidence == 0


def test_a_sentence_that_no_finding_bears_out_is_marked_and_counted() -> None:
    draft = report(("Findings", "Signs of pneumonia. The ribs are intact."))
    assert [(each.text, bool(each.evidence)) for each in of_section(draft, "Findings")] == [
        ("Signs of pneumonia.", True),
        ("The ribs are intact.", False),
    ]
    assert draft.without_evidence == 1


@pytest.mark.parametrize("wording", WORDINGS.values(), ids=str)
@pytest.mark.parametrize("positive", [True, False])
@pytest.mark.parametrize("withheld", [True, False])
def test_a_draft_from_the_findings_has_evidence_for_all_it_says(
    wording: Wording, positive: bool, withheld: bool
) -> None:
    found = finding("Pneumonia", positive)
    sections = template_sections((found,), wording)
    text = wording.withheld if withheld else ""
    draft = SeriesDraft(CHEST, 1, sections, (found,), text, series_instance_uid="1.2.3")
    whole = compose_draft(ClinicalContext(), [draft], PACK, (), wording)
    assert whole.without_evidence == 0
    written = [each for each in whole.sentences if each.section in ("Findings", "Impression")]
    kinds = {each.kind for sentence in written for each in sentence.evidence}
    assert kinds == ({EvidenceKind.FINDING, EvidenceKind.CHECK} if withheld else {EvidenceKind.FINDING})


def test_a_sentence_that_all_is_normal_rests_on_all_findings() -> None:
    findings = (finding("Pneumonia", False), ABSENT)
    assert set(CHECKER.labels_of("No finding.", findings)) == {each.label for each in findings}


def test_sentences_are_split_at_their_marks_and_not_inside_numbers() -> None:
    assert sentences_of("One of 2.5 mm. Two; three!\nFour") == ("One of 2.5 mm.", "Two;", "three!", "Four")
    assert sentences_of("未见肺炎。心影正常。") == ("未见肺炎。", "心影正常。")
    assert CHINESE.stop == ""
