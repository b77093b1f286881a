"""What the training texts say: one state of one label, in words the tokenizer knows."""

from __future__ import annotations

from pathlib import Path

import pytest

from radserve.models.tokenizer import PackTokenizer
from radserve.models.train.prompt_file import load_prompts, write_prompts
from radserve.models.train.vocabulary import write_tokenizer
from radserve.models.train.wordings import START_TOKENS, WORDINGS, LabelWording, asserted_states

_STATES = (True, False)
_UNSUPPORTED = {
    "left",
    "right",
    "bilateral",
    "upper",
    "lower",
    "small",
    "large",
    "prior",
    "previous",
    "tube",
    "mm",
    "cm",
}

each_label = pytest.mark.parametrize("wording", WORDINGS, ids=lambda wording: wording.label)
each_language = pytest.mark.parametrize("language", list(START_TOKENS))
each_state = pytest.mark.parametrize("state", _STATES, ids=("present", "absent"))


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> PackTokenizer:
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    write_tokenizer(path)
    return PackTokenizer(path)


@each_label
@each_state
@each_language
def test_a_report_asserts_its_state_and_no_other_in_both_sections(
    wording: LabelWording, state: bool, language: str
) -> None:
    for report in wording.reports(state, language):
        findings, impression = report.split(" impression : ")
        assert asserted_states(findings, wording) == {state}, report
        assert asserted_states(impression, wording) == {state}, report


@each_label
@each_state
@each_language
def test_a_report_says_nothing_of_the_other_label(wording: LabelWording, state: bool, language: str) -> None:
    (other,) = (each for each in WORDINGS if each is not wording)
    assert all(not asserted_states(report, other) for report in wording.reports(state, language))


@each_label
@each_state
@each_language
def test_every_report_and_prompt_is_in_the_vocabulary(
    wording: LabelWording, state: bool, language: str, tokenizer: PackTokenizer
) -> None:
    for text in (*wording.reports(state, language), *(pair.of(state) for pair in wording.prompts)):
        ids = tokenizer.encode_words(text)
        assert tokenizer.unknown_id not in ids, text
        assert len(ids) == len(text.split())


@each_label
@each_state
@each_language
def test_a_report_has_the_length_and_sections_the_decoder_is_built_for(
    wording: LabelWording, state: bool, language: str, tokenizer: PackTokenizer
) -> None:
    for report in wording.reports(state, language):
        assert 20 <= len(tokenizer.encode_words(report)) <= 40
        text = tokenizer.pieces(tokenizer.encode_words(report))
        assert text.startswith("Findings: ") and text.count("\nImpression: ") == 1


@each_label
@each_state
@each_language
def test_a_report_claims_no_side_size_device_or_comparison(wording: LabelWording, state: bool, language: str) -> None:
    words = {word for report in wording.reports(state, language) for word in report.split()}
    assert not words & _UNSUPPORTED
    assert not any(character.isdigit() for word in words for character in word)


@each_label
@each_language
def test_the_two_states_have_different_reports_in_equal_number(wording: LabelWording, language: str) -> None:
    present, absent = (wording.reports(state, language) for state in _STATES)
    assert len(set(present)) == len(set(absent)) == len(present) == len(absent)
    assert not set(present) & set(absent)


def test_a_text_of_both_kinds_is_seen_to_contradict_itself() -> None:
    wording = WORDINGS[0]
    text = f"{wording.reports(True)[0]} {wording.reports(False)[0]}"
    assert asserted_states(text, wording) == {True, False}
    assert asserted_states("Findings: Chest radiograph.", wording) == frozenset()


@each_label
@each_state
def test_a_chinese_report_as_it_is_read_asserts_its_state(
    wording: LabelWording, state: bool, tokenizer: PackTokenizer
) -> None:
    for report in wording.reports(state, "zh"):
        text = tokenizer.pieces(tokenizer.encode_words(report))
        assert asserted_states(text, wording) == {state}, text
        assert not any(space in text.replace("Findings: ", "").replace("\nImpression: ", "") for space in " \n"), text


def test_each_language_has_a_start_token_of_its_own(tokenizer: PackTokenizer) -> None:
    ids = {language: tokenizer.special_id(token) for language, token in START_TOKENS.items()}
    assert ids["en"] == tokenizer.start_id
    assert len(set(ids.values())) == len(START_TOKENS)
    assert all(tokenizer.pieces([each]) == "" for each in ids.values())


def test_prompts_survive_the_file(tmp_path: Path) -> None:
    write_prompts(tmp_path / "prompts.toml")
    prompts = load_prompts(tmp_path / "prompts.toml")
    for wording in WORDINGS:
        positive, negative = prompts[wording.label]
        assert list(positive) == [pair.positive for pair in wording.prompts]
        assert list(negative) == [pair.negative for pair in wording.prompts]
