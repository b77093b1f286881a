"""Plain tables as TOML text: what pack.toml and prompts.toml need, no more."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from radserve.models.pack_files import invalid


def to_toml(table: Mapping[str, Any]) -> str:
    """TOML of numbers, texts, flags, lists and tables; tables and lists of tables get headers of their own."""
    return "\n".join(_lines(table, ())) + "\n"


def _lines(table: Mapping[str, Any], place: tuple[str, ...]) -> Iterator[str]:
    headed = {key: value for key, value in table.items() if _is_headed(value, place)}
    for key, value in table.items():
        if key not in headed:
            yield f"{_key(key)} = {_value(value)}"
    for key, value in headed.items():
        name = ".".join(map(_key, (*place, key)))
        for item in value if isinstance(value, list) else [value]:
            yield f"\n[[{name}]]" if isinstance(value, list) else f"\n[{name}]"
            yield from _lines(item, (*place, key))


def _is_headed(value: Any, place: tuple[str, ...]) -> bool:
    if isinstance(value, Mapping):
        return len(place) < 2
    return bool(value) and isinstance(value, list) and all(isinstance(item, Mapping) for item in value) and not place


def _key(name: str) -> str:
    plain = name.isascii() and bool(name) and all(letter.isalnum() or letter in "-_" for letter in name)
    return name if plain else _text(name)


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(key)} = {_value(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    if isinstance(value, float):
        return repr(value)
    if not isinstance(value, str | int):
        raise invalid(f"a value of {type(value).__name__} cannot stand in a pack's tables")
    return _text(value) if isinstance(value, str) else json.dumps(value)  # JSON's integers and flags are TOML's too


def _text(text: str) -> str:
    """JSON's texts are TOML's too, but for the one control character that JSON lets stand and halves of characters."""
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise invalid("a text with half a character cannot stand in a pack's tables")
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
