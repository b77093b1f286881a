"""Questions with known answers: single-choice, multiple-choice, limited and open, from a JSON-lines file.

One object per line: `id`, `type`, `dimension`, `question`, `options` (choices only), `answer` (a text; for multiple a
list of texts; for limited the accepted texts). Options are shuffled by a seed, so that a habit of saying "A" earns no
more than chance. What cannot be read as one choice is wrong, never a guess.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from radserve.evaluation.rates import Rate, proportion
from radserve.evaluation.tables import refusal
from radserve.evaluation.text_metrics import rouge_l, words

LETTERS = "ABCDEFGHIJ"
_ANSWER_IS = re.compile(r"(?:answers?|options?|choices?)(?:\s+(?:is|are|would be))?\s*[:=]?\s*", re.IGNORECASE)
_ANY_WORDS = re.compile(r"\w+")
_LONE = re.compile(r"^\W*([A-Ja-j])(?:\W.*)?$", re.DOTALL)
_MARKED = re.compile(r"(?:^|[\s(\[*])([A-J])(?=[\s).,:;\]*!?]|$)")
_ARTICLE = re.compile(r"^\W*(?:a|i)\s+[a-z]", re.IGNORECASE)


class QuestionType(StrEnum):
    """How a question is answered: by one option, several, a short text out of a list, or free text."""

    SINGLE = "single"
    MULTIPLE = "multiple"
    LIMITED = "limited"
    OPEN = "open"


@dataclass(frozen=True)
class Question:
    """One question; `options` is empty but for choices, `answers` are texts (of `options` for choices)."""

    identifier: str
    kind: QuestionType
    dimension: str
    text: str
    options: tuple[str, ...]
    answers: tuple[str, ...]


@dataclass(frozen=True)
class Outcome:
    """One answered question: what was chosen (option texts, or the words given), and its score, 0 to 1."""

    identifier: str
    dimension: str
    chosen: tuple[str, ...]
    score: float


def read_questions(path: Path) -> tuple[Question, ...]:
    """Read questions. Raises RadserveError INVALID_ARGUMENT naming line, entry and value."""
    read = tuple(_question(number, each) for number, each in enumerate(read_lines(path), start=1))
    seen: set[str] = set()
    for number, each in enumerate(read, start=1):
        if each.identifier in seen:
            raise refusal(f"questions, line {number}: the id {each.identifier!r} is given twice")
        seen.add(each.identifier)
    return read


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read a file of JSON objects, one per line; blank lines are skipped."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise refusal(f"questions: {path.name!r} cannot be read: {type(error).__name__}") from error
    read = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                each = json.loads(line)
            except ValueError as error:
                raise refusal(f"questions, line {number}: not JSON: {error}") from error
            if not isinstance(each, dict):
                raise refusal(f"questions, line {number}: got a {type(each).__name__}, expected an object")
            read.append(each)
    if not read:
        raise refusal(f"questions: {path.name!r} has none")
    return read


def shuffled(question: Question, seed: int) -> tuple[str, ...]:
    """Return the options in the order of this seed: the same seed and id give the same order on every machine."""
    order = list(question.options)
    random.Random(f"{seed}:{question.identifier}").shuffle(order)  # noqa: S311  (not for security)
    return tuple(order)


def prompt(question: Question, options: Sequence[str]) -> str:
    """Return the text to ask: the question, then the lettered options."""
    lettered = [f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=False)]
    return "\n".join([question.text, *lettered])


def ask(questions: Sequence[Question], answer: Callable[[str], str], *, seed: int = 0) -> tuple[Outcome, ...]:
    """Ask each question with its options shuffled and score the replies of `answer`."""
    outcomes = []
    for question in questions:
        options = shuffled(question, seed)
        outcomes.append(score_reply(question, options, answer(prompt(question, options))))
    return tuple(outcomes)


def score_reply(question: Question, options: Sequence[str], reply: str) -> Outcome:
    """Score one reply to a question whose options were shown in this order.

    Single and multiple: 1 when exactly the right options are named. Limited: 1 when the reply, in words, is one of the
    accepted texts. Open: ROUGE-L's F1 against the best of the answers.
    """
    if question.kind in {QuestionType.SINGLE, QuestionType.MULTIPLE}:
        chosen = choices_in(reply, options, several=question.kind is QuestionType.MULTIPLE)
        right = float(bool(chosen) and set(chosen) == set(question.answers))
    elif question.kind is QuestionType.LIMITED:
        chosen = (reply.strip(),)
        right = float(_key(reply) in [_key(each) for each in question.answers])
    else:
        chosen = (reply.strip(),)
        right = float(rouge_l([reply], [question.answers]).f1[0])
    return Outcome(question.identifier, question.dimension, chosen, right)


def choices_in(reply: str, options: Sequence[str], *, several: bool = False) -> tuple[str, ...]:
    """Return the options a reply names, () when that is not clear.

    Read in this order: the reply is an option's text; a letter stands alone at its start ("B", "(b)", "B: pneumonia");
    letters follow "answer is"; capital letters stand apart in it; exactly one option's text occurs in it. With
    `several`, all letters count; without, two different letters are not clear.
    """
    by_words = {_key(option): option for option in options}
    exact = by_words.get(_key(reply))
    if exact is not None:
        return (exact,)
    letters = _letters(reply, several=several)
    known = [LETTERS.index(letter) for letter in letters]
    if known:
        clear = all(each < len(options) for each in known) and (several or len(set(known)) == 1)
        return tuple(options[each] for each in dict.fromkeys(known)) if clear else ()
    said = f" {' '.join(_key(reply))} "
    named = [option for key, option in by_words.items() if key and f" {' '.join(key)} " in said]
    longest = [each for each in named if not any(each != other and each.lower() in other.lower() for other in named)]
    return tuple(longest) if several or len(longest) == 1 else ()


def accuracy(outcomes: Sequence[Outcome], level: float = 0.95) -> dict[str, Rate]:
    """Return the share of questions wholly right, by dimension and over all (""), with Wilson's interval."""
    dimensions = ["", *dict.fromkeys(each.dimension for each in outcomes)]
    groups = {name: [each for each in outcomes if name in {"", each.dimension}] for name in dimensions}
    return {
        name: proportion(sum(each.score == 1 for each in group), len(group), level) for name, group in groups.items()
    }


