"""What may be said is enforced while tokens are chosen, whatever the model would rather say."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from radserve.models.decoding.constraint import PhraseAutomaton, ReportConstraint, normalised
from radserve.models.decoding.search import Frame, make_search

TEXT = (
    "<pad> <start> <end> <unk> findings impression technique : . , opacity definite cancer poor prognosis start "
    "antibiotics compared with the prior image 肺 炎 确诊 癌 确 诊癌 预后 差 x - ray"
)
WORDS = TEXT.split()
START, END = 1, 2
SILENT = (0, 1, 3)
HEADS = [[WORDS.index("findings"), WORDS.index(":")], [WORDS.index("impression"), WORDS.index(":")]]
PHRASES = ("definite cancer", "poor prognosis", "start antibiotics", "compared with the prior", "确诊癌", "预后差")
STRATEGIES = {
    "greedy": {},
    "beam": {"beams": 3},
    "sample": {"temperature": 2.0, "seed": 7},
}


def ids(text: str) -> list[int]:
    return [WORDS.index(word) for word in text.split()]


def constraint(phrases: Sequence[str] = PHRASES, *, grammar: bool = True) -> ReportConstraint:
    return ReportConstraint(WORDS, END, SILENT, HEADS if grammar else (), phrases)


def decode(planted: str, strategy: str, rules: ReportConstraint | None, tokens: int = 24) -> str:
    """What a model writes that wants `planted` and then its end at every place, held by the rules."""
    wanted = [*ids(planted), END]
    noise = np.random.default_rng(1).standard_normal((tokens + 1, len(WORDS))) * 0.5
    search = make_search(Frame(START, END, tokens, rules), strategy, **STRATEGIES[strategy])
    said: list[int] = []
    for place in range(tokens):
        logits = np.tile(noise[place], (len(search.tokens), 1))
        logits[:, wanted[min(place, len(wanted) - 1)]] += 9
        said += search.advance(logits).tokens
        if search.finished:
            break
    return " ".join(WORDS[token] for token in said)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("claim", ["definite cancer", "poor prognosis", "start antibiotics", "compared with the prior"])
def test_a_planted_claim_is_not_written_by_any_strategy(strategy: str, claim: str) -> None:
    planted = f"findings : opacity . {claim} . impression : opacity ."
    assert claim in decode(planted, "greedy", None)
    written = decode(planted, strategy, constraint())
    assert normalised(claim) not in normalised(written)
    assert written.startswith("findings :")


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("claim", ["确诊 癌", "确 诊癌", "预后 差"])
def test_a_chinese_claim_is_found_however_it_is_cut_into_tokens(strategy: str, claim: str) -> None:
    planted = f"findings : 肺 炎 . {claim} . impression : 肺 炎 ."
    assert claim in decode(planted, "greedy", None)
    assert claim.replace(" ", "") not in decode(planted, strategy, constraint()).replace(" ", "")


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize(
    "planted",
    [
        "findings : opacity . impression : opacity . findings : opacity .",  # a section twice
        "impression : opacity . findings : opacity .",  # in the wrong order
        "opacity . impression : opacity .",  # text before the first section
        "findings : impression : opacity .",  # an empty section
        "findings : opacity .",  # the last section is missing
        "",
    ],
)
def test_sections_come_in_order_each_once_and_say_something(strategy: str, planted: str) -> None:
    written = decode(planted, strategy, constraint())
    assert written.startswith("findings : ")
    assert written.count("findings :") == 1
    assert written.count("impression :") <= 1
    first, _, last = written.partition("impression :")
    assert len(first.split()) > 2
    assert last.strip() or "impression :" not in written


def test_a_report_that_keeps_the_rules_is_left_as_it_is() -> None:
    planted = "findings : opacity , the image . impression : opacity ."
    assert decode(planted, "greedy", constraint()) == planted


def test_the_word_of_a_section_may_stand_in_a_sentence() -> None:
    planted = "findings : the impression . impression : opacity ."
    assert decode(planted, "greedy", constraint()) == planted


def test_special_tokens_are_never_chosen() -> None:
    rules = constraint(grammar=False)
    state = rules.step(rules.start(), WORDS.index("opacity"))
    allowed = rules.allowed(state)
    assert [bool(allowed[token]) for token in (*SILENT, END)] == [False, False, False, True]


def test_a_phrase_does_not_reach_over_the_end_of_a_sentence_and_marks_do_not_hide_it() -> None:
    automaton = PhraseAutomaton(["definite cancer", "x ray"])

    def completes(text: str) -> bool:
        return automaton.feed(automaton.start, normalised(text)) is None

    assert completes("This is definite, cancer")
    assert completes("a DEFINITE\ncancer")
    assert completes("an X-ray")
    assert not completes("definite. Cancer")
    assert not completes("definite cancerous")
    assert not completes("indefinite cancer")


def test_phrases_that_share_their_beginnings_are_all_found() -> None:
    automaton = PhraseAutomaton(["new since the prior", "since then", "the prior"])
    for text, found in (
        ("new since then", True),
        ("new since the prior", True),
        ("of the prior", True),
        ("new", False),
    ):
        assert (automaton.feed(automaton.start, normalised(text)) is None) is found


def test_normalised_text_has_words_between_blanks_and_chinese_without() -> None:
    assert normalised("CT显示 Opacity; 肺炎。") == " ct 显示 opacity | 肺炎 | "


def test_where_nothing_may_follow_the_text_ends() -> None:
    rules = ReportConstraint(["<end>", "a", "b"], 0, (), (), ["a", "b"])
    search = make_search(Frame(0, 0, 5, rules))
    search.advance(np.zeros((1, 3)))
    assert search.finished


def test_a_phrase_of_byte_pairs_is_found_however_its_words_are_cut() -> None:
    words = ["<|end|>", "def", "inite</w>", "definite</w>", "can", "cer</w>", "cancer</w>", "cerous</w>", ".</w>"]
    rules = ReportConstraint(words, 0, (), (), ["definite cancer"])

    def last_is_allowed(*tokens: str) -> bool:
        state = rules.start()
        for token in tokens[:-1]:
            state = rules.step(state, words.index(token))
        return bool(rules.allowed(state)[words.index(tokens[-1])])

    assert not last_is_allowed("def", "inite</w>", "can", "cer</w>")
    assert not last_is_allowed("definite</w>", "cancer</w>")
    assert last_is_allowed("definite</w>", "can", "cerous</w>")
    assert last_is_allowed("definite</w>", ".</w>", "cancer</w>")


VOCABULARIES = {
    "CLIP": ["<e>", "def", "inite</w>", "can", "cer</w>", "cancer</w>", ".</w>"],
    "GPT-2": ["<e>", "\u0120def", "inite", "\u0120can", "cer", "\u0120cancer", "\u0120."],
    "WordPiece": ["<e>", "def", "##inite", "can", "##cer", "cancer", "."],
    "SentencePiece": ["<e>", "\u2581def", "inite", "\u2581can", "cer", "\u2581cancer", "."],
}


@pytest.mark.parametrize("name", VOCABULARIES)
@pytest.mark.parametrize("cut", [[1, 2, 3, 4], [1, 2, 5]])
def test_a_phrase_is_found_in_the_tokens_of_every_kind_of_vocabulary(name: str, cut: list[int]) -> None:
    rules = ReportConstraint(VOCABULARIES[name], 0, (), (), ["definite cancer"])
    state = rules.start()
    for token in cut[:-1]:
        assert rules.allowed(state)[token]
        state = rules.step(state, token)
    assert not rules.allowed(state)[cut[-1]]
    apart = rules.step(state, 6)  # the end of a sentence between them
    assert rules.allowed(apart)[5]


def test_a_text_does_not_end_on_a_phrase_whose_last_word_could_have_gone_on() -> None:
    rules = ReportConstraint(["<e>", "can", "cer", "ous</w>"], 0, (), (), ["cancer"])
    state = rules.step(rules.step(rules.start(), 1), 2)
    assert rules.allowed(state).tolist() == [False, True, True, True]


def test_bytes_that_are_part_of_a_character_are_not_chosen_and_whole_ones_are_read() -> None:
    shown = "".join(chr(byte if byte > 0xA0 and byte != 0xAD else 0x100 + 33 + byte - 0x7F) for byte in "癌".encode())
    words = ["<e>", f"{shown}</w>", f"{shown[:2]}</w>", "x</w>"]
    rules = ReportConstraint(words, 0, (), (), ["癌"])
    assert rules.allowed(rules.start()).tolist() == [False, False, False, True]
    assert ReportConstraint(words, 0, (), (), ["诊"]).allowed(rules.start()).tolist() == [False, True, False, True]
