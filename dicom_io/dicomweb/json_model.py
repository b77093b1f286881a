"""The DICOM JSON model (PS3.18 annex F): elements from values and back.

Reading is careful: whatever does not fit is as if it were absent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Item = Mapping[str, Any]
JsonElement = dict[str, Any]
NAME_GROUPS = ("Alphabetic", "Ideographic", "Phonetic")


def element(vr: str, *values: Any) -> JsonElement:
    """An element of plain values; those that are empty are left out, names are told apart by their groups."""
    given = [value for value in values if value not in ("", None)]
    if not given:
        return {"vr": vr}
    return {"vr": vr, "Value": [person_name(value) if vr == "PN" else value for value in given]}


def person_name(text: str) -> dict[str, str]:
    """The component groups of a name as pydicom writes it: A=B=C."""
    return {group: part for group, part in zip(NAME_GROUPS, text.split("="), strict=False) if part}


def sequence(given: Sequence[Item]) -> JsonElement:
    """A sequence of items."""
    return element("SQ", *given)


def values(item: Item, tag: str) -> list[Any]:
    """The values of an element, by its tag as eight hexadecimal digits."""
    element = item.get(tag)
    found = element.get("Value") if isinstance(element, dict) else None
    return found if isinstance(found, list) else []


def text(item: Item, tag: str) -> str:
    """The values as text, several joined by a backslash; "" where there is none."""
    return "\\".join(str(each) for each in values(item, tag) if isinstance(each, str | int | float))


def number(item: Item, tag: str) -> int | None:
    """A whole number; archives write it as a number or as text."""
    found = text(item, tag)
    return int(found) if found.isascii() and found.isdigit() else None


def items(item: Item, tag: str) -> list[Item]:
    """The items of a sequence."""
    return [each for each in values(item, tag) if isinstance(each, dict)]
