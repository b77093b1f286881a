"""The checker finds planted faults and leaves good drafts alone, in both languages."""

from __future__ import annotations

import numpy as np
import pytest

from radserve.models.train.wordings import START_TOKENS, WORDINGS
from radserve.pipelines.check import DraftCheck, Verdict
from tests.pipelines.planted_drafts import BREAST_NEGATIVE, BREAST_POSITIVE, CHEST_POSITIVE, FAULTY, GOOD, Draft
from tests.support.checking import CHECKER, finding


def check(draft: Draft) -> DraftCheck:
    (label, positive, laterality), text = draft
    return CHECKER.check(text, [finding(label, positive)], laterality)


def good_drafts() -> list[Draft]:
    """The hand-written ones, and of each wording of the default pack a spread of its reports."""
    drafts = list(GOOD)
    for wording in WORDINGS:
        for language in START_TOKENS:
            for state in (True, False):
                texts = wording.reports(state, language)
                side = "L" if wording.label.startswith("Malignant") else ""
                picked = [texts[index] for index in np.linspace(0, len(texts) - 1, 8).astype(int)]
                drafts += [((wording.label, state, side), _readable(text)) for text in picked]
    return drafts


def _readable(text: str) -> str:
    return text.replace("findings :", "Findings:").replace(" impression :", "\nImpression:")


def test_at_least_95_of_100_planted_faults_are_held() -> None:
    drafts = [draft for planted in FAULTY.values() for draft in planted]
    assert len(drafts) == 60
    missed = [text for _, text in (draft for draft in drafts if not check(draft).faults)]
    assert len(missed) <= 0.05 * len(drafts), missed


def test_at_most_5_of_100_good_drafts_are_held() -> None:
    drafts = good_drafts()
    assert len(drafts) >= 60
    held = [(draft, dict(check(draft).faults)) for draft in drafts if check(draft).faults]
    assert len(held) <= 0.05 * len(drafts), held


@pytest.mark.parametrize("verdict", FAULTY, ids=str)
def test_a_planted_fault_is_given_its_class(verdict: Verdict) -> None:
    """At least nine of ten: a text may well be faulty in two ways."""
    named = [verdict in check(draft).faults for draft in FAULTY[verdict]]
    assert sum(named) >= 0.9 * len(named), [d for d, ok in zip(FAULTY[verdict], named, strict=True) if not ok]


@pytest.mark.parametrize("language", START_TOKENS)
def test_no_wording_of_the_default_pack_is_held_for_the_right_state_and_each_for_the_wrong_one(language: str) -> None:
    for wording in WORDINGS:
        for state in (True, False):
            for text in wording.reports(state, language):
                right = CHECKER.check(_readable(text), [finding(wording.label, state)])
                assert not right.faults, text
                wrong = CHECKER.check(_readable(text), [finding(wording.label, not state)])
                assert Verdict.CONTRADICTED in wrong.faults, text
                assert wrong.contradicted == (wording.label,)


def test_a_side_that_the_header_gives_may_be_named() -> None:
    text = "Findings: Left breast.\nImpression: Suggestive of malignancy."
    label, positive, _ = BREAST_POSITIVE
    assert not CHECKER.check(text, [finding(label, positive)], "L").faults
    assert not CHECKER.check(text, [finding(label, positive)], "B").faults
    assert CHECKER.check(text, [finding(label, positive)], "R").faults == {Verdict.WRONG_LATERALITY: 1}


def test_a_finding_of_another_label_is_not_supported_by_the_findings_of_the_series() -> None:
    text = "Findings: Consistent with pneumonia.\nImpression: Suggestive of malignancy."
    checked = check((CHEST_POSITIVE, text))
    assert checked.faults == {Verdict.UNSUPPORTED: 1}


def test_every_sentence_is_listed_with_what_it_speaks_of() -> None:
    checked = check((BREAST_NEGATIVE, "Findings: Breast ultrasound. No sign of malignancy.\nImpression: Fracture."))
    assert [(each.verdict, each.labels) for each in checked.sentences] == [
        (Verdict.NEUTRAL, ()),
        (Verdict.SUPPORTED, ("Malignant breast lesion",)),
        (Verdict.UNSUPPORTED, ()),
    ]


@pytest.mark.parametrize(
    ("text", "positive", "contradicted"),
    [
        ("No sign of pneumonia.", True, True),
        ("Consistent with pneumonia.", False, True),
        ("Consistent with pneumonia. Negative for pneumonia.", True, True),
        ("Consistent with pneumonia.", True, False),
        ("Nothing said.", True, False),
    ],
)
def test_text_that_asserts_the_opposite_or_both_contradicts_the_finding(
    text: str, positive: bool, contradicted: bool
) -> None:
    assert (Verdict.CONTRADICTED in check((("Pneumonia", positive, ""), text)).faults) is contradicted
