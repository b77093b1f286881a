"""The rules of a site from TOML.

    [[rule]]
    name = "chest radiographs"
    pack = "cxr-bus-mini"
    outputs = ["sr", "secondary_capture"]   # without: the usual ones of each destination
    destinations = ["pacs"]
    [rule.when]                             # without: every series
    modality = ["CR", "DX"]                 # one of them; with the next line: both lines hold
    body_part = "CHEST*"
    not = { series_description = "*lateral*" }
    any = [{ calling_ae = "ROOM1" }, { "tag.StationName" = "XR?" }]

The keys of a condition are those of rules.FACTS, `tag.KEYWORD`, `all` and `any` (lists of conditions) and `not`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from radserve._checks import invalid
from radserve.errors import ErrorCode, RequestError
from radserve.pipelines.rules import All, AnyOf, Condition, Is, Not, Rule, RuleSet

RULE_KEYS = frozenset(("name", "pack", "when", "outputs", "destinations"))
DEPTH = 20


def read_rules(path: Path, *, outputs: Collection[str] = (), packs: Collection[str] = ()) -> RuleSet:
    """Read a rules file. Where `outputs` and `packs` are given, others are refused.

    Raises RadserveError INVALID_ARGUMENT naming the rule and the value.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        cause = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise RequestError(ErrorCode.INVALID_ARGUMENT, f"the rules {str(path)!r} cannot be read: {cause}") from None
    rules = parse_rules(text)
    for rule in rules.rules:
        for what, given, allowed in (("outputs", rule.outputs, outputs), ("pack", (rule.pack,), packs)):
            if unknown := sorted(set(given) - set(allowed)) if allowed else []:
                raise invalid(f"rule {rule.name!r} {what}", unknown, f"some of {sorted(allowed)}")
    return rules


def parse_rules(text: str) -> RuleSet:
    """The rule set that a TOML text says. Raises RadserveError INVALID_ARGUMENT."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RequestError(ErrorCode.INVALID_ARGUMENT, f"the rules are no TOML: {error}") from None
    _check_keys("the rules", document, {"rule"})
    given = document.get("rule", [])
    if not isinstance(given, list) or not all(isinstance(each, dict) for each in given):
        raise invalid("rule", type(given).__name__, "tables, [[rule]]")
    return RuleSet(tuple(_rule(each, number) for number, each in enumerate(given, start=1)))


def _rule(given: Mapping[str, Any], number: int) -> Rule:
    name = given.get("name", "")
    shown = f"rule {name!r}" if name else f"rule {number}"
    _check_keys(shown, given, RULE_KEYS)
    for key in ("name", "pack"):
        if not isinstance(given.get(key), str):
            raise invalid(f"{shown} {key}", given.get(key), "a text")
    return Rule(
        name=name,
        pack=given["pack"],
        when=_condition(shown, given.get("when", {}), DEPTH),
        outputs=_texts(f"{shown} outputs", given.get("outputs", [])),
        destinations=_texts(f"{shown} destinations", given.get("destinations", [])),
    )


def _condition(shown: str, given: object, depth: int) -> Condition:
    if not isinstance(given, dict):
        raise invalid(f"{shown} condition", given, "a table")
    if not depth:
        raise invalid(f"{shown} condition", "one nested deeper", f"at most {DEPTH} levels")
    parts = tuple(_part(shown, key, value, depth - 1) for key, value in given.items())
    return parts[0] if len(parts) == 1 else All(parts)


def _part(shown: str, key: str, value: object, depth: int) -> Condition:
    if key == "not":
        return Not(_condition(shown, value, depth))
    if key in ("all", "any"):
        if not isinstance(value, list):
            raise invalid(f"{shown} {key}", value, "a list of conditions")
        parts = tuple(_condition(shown, each, depth) for each in value)
        return All(parts) if key == "all" else AnyOf(parts)
    if key == "tag" and isinstance(value, dict):  # tag.StationName without quotes is a table in TOML
        return All(tuple(Is(f"tag.{keyword}", _texts(f"{shown} {keyword}", each)) for keyword, each in value.items()))
    return Is(key, _texts(f"{shown} {key}", value))


def _texts(shown: str, value: object) -> tuple[str, ...]:
    found = [value] if isinstance(value, str) else value
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise invalid(shown, value, "a text or a list of texts")
    return tuple(found)


def _check_keys(shown: str, given: Mapping[str, Any], known: Collection[str]) -> None:
    if unknown := sorted(set(given) - set(known)):
        raise invalid(f"{shown} keys", unknown, f"some of {sorted(known)}")
