"""The prompt linter: no names, identifiers, dates or private attributes of a person reach a text encoder."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from radserve.errors import ErrorCode, RequestError

_MONTHS = (
    "jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sep(?:t(?:ember)?)?|oct(?:ober)?|"
    "nov(?:ember)?|dec(?:ember)?"
)
_RULES: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("date", re.compile(r"\b\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}\b|\d{4} ?年|\d{1,2} ?月 ?\d{1,2} ?日|\b(?:19|20)\d{6}\b")),
    ("date", re.compile(rf"\b\d{{1,2}}(?:st|nd|rd|th)? (?:{_MONTHS})\b|\b(?:{_MONTHS}) \d{{1,4}}\b", re.IGNORECASE)),
    ("identifier", re.compile(r"\b\d(?:[\d-]*\d){4,}\b|\b\d+(?:\.\d+){3,}\b|\b[A-Z]{1,4}-?\d{4,}\b")),
    (
        "identifier",
        re.compile(
            r"\b(?:mrn|patient id|accession|ssn|nhs number|passport)\b|身份证|病历号|住院号|检查号", re.IGNORECASE
        ),
    ),
    ("contact", re.compile(r"[\w.+-]+@[\w-]+\.\w+|\b\+?\d[\d ()-]{7,}\d\b")),
    (
        "name",
        re.compile(
            r"\b(?:mr|mrs|ms|miss|dr|prof)\b\.? ?[A-Z]\w+|\b\w+\^\w+|患者姓名|病人姓名|先生|女士", re.IGNORECASE
        ),
    ),
    ("name", re.compile(r"\b(?:named|called|name is|patient name|name:) ?\w+", re.IGNORECASE)),
    ("name", re.compile(r"(?<![.!?:] )(?<!^)\b[A-Z][a-z]+ [A-Z][a-z]+\b")),
)
DENIED = (
    "religion", "religious", "christian", "muslim", "jewish", "hindu", "buddhist", "ethnicity", "ethnic", "race",
    "racial",
    "black patient", "white patient", "asian patient", "nationality", "immigrant", "sexual orientation", "homosexual",
    "gay", "lesbian", "transgender", "political", "income", "poor patient", "wealthy", "insurance", "uninsured",
    "criminal", "prisoner", "homeless", "marital status", "occupation", "education level",
    "宗教", "民族", "种族", "国籍", "性取向", "政治", "收入", "保险", "职业", "婚姻",
)  # fmt: skip
"""Attributes of a person that no finding of an image may be asked by."""


@dataclass(frozen=True, slots=True)
class LintProblem:
    """What is wrong where. The text itself is not repeated: it may be a person's."""

    place: str
    rule: str
    message: str


def lint_texts(texts: Mapping[str, str]) -> list[LintProblem]:
    """The problems of wordings, given by the place where they stand."""
    problems = []
    for place, text in texts.items():
        if not text.strip():
            problems.append(LintProblem(place, "empty", "no words"))
        problems += [LintProblem(place, rule, f"looks like a {rule}") for rule, found in _RULES if found.search(text)]
        lowered = f" {text.lower()} "
        for word in DENIED:
            if re.search(rf"(?<![a-z]){re.escape(word)}(?![a-z])", lowered):
                problems.append(LintProblem(place, "attribute", f"asks by an attribute of a person: {word!r}"))
    return list(dict.fromkeys(problems))


def refuse_unfit(texts: Mapping[str, str]) -> None:
    """Raise INVALID_ARGUMENT naming the first place and rule where wordings are not fit."""
    problems = lint_texts(texts)
    if problems:
        first = problems[0]
        message = f"prompt {first.place}: {first.message} (rule {first.rule!r}; {len(problems)} in all)"
        raise RequestError(ErrorCode.INVALID_ARGUMENT, message)
