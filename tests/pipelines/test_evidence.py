"""Every sentence of a draft names what it rests on; with one that rests on nothing no draft is built."""

from __future__ import annotations

from dataclasses import replace

import pytest

from radserve.clinical_context import ClinicalContext
from radserve.errors import ErrorCode, RadserveError
from radserve.models.catalogue import built_in_folder
from radserve.models.ontology import built_in_ontology
from radserve.models.pack import load_pack
from radserve.models.train.wordings import WORDINGS as LEARNED
from radserve.models.train.wordings import LabelWording
from radserve.pipelines.check import DraftChecker
from radserve.pipelines.claims import built_in_claims
from radserve.pipelines.draft import SeriesDraft, compose_draft, template_sections
from radserve.pipelines.evidence import Grounds, sentences_of, unborne
from radserve.pipelines.wording import CHINESE, ENGLISH, WORDINGS, Wording
from radserve.references import AcquisitionContext
from radserve.reports import EvidenceKind, Report, ReportSentence
from radserve.results import PackRef
from tests.support.checking import CHECKER, finding

PACK = PackRef("cxr-bus-mini", "1.0.0", 1, "ab" * 32)
CHEST = AcquisitionContext("CR", body_part="CHEST", view_position="PA")
FOUND = finding("Pneumonia", True)
ONTOLOGY = built_in_ontology()
PACK_CHECKER = DraftChecker(load_pack(built_in_folder() / "cxr-bus-mini").labels, built_in_claims())
ABSENT = replace(finding("Malignant breast lesion", False), tracking_uid="1.7")


def report(*sections: tuple[str, str], wording: Wording = ENGLISH, withheld: str = "") -> Report:
    draft = SeriesDraft(CHEST, 1, sections, (FOUND, ABSENT), "1.2.3", withheld)
    return compose_draft(
        ClinicalContext("Fever", age_years=4), [draft], PACK, ["A series was not read."], wording, CHECKER.labels_of
    )


def grounds(acquisition: AcquisitionContext) -> Grounds:
    found = (FOUND, ABSENT)
    return Grounds(found, acquisition, "1.2.3", PACK.digest, ENGLISH, ONTOLOGY, CHECKER.labels_of)


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


def test_a_sentence_that_nothing_bears_out_fails_the_build_of_the_draft() -> None:
    with pytest.raises(RadserveError, match="a sentence of Findings rests on nothing") as caught:
        report(("Findings", "Signs of pneumonia. The ribs are intact."))
    assert caught.value.code is ErrorCode.DRAFT_WITHOUT_EVIDENCE
    assert "ribs" not in str(caught.value)


@pytest.mark.parametrize(
    ("sentence", "kinds"),
    [
        ("Chest radiograph.", ["series"]),
        ("Single radiograph of the chest.", ["series"]),
        ("单张胸片。", ["series"]),
        ("Other conditions are not assessed.", ["pack"]),
        ("This reading does not assess other conditions.", ["pack"]),
        ("本次判读不评估其他疾病。", ["pack"]),
        ("Breast ultrasound.", []),  # the header says CR of the chest
        ("Lateral chest radiograph.", []),
        ("Other conditions are assessed.", []),
        ("The image was obtained.", []),
        ("The chest radiograph was obtained with a pacemaker.", []),
    ],
)
def test_a_sentence_on_the_image_or_its_limits_rests_on_the_headers_or_the_pack(
    sentence: str, kinds: list[str]
) -> None:
    assert [each.kind.value for each in grounds(CHEST).of(sentence)] == kinds
    assert unborne([("Findings", sentence)], grounds(CHEST)) == (() if kinds else (sentence,))


def test_what_no_header_states_is_not_denied_and_what_one_denies_is_not_said() -> None:
    assert grounds(AcquisitionContext("CR")).of("Chest radiograph.")
    assert not grounds(AcquisitionContext("CR", body_part="ABDOMEN")).of("Chest radiograph.")


@pytest.mark.parametrize("label", LEARNED, ids=lambda each: each.input_name)
@pytest.mark.parametrize("positive", [True, False])
@pytest.mark.parametrize("language", WORDINGS)
def test_every_sentence_that_the_default_pack_learned_has_evidence(
    label: LabelWording, positive: bool, language: str
) -> None:
    """Otherwise its drafts would be withheld for what they were taught to say."""
    acquisition = CHEST if label.label == "Pneumonia" else AcquisitionContext("US", body_part="BREAST")
    found = (finding(label.label, positive),)
    ground = Grounds(found, acquisition, "1.2.3", PACK.digest, WORDINGS[language], ONTOLOGY, PACK_CHECKER.labels_of)
    for text in label.reports(positive, language):
        said = text.replace(" ", "") if language == "zh" else text.replace(" .", ".").replace(" :", ":")
        sentences = said.replace("findings:", "").replace("impression:", "")
        assert unborne([("Findings", sentences)], ground) == ()


@pytest.mark.parametrize("wording", WORDINGS.values(), ids=str)
@pytest.mark.parametrize("positive", [True, False])
@pytest.mark.parametrize("withheld", ["withheld", "unsure", ""])
def test_a_draft_from_the_findings_has_evidence_for_all_it_says(
    wording: Wording, positive: bool, withheld: str
) -> None:
    found = finding("Pneumonia", positive)
    sections = template_sections((found,), wording)
    text = getattr(wording, withheld) if withheld else ""
    draft = SeriesDraft(CHEST, 1, sections, (found,), "1.2.3", text)
    whole = compose_draft(ClinicalContext(), [draft], PACK, (), wording)
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
