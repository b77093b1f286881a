"""QIDO-RS (PS3.18 section 10.6): what a query string asks for, as a value."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydicom.datadict import keyword_for_tag, tag_for_keyword

from radserve._checks import check_uid, invalid
from radserve.dicom_io.dicomweb.search_attributes import ATTRIBUTES, OF_REQUESTS, Attribute, Level
from radserve.errors import ErrorCode, RadserveError, RequestError

DEFAULT_LIMIT, MOST_RESULTS, MOST_OFFSET = 200, 1000, 10_000_000
MOST_VALUES, MOST_TEXT = 1000, 256
FUZZY = "The fuzzymatching parameter is not supported. Only literal matching has been performed."  # PS3.18 8.3.4.2
MORE = "The number of results exceeded the maximum supported by the server. Additional results can be requested."


@dataclass(frozen=True, slots=True)
class Match:
    """One condition: `values` by the attribute's VR, one or several of which are to match; a range has two ends.

    An end of a range that is open is "".
    """

    attribute: Attribute
    values: tuple[str, ...]
    is_range: bool = False


@dataclass(frozen=True, slots=True)
class Query:
    """A search at a level. `included`: tags that are returned besides the usual ones, `warnings`: what is not done."""

    level: Level
    matches: tuple[Match, ...] = ()
    included: frozenset[str] = frozenset()
    limit: int = DEFAULT_LIMIT
    offset: int = 0
    warnings: tuple[str, ...] = ()


def read_query(level: Level, items: Sequence[tuple[str, str]], fixed: Mapping[str, str] | None = None) -> Query:
    """Read the decoded parameters of a query; `fixed` are UIDs of the address, by keyword.

    Raises RequestError INVALID_ARGUMENT with the key, never the value: values are patient data.
    """
    matches: dict[str, Match] = {}
    included: set[str] = set()
    controls: dict[str, str] = {}
    for key, value in [*items, *(fixed or {}).items()]:
        if key == "includefield":
            included |= _included(value)
        elif key in ("limit", "offset", "fuzzymatching"):
            if key in controls:
                raise _refused(key, "is there twice")
            controls[key] = value
        else:
            attribute = _matchable(key, level)
            if attribute.tag in matches:
                raise _refused(attribute.keyword, "is there twice")
            matches[attribute.tag] = _match(attribute, value)
            included.add(_outer(attribute.tag))
    limit = _number("limit", controls.get("limit"), DEFAULT_LIMIT, MOST_RESULTS, cut=True)
    fuzzy = controls.get("fuzzymatching", "false").lower()
    if fuzzy not in ("true", "false"):
        raise _refused("fuzzymatching", "is neither true nor false")
    return Query(
        level,
        tuple(match for match in matches.values() if match.values),
        frozenset(included),
        limit,
        _number("offset", controls.get("offset"), 0, MOST_OFFSET),
        (FUZZY,) if fuzzy == "true" else (),
    )


def _matchable(key: str, level: Level) -> Attribute:
    tag = _tag(key)
    attribute = ATTRIBUTES.get(tag) or OF_REQUESTS.get(tag)
    if attribute is None or not attribute.column:
        names = [keyword_for_tag(int(part, 16)) or part for part in tag.split(".")]
        raise _refused(".".join(names), "is not matched here")
    if attribute.level > level:
        raise _refused(attribute.keyword, f"is not matched for a search of {level.name.lower()} level")
    return attribute


def _tag(key: str) -> str:
    """The tag of a keyword or of eight hexadecimal digits; of an attribute within sequences, all tags with dots."""
    if re.fullmatch(r"[A-Za-z0-9]{1,64}(?:\.[A-Za-z0-9]{1,64}){1,16}", key):
        return ".".join(map(_tag, key.split(".")))
    if re.fullmatch(r"[0-9A-Fa-f]{8}", key):
        return key.upper()
    tag = tag_for_keyword(key) if re.fullmatch(r"[A-Za-z0-9]{1,64}", key) else None
    if tag is None:
        raise RequestError(ErrorCode.INVALID_ARGUMENT, "a query key is neither a keyword nor a tag of DICOM")
    return f"{tag:08X}"


def _included(value: str) -> set[str]:
    parts = value.split(",")
    if len(parts) > MOST_VALUES:
        raise _refused("includefield", f"has more than {MOST_VALUES} values")
    if parts == ["all"]:
        return set(ATTRIBUTES)
    return {_outer(_tag(part.strip())) for part in parts if part.strip()}  # what is not known here is not returned


def _outer(tag: str) -> str:
    """What is returned of an attribute within sequences: the outermost."""
    return tag.partition(".")[0]


def _number(key: str, text: str | None, default: int, most: int, *, cut: bool = False) -> int:
    if text is None:
        return default
    if not re.fullmatch(r"\d{1,9}", text) or (int(text) > most and not cut):
        raise _refused(key, f"is not a number from 0 to {most}")
    return min(int(text), most)


def _match(attribute: Attribute, value: str) -> Match:
    if "\0" in value:
        raise _refused(attribute.keyword, "has a NUL")
    if not value or value == "*":
        return Match(attribute, ())
    match attribute.vr:
        case "UI":
            return Match(attribute, _uids(attribute, value))
        case "DA":
            return _range(attribute, value, r"\d{8}")
        case "TM":
            return _range(attribute, value, r"\d{2}(?:\d{2}(?:\d{2}(?:\.\d{1,6})?)?)?")
        case "IS" | "US":
            if not re.fullmatch(r"[+-]?\d{1,9}", value):
                raise _refused(attribute.keyword, "is not a whole number")
            return Match(attribute, (str(int(value)),))
    if len(value) > MOST_TEXT:
        raise _refused(attribute.keyword, f"has more than {MOST_TEXT} characters")
    parts = re.split(r"[\\,]", value) if attribute.vr == "CS" else [value]
    return Match(attribute, tuple(part.strip() for part in parts if part.strip()))


def _uids(attribute: Attribute, value: str) -> tuple[str, ...]:
    found = tuple(part.strip() for part in re.split(r"[\\,]", value))
    if len(found) > MOST_VALUES:
        raise _refused(attribute.keyword, f"has more than {MOST_VALUES} values")
    try:
        for each in found:
            check_uid(attribute.keyword, each)
    except RadserveError:
        raise _refused(attribute.keyword, "is not a list of UIDs") from None
    return found


def _range(attribute: Attribute, value: str, form: str) -> Match:
    match = re.fullmatch(rf"({form})?(-)?({form})?", value)
    if match is None or not (match[1] or match[3]) or (match[3] and not match[2]):
        raise _refused(attribute.keyword, "is neither a value nor a range")
    if match[2]:
        return Match(attribute, (match[1] or "", match[3] or ""), is_range=True)
    return Match(attribute, (match[1],))


def _refused(key: str, problem: str) -> RadserveError:
    return RequestError(ErrorCode.INVALID_ARGUMENT, f"{key} {problem}")


def check_instance_uid(name: str, uid: str) -> str:
    """A UID of an address. Raises RadserveError INVALID_ARGUMENT, which does not repeat what was sent."""
    try:
        check_uid(name, uid)
    except RadserveError:
        raise invalid(name, f"{len(uid)} characters", "a DICOM UID of digits and dots, at most 64 characters") from None
    return uid