def prompts_text(questions: Sequence[Question], seed: int) -> str:
    """Return JSON lines {"id", "prompt"} with the options in the order of the seed."""
    lines = [{"id": each.identifier, "prompt": prompt(each, shuffled(each, seed))} for each in questions]
    return "".join(json.dumps(each, ensure_ascii=False) + "\n" for each in lines)


def read_replies(path: Path) -> dict[str, str]:
    """Read JSON lines {"id", "reply"}; an id given twice is refused."""
    replies: dict[str, str] = {}
    for number, each in enumerate(read_lines(path), start=1):
        if not isinstance(each.get("reply"), str) or "id" not in each or str(each["id"]) in replies:
            raise refusal(f"replies, line {number}: expected a new 'id' and a text 'reply'")
        replies[str(each["id"])] = each["reply"]
    return replies


def score_replies(
    questions: Sequence[Question], replies: Mapping[str, str], seed: int, level: float = 0.95
) -> dict[str, Any]:
    """Return the result of `radserve evaluate questions` in the types of JSON; a question without a reply is wrong."""
    outcomes = [score_reply(each, shuffled(each, seed), replies.get(each.identifier, "")) for each in questions]
    shares = accuracy(outcomes, level)
    whole = shares.pop("")
    missing = sum(each.identifier not in replies for each in questions)
    unknown = len(set(replies) - {each.identifier for each in questions})
    warnings = [f"{missing} questions have no reply and count as wrong"] if missing else []
    warnings += [f"{unknown} replies are to no question and were left out"] if unknown else []
    return {
        "value": one_to_ten(whole.value),
        "interval": [one_to_ten(whole.low), one_to_ten(whole.high)],
        "n": whole.of,
        "seed": seed,
        "ci_level": level,
        "dimensions": {
            name: {"share": each.value, "ci": [each.low, each.high], "n": each.of} for name, each in shares.items()
        },
        "outcomes": [{"id": each.identifier, "chosen": each.chosen, "score": each.score} for each in outcomes],
        "warnings": warnings,
    }


