"""Text metrics against values printed by independent programs, and against their definitions.

The expected numbers were printed, for the five report pairs below, by sacrebleu 2.6.0 (`corpus_bleu`, `sentence_bleu`),
rouge-score 0.1.2 (`RougeScorer(...).score_multi`, no stemmer), nltk 3.10.4 (`single_meteor_score` over the same words,
with the S-stemmer and without synonyms) and pycocoevalcap 1.2 (`Cider().compute_score` over the same words).
"""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from radserve.errors import ErrorCode, RadserveError
from radserve.evaluation.text_cider import cider
from radserve.evaluation.text_metrics import (
    bleu,
    bleu_tokens,
    longest_common,
    meteor_like,
    rouge_l,
    rouge_n,
    sentence_bleu,
    singular,
)

HYPOTHESES = [
    "The heart is normal in size. The lungs are clear. No pleural effusion or pneumothorax.",
    "There is a small left-sided pleural effusion, 1.5 cm; bibasilar atelectasis.",
    "Mild cardiomegaly without pulmonary edema.",
    "Right upper lobe opacities, concerning for pneumonia.",
    "No acute disease",
]
REFERENCES = [
    ["Heart size is normal. Lungs are clear. There is no effusion or pneumothorax.",
     "The heart is normal. The lungs are clear."],
    ["Small left pleural effusion measuring 1.5 cm with basilar atelectasis.",
     "There is a left effusion; atelectasis in both bases."],
    ["Moderate cardiomegaly with mild pulmonary edema.", "The heart is enlarged. No overt edema."],
    ["Opacity in the right upper lobe is concerning for pneumonia.",
     "Right upper lobe consolidations, likely pneumonia."],
    ["No acute cardiopulmonary disease is seen.", "No active disease."],
]  # fmt: skip


def test_bleu_equals_sacrebleu() -> None:
    score = bleu(HYPOTHESES, REFERENCES)
    assert score.score == pytest.approx(39.26574306765493, abs=1e-12)
    assert score.precisions == pytest.approx((80.0, 53.333333333333336, 32.5, 17.142857142857142), abs=1e-12)
    assert (score.brevity_penalty, score.hypothesis_length, score.reference_length) == (1.0, 50, 46)


def test_sentence_bleu_equals_sacrebleu() -> None:
    expected = [54.75235665340891, 17.96071710171446, 27.482545710800192, 44.632361378533304, 45.13864405503391]
    assert sentence_bleu(HYPOTHESES, REFERENCES) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        (1, [0.7857142857142856, 0.6666666666666667, 0.7272727272727272, 0.7058823529411764, 0.6666666666666666]),
        (2, [0.5714285714285714, 0.3636363636363636, 0.22222222222222224, 0.5333333333333333, 0.28571428571428575]),
    ],
)
def test_rouge_n_equals_rouge_score(order: int, expected: list[float]) -> None:
    assert rouge_n(HYPOTHESES, REFERENCES, order).f1 == pytest.approx(expected, abs=1e-15)


def test_rouge_l_equals_rouge_score() -> None:
    score = rouge_l(HYPOTHESES, REFERENCES)
    assert score.precision[0] == pytest.approx(0.6666666666666666, abs=1e-15)
    assert score.recall[0] == pytest.approx(0.7692307692307693, abs=1e-15)
    expected = [0.7142857142857142, 0.6666666666666667, 0.5454545454545454, 0.7058823529411764, 0.6666666666666666]
    assert score.f1 == pytest.approx(expected, abs=1e-15)


def test_meteor_like_equals_nltk_without_synonyms() -> None:
    expected = [0.9123563218390806, 0.6696428571428572, 0.534957627118644, 0.6932463707132337, 0.44834307992202727]
    assert meteor_like(HYPOTHESES, REFERENCES) == pytest.approx(expected, abs=1e-15)


def test_cider_equals_pycocoevalcap() -> None:
    scores = cider(HYPOTHESES, REFERENCES)
    assert scores == pytest.approx([2.96295928, 2.13523158, 1.51300033, 3.35405024, 1.79335613], abs=1e-8)
    assert scores.mean() == pytest.approx(2.3517195115885654, abs=1e-12)


