"""MedBench's JSON lines: questions in, the same lines with the model's answers out.

A line has `question`, `answer` and, for choices, `options`; the right answer of a choice is its letters ("B", "ACD").
Every other entry is kept as it is. The dimensions are the five of Cai et al., MedBench, AAAI 2024.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from radserve.evaluation.questions import LETTERS, Outcome, Question, QuestionType, read_lines
from radserve.evaluation.tables import refusal

DIMENSIONS = ("understanding", "generation", "knowledge QA", "complex reasoning", "safety and ethics")
# For `questions.weighted_score`: every dimension counts alike, however many questions a file has of it.
DIMENSION_WEIGHTS: Mapping[str, float] = MappingProxyType(dict.fromkeys(DIMENSIONS, 1.0))
_LETTERED = re.compile(r"^\W*([A-J])\s*[.:)\u3001\uff0e\uff1a\uff09]\s*")  # the last four are Chinese punctuation


def read_medbench(path: Path, dimension: str) -> tuple[tuple[Question, ...], list[dict[str, Any]]]:
    """Return the questions of a MedBench file and its lines as they are; ids are the line numbers, from 1.

    Raises RadserveError INVALID_ARGUMENT naming line, entry and value.
    """
    if dimension not in DIMENSIONS:
        raise refusal(f"dimension: got {dimension!r}, expected one of {', '.join(DIMENSIONS)}")
    lines = read_lines(path)
    return tuple(_question(number, each, dimension) for number, each in enumerate(lines, start=1)), lines


def medbench_text(lines: Sequence[Mapping[str, Any]], outcomes: Sequence[Outcome] | None = None) -> str:
    """Return lines in MedBench's form, with `answer` replaced by what was chosen when `outcomes` are given.

    Choices are given as letters in the file's own order of options, whatever order they were asked in.
    """
    written = []
    for number, line in enumerate(lines):
        answer = line["answer"] if outcomes is None else _as_answer(line, outcomes[number])
        written.append(json.dumps({**line, "answer": answer}, ensure_ascii=False) + "\n")
    return "".join(written)


def _question(number: int, line: Mapping[str, Any], dimension: str) -> Question:
    where = f"questions, line {number}"
    for entry in ("question", "answer"):
        if entry not in line:
            raise refusal(f"{where}: the entry {entry!r} is missing")
    answer, text = line["answer"], str(line["question"])
    options = _options(line)
    if not options:
        return Question(str(number), QuestionType.LIMITED, dimension, text, (), (str(answer),))
    letters = re.findall(r"[A-J]", answer) if isinstance(answer, str) else []
    if not letters or max(map(LETTERS.index, letters)) >= len(options):
        raise refusal(f"{where}: answer: got {answer!r}, expected letters of its {len(options)} options")
    kind = QuestionType.SINGLE if len(letters) == 1 else QuestionType.MULTIPLE
    return Question(
        str(number), kind, dimension, text, options, tuple(options[LETTERS.index(each)] for each in letters)
    )


def _options(line: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(_LETTERED.sub("", str(each)) for each in line.get("options") or ())


def _as_answer(line: Mapping[str, Any], outcome: Outcome) -> str:
    options = _options(line)
    if not options:
        return outcome.chosen[0]
    return "".join(sorted(LETTERS[options.index(each)] for each in outcome.chosen))
