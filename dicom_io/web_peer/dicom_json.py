"""Values of the DICOM JSON Model (PS3.18 annex F), read with care: whatever does not fit is as if it were absent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Item = Mapping[str, Any]


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


def element(vr: str, *given: Any) -> dict[str, Any]:
    """An element to be sent; empty without values."""
    return {"vr": vr, "Value": list(given)} if given else {"vr": vr}


def sequence(given: Sequence[Item]) -> dict[str, Any]:
    """A sequence to be sent."""
    return element("SQ", *given)
