"""Values of plain elements without pydicom's conversion, which takes most of the time that a header costs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, Final

from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset

from radserve.dicom_io.element_table import ElementTable

ODD: Final = object()
NUMERALS = b"0123456789+-.eE \\"
UID_CHARACTERS = b"0123456789.\0"
TEXT_VRS = frozenset(("AE", "AS", "CS", "DA", "LO", "SH", "TM"))


class PlainElements:
    """The values of elements by keyword, already plain: for what reads a data set by `plain_value` or `get`."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values

    def __contains__(self, keyword: str) -> bool:
        return keyword in self._values

    def get(self, keyword: str) -> Any:
        return self._values.get(keyword)


Elements = Dataset | ElementTable | PlainElements


def dataset_of(elements: Elements) -> Dataset:
    """The elements as pydicom's; of plain values nothing can be made."""
    if isinstance(elements, PlainElements):
        raise TypeError("these are values without their elements")
    return elements.dataset if isinstance(elements, ElementTable) else elements


def plain_value(elements: Elements, keyword: str) -> Any:
    """What pydicom would give for an element of numbers, UIDs or ASCII text; None where absent; ODD for anything else.

    Decimal strings are float, integer strings int; several values are a list.
    """
    if isinstance(elements, PlainElements):
        return elements.get(keyword)
    tag, dictionary_vr = known(keyword)
    if isinstance(elements, ElementTable):
        found = elements.raw(tag)
        return None if found is None else plain_from(found[0] or dictionary_vr, found[1])
    try:
        element = elements.get_item(tag)
    except KeyError:
        return None
    except NotImplementedError:  # a VR that pydicom does not know
        return ODD
    if not isinstance(element, RawDataElement) or not isinstance(element.value, bytes):
        return ODD
    vr = element.VR if element.VR is not None else dictionary_vr
    return ODD if vr in ("US", "SS") and not element.is_little_endian else plain_from(vr, element.value)


def raw_value(elements: Elements, tag: int) -> bytes | None:
    """The value of an element as it stands in the file; None where absent, converted or read by pydicom."""
    if isinstance(elements, ElementTable):
        found = elements.raw(tag)
        return found[1] if found else None
    element = dataset_of(elements).get_item(tag) if tag in dataset_of(elements) else None
    value = element.value if element is not None else None
    return value if isinstance(value, bytes) else None


def tags_of(elements: Elements) -> Iterable[int]:
    """The tags of all elements."""
    return elements.places if isinstance(elements, ElementTable) else dataset_of(elements).keys()


def encoding_of(elements: Elements) -> tuple[bool, bool]:
    """Whether implicit VR, whether little endian."""
    if isinstance(elements, ElementTable):
        return elements.implicit, True
    implicit, little = dataset_of(elements).original_encoding
    return bool(implicit), bool(little)


def plain_from(vr: str, value: bytes) -> Any:
    """The value of the bytes of an element (little endian), ODD where they are not plain."""
    if vr in ("US", "SS") and len(value) == 2:
        return int.from_bytes(value, "little", signed=vr == "SS")
    try:
        return _text_value(vr, value)
    except ValueError:
        return ODD


def _text_value(vr: str, value: bytes) -> Any:
    if vr in ("DS", "IS"):
        stripped = value.rstrip(b" \0")
        if not stripped:
            return ""
        if stripped.translate(None, NUMERALS):
            return ODD
        convert = float if vr == "DS" else int
        parts = [convert(part) for part in stripped.split(b"\\")]
        return parts if len(parts) > 1 else parts[0]
    if vr == "UI" and not value.translate(None, UID_CHARACTERS) and b"\0" not in value[:-1]:
        return value.rstrip(b"\0").decode("ascii")
    # Below 0x80 and without escape sequences every character set is ASCII (PS3.3 C.12.1.1.2).
    if vr in TEXT_VRS and value.isascii() and b"\x1b" not in value and b"\\" not in value:
        return value.decode("ascii").rstrip(" \0")
    return ODD


@cache
def known(keyword: str) -> tuple[int, str]:
    """Tag and VR of an attribute."""
    tag = tag_for_keyword(keyword)
    if tag is None:
        raise KeyError(keyword)
    return tag, dictionary_VR(tag)