def one_to_ten(share: float) -> float:
    """Return the survey's 1 to 10 for a share of 0 to 1: 1 + 9 x share."""
    if not 0 <= share <= 1:
        raise refusal(f"score: got {share}, expected a share from 0 to 1")
    return 1 + 9 * share


def weighted_score(shares: Mapping[str, float], weights: Mapping[str, float]) -> float:
    """Return the 1 to 10 score of several dimensions: `one_to_ten` of their weighted mean share.

    Raises RadserveError INVALID_ARGUMENT when a weighted dimension was not measured: the score would then mean
    something else.
    """
    missing = [name for name in weights if name not in shares]
    if missing:
        raise refusal(f"dimensions: {missing[0]!r} has a weight but was not measured")
    total = sum(weights.values())
    if total <= 0 or min(weights.values()) < 0:
        raise refusal(f"weights: got {dict(weights)}, expected numbers of at least 0, not all 0")
    return one_to_ten(sum(shares[name] * weight for name, weight in weights.items()) / total)


def _key(text: str) -> tuple[str, ...]:
    """Return the words of a text of any script, case folded, to compare texts by."""
    return tuple(_ANY_WORDS.findall(text.casefold()))


def _letters(reply: str, *, several: bool) -> list[str]:
    tails = [reply[match.end() :] for match in _ANSWER_IS.finditer(reply)] or [reply]
    for text in (tails[-1], reply):
        lone = _LONE.match(text)
        marked = _MARKED.findall(text)
        if lone and not _ARTICLE.match(text):
            rest = [] if not several and not re.match(r"^\W*\w\s*(?:or|and|,|/|&)\s*[A-Ja-j]\b", text) else marked
            return [lone.group(1).upper(), *rest]
        if marked and not _ARTICLE.match(text):
            return marked
    return []


def _question(number: int, table: Mapping[str, Any]) -> Question:
    where = f"questions, line {number}"
    for entry in ("id", "type", "dimension", "question", "answer"):
        if entry not in table:
            raise refusal(f"{where}: the entry {entry!r} is missing")
    if table["type"] not in set(QuestionType):
        raise refusal(f"{where}: type: got {table['type']!r}, expected one of {', '.join(QuestionType)}")
    kind = QuestionType(table["type"])
    answer = table["answer"]
    answers = tuple(map(str, answer)) if isinstance(answer, list) else (str(answer),)
    options = tuple(map(str, table.get("options", ())))
    if kind in {QuestionType.SINGLE, QuestionType.MULTIPLE}:
        if not 2 <= len(set(options)) == len(options) <= len(LETTERS):
            raise refusal(f"{where}: options: got {len(options)}, expected 2 to {len(LETTERS)} different ones")
        strange = [each for each in answers if each not in options]
        if strange or not answers:
            raise refusal(f"{where}: answer: got {answer!r}, expected a text of the options")
    elif options:
        raise refusal(f"{where}: options: got {len(options)}, expected none for type {kind}")
    if kind is QuestionType.OPEN and not any(words(each) for each in answers):
        raise refusal(f"{where}: answer: has no word in Latin letters, which ROUGE-L compares")
    if kind is QuestionType.SINGLE and len(answers) != 1:
        raise refusal(f"{where}: answer: got {len(answers)}, expected one")
    return Question(str(table["id"]), kind, str(table["dimension"]), str(table["question"]), options, answers)
