"""Does a free text say who it is about? Names, identifiers, dates, contacts, and what the headers know of a patient.

A filter for texts that leave the site without a patient: made to stop too much, and not a proof that nothing is left.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from radserve.models.prompts.lint import lint_texts

# A word with a capital inside a sentence, and one all in capitals that is longer than the usual abbreviations.
_CAPITALISED = re.compile(r"(?<=[a-z0-9,;] )[A-Z][a-z]+\b|\b[A-Z]{5,}\b")
_PARTS_OF_NAMES = re.compile(r"[\^=\s,.]+")
SHORTEST_NAME, SHORTEST_VALUE = 2, 3


def name_parts(name: str) -> tuple[str, ...]:
    """What of a person's name (PS3.5 6.2.1) may stand in a text: each component, and all of each group together."""
    groups = ["".join(_PARTS_OF_NAMES.split(group)) for group in name.split("=")]
    parts = (*_PARTS_OF_NAMES.split(name), *groups)
    return tuple(dict.fromkeys(part for part in parts if len(part) >= SHORTEST_NAME))


def traits(text: str, known: Iterable[str] = (), words: Iterable[str] = ()) -> tuple[str, ...]:
    """What in `text` may tell of a person, by class, sorted; nothing where nothing was found.

    `known` are values of the patient's own headers, found as whole words (Chinese: as characters) in any case; `words`
    may be capitalised. The classes are those of the prompt linter, "known" and "capitalised".
    """
    found = {problem.rule for problem in lint_texts({"text": text}) if problem.rule != "empty"}
    if says_any(text, known):
        found.add("known")
    usual = {word.lower() for each in words for word in each.split()}
    if any(each.lower() not in usual for each in _CAPITALISED.findall(text)):
        found.add("capitalised")
    return tuple(sorted(found))


def says_any(text: str, known: Iterable[str]) -> bool:
    """Whether one of the header values stands in a text."""
    return any(_says(text, value) for value in known)


def _says(text: str, value: str) -> bool:
    value = value.strip()
    if not value:
        return False
    if not value.isascii():
        return value.casefold() in text.casefold()
    return re.search(rf"(?<![a-z0-9]){re.escape(value)}(?![a-z0-9])", text, re.IGNORECASE) is not None
