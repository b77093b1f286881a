"""The text side of report generation."""

from __future__ import annotations

from dataclasses import replace

from radserve.findings import CodedConcept
from radserve.models.pack_types import Assertions, PackLabel, PromptScoring
from radserve.pipelines.report import asserted_states, split_sections

LABEL = PackLabel(
    name="Pneumonia",
    code=CodedConcept("233604007", "SCT", "Pneumonia"),
    site=CodedConcept("39607008", "SCT", "Lung"),
    threshold=0.5,
    scoring=PromptScoring("prompts", 10.0),
    temperature=1.0,
    assertions=Assertions(
        positive=("consistent with pneumonia",), negative=("no sign of pneumonia", "negative for pneumonia")
    ),
)


def test_text_is_split_at_its_section_heads() -> None:
    text = "Findings: Opacity. Nothing else.\nImpression: Consistent with pneumonia."
    assert split_sections(text, ("Findings", "Impression")) == (
        ("Findings", "Opacity. Nothing else."),
        ("Impression", "Consistent with pneumonia."),
    )


def test_text_without_heads_is_the_first_section() -> None:
    assert split_sections("Some words.", ("Findings", "Impression")) == (("Findings", "Some words."),)


def test_a_colon_in_a_sentence_is_not_a_head() -> None:
    text = "Findings: View: frontal.\nNote: more."
    assert split_sections(text, ("Findings", "Impression")) == (("Findings", "View: frontal. Note: more."),)


def test_assertions_are_found_across_case_and_punctuation() -> None:
    assert asserted_states("Appearances consistent\nwith Pneumonia.", LABEL) == {True}
    assert asserted_states("There is no sign of pneumonia.", LABEL) == {False}
    assert asserted_states("Consistent with pneumonia. Negative for pneumonia.", LABEL) == {True, False}
    assert asserted_states("Other conditions are not assessed.", LABEL) == frozenset()


def test_a_denied_phrase_is_not_asserted_by_the_words_inside_it() -> None:
    label = replace(LABEL, assertions=Assertions(positive=("pneumonia",), negative=("no pneumonia",)))
    assert asserted_states("There is no pneumonia.", label) == {False}
    assert asserted_states("Pneumonia.", label) == {True}


def test_chinese_phrases_are_found_inside_a_text_without_blanks_and_longer_ones_count_first() -> None:
    label = replace(LABEL, assertions=Assertions(positive=("符合肺炎",), negative=("不符合肺炎",)))
    assert asserted_states("肺部表现符合肺炎。", label) == {True}
    assert asserted_states("表现 不 符合 肺炎", label) == {False}