def test_identical_reports_score_the_most() -> None:
    same = [[each] for each in HYPOTHESES]
    assert bleu(HYPOTHESES, same).score == pytest.approx(100.0)
    assert rouge_l(HYPOTHESES, same).f1 == pytest.approx([1.0] * 5)
    assert cider(HYPOTHESES, same)[:4] == pytest.approx([10.0] * 4)  # the fifth has three words: no 4-gram
    assert cider(HYPOTHESES, same)[4] == pytest.approx(7.5)


def test_reports_without_a_common_word_score_nothing() -> None:
    assert bleu(["aa bb cc dd"], [["ee ff gg hh"]]).score == 0
    assert rouge_l(["aa"], [["bb"]]).f1[0] == 0
    assert meteor_like(["aa"], [["bb"]])[0] == 0


def test_an_empty_report_scores_nothing_and_does_not_fail() -> None:
    assert sentence_bleu([""], [["No effusion."]])[0] == 0
    assert rouge_n([""], [["No effusion."]], 1).f1[0] == 0
    assert meteor_like([""], [["No effusion."]])[0] == 0
    assert rouge_l(["No effusion."], [[""]]).f1[0] == 0


def test_a_short_report_pays_the_brevity_penalty() -> None:
    score = bleu(["the lungs are clear now"], [["the lungs are clear now and there is no effusion"]])
    assert score.brevity_penalty == pytest.approx(math.exp(1 - 10 / 5))


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("1.5 cm, no 2,000.", ["1.5", "cm", ",", "no", "2,000", "."]),
        ("T1-weighted (left) A&amp;B", ["T1", "-", "weighted", "(", "left", ")", "A", "&", "B"]),
        ("left-sided\nline", ["left-sided", "line"]),
        ("", []),
    ],
)
def test_tokens_follow_the_13a_rule(text: str, tokens: list[str]) -> None:
    assert bleu_tokens(text) == tokens


@pytest.mark.parametrize(
    ("word", "stem"),
    [("opacities", "opacity"), ("effusions", "effusion"), ("masses", "masse"), ("thorax", "thorax"), ("mass", "mass")],
)
def test_the_s_stemmer_removes_plurals(word: str, stem: str) -> None:
    assert singular(word) == stem


@given(st.lists(st.sampled_from("ab"), max_size=7), st.lists(st.sampled_from("ab"), max_size=7))
def test_longest_common_is_the_longest_of_all_common_subsequences(one: list[str], other: list[str]) -> None:
    def subsequences(items: list[str]) -> set[tuple[str, ...]]:
        return {each for size in range(len(items) + 1) for each in itertools.combinations(items, size)}

    assert longest_common(one, other) == max(len(each) for each in subsequences(one) & subsequences(other))


@given(st.lists(st.text("abc ", max_size=12), min_size=2, max_size=5))
def test_scores_stay_in_their_ranges(texts: list[str]) -> None:
    references = [[each] for each in reversed(texts)]
    assert 0 <= bleu(texts, references).score <= 100 + 1e-9
    for values, top in (
        (meteor_like(texts, references), 1),
        (rouge_l(texts, references).f1, 1),
        (cider(texts, references), 10),
    ):
        assert ((values >= 0) & (values <= top + 1e-9)).all()


def test_lists_of_different_length_are_refused() -> None:
    with pytest.raises(RadserveError, match="got 1 lists of references for 2 hypotheses") as caught:
        bleu(["a", "b"], [["a"]])
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT


def test_a_report_without_reference_is_refused_by_its_row() -> None:
    with pytest.raises(RadserveError, match="row 2: got none"):
        rouge_l(["a", "b"], [["a"], []])
    with pytest.raises(RadserveError, match="row 1: got text"):
        rouge_l(["a"], ["a"])


def test_no_report_is_refused() -> None:
    with pytest.raises(RadserveError, match="got none"):
        meteor_like([], [])


def test_cider_of_one_report_is_refused() -> None:
    with pytest.raises(RadserveError, match="expected at least 2 for CIDEr"):
        cider(["a"], [["a"]])
