"""What a file of ours breaks of its schema, in one line: the key, what is wrong with it, and the value."""

from __future__ import annotations

from pydantic import ValidationError

_WORDS = {
    "unexpected_keyword_argument": "unknown key",
    "missing": "is missing",
    "missing_argument": "is missing",
}
_SHOWN = 60  # characters of a value


def first_fault(error: ValidationError, *, values: bool = True) -> str:
    """`KEY: CAUSE`, and `, got VALUE` where the value is a single one and may be told."""
    first = error.errors(include_url=False, include_context=False)[0]
    key = ".".join(str(part) for part in first["loc"])
    if known := _WORDS.get(first["type"]):
        return f"{key}: {known}"
    value = first["input"]
    got = f", got {value!r:.{_SHOWN}}" if values and isinstance(value, str | int | float) else ""
    return f"{key}: {first['msg']}{got}"
