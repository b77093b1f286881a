"""The structured draft holds everything the requester said, and says that it is a draft."""

# ruff: noqa: RUF001

from __future__ import annotations

import pytest

from radserve.clinical_context import ClinicalContext, LaboratoryValue
from radserve.errors import RadserveError
from radserve.pipelines.draft import WITHHELD, SeriesDraft, compose_draft, template_sections
from radserve.pipelines.wording import CHINESE, WORDINGS, Wording, wording_of
from radserve.references import AcquisitionContext
from radserve.reports import Report
from radserve.results import PackRef
from tests.support.checking import CHECKER, finding

PACK = PackRef("cxr-bus-mini", "1.0.0", 1, "ab" * 32)
CHEST = AcquisitionContext("CR", body_part="CHEST", view_position="PA")
WRITTEN = (("Findings", "Opacity of pneumonia."), ("Impression", "Pneumonia."))
FOUND = (finding("Pneumonia", True),)


def sections(report: Report) -> dict[str, str]:
    return {section.name: section.text for section in report.sections}


def test_clinical_context_stands_in_the_draft_word_for_word() -> None:
    context = ClinicalContext(
        indication="Fever, 3 days; rule out pneumonia",
        age_years=4,
        sex="F",
        laboratory_values=(LaboratoryValue("CRP", "120", "mg/L"), LaboratoryValue("WBC", "high")),
        prior_study_instance_uid="1.2.3",
    )
    report = compose_draft(context, [SeriesDraft(CHEST, 1, WRITTEN, FOUND, "1.2.3")], PACK)
    for given in ("Fever, 3 days; rule out pneumonia", "Age: 4 years.", "Sex: F.", "CRP: 120 mg/L.", "WBC: high."):
        assert given in sections(report)["Indication"]
    assert "1.2.3" in sections(report)["Comparison"]
    assert "No comparison was made" in sections(report)["Comparison"]


def test_without_context_the_draft_says_so() -> None:
    report = compose_draft(ClinicalContext(), [SeriesDraft(CHEST, 1, WRITTEN, FOUND, "1.2.3")], PACK)
    assert sections(report)["Indication"] == "Not given."
    assert sections(report)["Comparison"] == "None."


def test_sections_come_in_the_order_of_a_report_and_the_text_holds_them_all() -> None:
    report = compose_draft(ClinicalContext(), [SeriesDraft(CHEST, 2, WRITTEN, FOUND, "1.2.3")], PACK)
    names = [section.name for section in report.sections]
    assert names == [
        "Indication",
        "Technique",
        "Comparison",
        "Findings",
        "Impression",
        "Model findings",
        "Notice",
    ]
    assert sections(report)["Technique"] == "CR, CHEST, view PA, 2 images."
    assert all(section.text in report.text for section in report.sections)
    assert report.status == "draft"
    assert "Not verified by a person" in report.text


def test_withheld_text_does_not_stand_in_the_draft() -> None:
    report = compose_draft(ClinicalContext(), [SeriesDraft(CHEST, 1, WRITTEN, (), "1.2.3", withheld=WITHHELD)], PACK)
    assert sections(report)["Findings"] == WITHHELD
    assert "Opacity" not in report.text


def test_several_series_are_told_apart() -> None:
    drafts = [
        SeriesDraft(CHEST, 1, WRITTEN, FOUND, "1.2.3"),
        SeriesDraft(CHEST, 1, (("Findings", "No pneumonia."),), FOUND, "1.2.4"),
    ]
    report = compose_draft(ClinicalContext(), drafts, PACK)
    assert sections(report)["Findings"] == "Series 1: Opacity of pneumonia.\nSeries 2: No pneumonia."
    assert sections(report)["Impression"] == "Series 1: Pneumonia."


def test_in_chinese_everything_but_the_heads_is_chinese_and_the_requester_stands_word_for_word() -> None:
    context = ClinicalContext(indication="Fever", age_years=4, prior_study_instance_uid="1.2.3")
    report = compose_draft(
        context, [SeriesDraft(CHEST, 2, WRITTEN, (), "1.2.3", withheld=CHINESE.withheld)], PACK, wording=CHINESE
    )
    assert sections(report)["Findings"] == CHINESE.withheld
    assert sections(report)["Indication"] == "Fever\n年龄：4 岁。"
    assert sections(report)["Comparison"] == "申请中提及既往检查 1.2.3，未作比较。"
    assert "2 幅图像" in sections(report)["Technique"]
    assert "仅供研究使用" in sections(report)["Notice"]


@pytest.mark.parametrize("wording", WORDINGS.values(), ids=WORDINGS)
def test_a_draft_that_replaces_a_text_says_the_findings_and_passes_the_checker(wording: Wording) -> None:
    for state in (True, False):
        found = finding("Pneumonia", state)
        draft = SeriesDraft(CHEST, 1, WRITTEN, (found,), "1.2.3", withheld=wording.withheld)
        report = compose_draft(ClinicalContext(), [draft], PACK, wording=wording)
        assert sections(report)["Findings"].startswith(wording.withheld)
        text = "\n".join(f"{name}: {text}" for name, text in template_sections((found,), wording))
        assert dict(template_sections((found,), wording))["Impression"] in sections(report)["Impression"]
        assert not CHECKER.check(text, [found]).faults
    assert "Opacity" not in report.text


def test_a_language_without_a_wording_is_refused_by_name() -> None:
    with pytest.raises(RadserveError, match=r"got 'fr', expected one of \['en', 'zh'\]"):
        wording_of("fr")
