"""A quick reading of little-endian data sets: several times pydicom's speed, and pydicom itself for anything odd.

Most headers are a row of elements with a length. A sequence of undefined length is read by pydicom and the row goes on
behind it. Where something else is odd (unknown VR, another encoding than said, an end in the wrong place), nothing is
decided here: the answer is None, and pydicom reads, or refuses, it all.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Callable
from typing import Protocol

from pydicom.charset import convert_encodings, default_encoding
from pydicom.dataelem import DataElement, RawDataElement, convert_raw_data_element, empty_value_for_VR
from pydicom.dataset import Dataset
from pydicom.filereader import data_element_generator
from pydicom.tag import BaseTag
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32, VR

UNDEFINED_LENGTH = 0xFFFFFFFF
ITEM_GROUP = 0xFFFE
SPECIFIC_CHARACTER_SET = BaseTag(0x00080005)
VRS = {vr.encode(): str(vr) for vr in VR if len(vr) == 2}
LONG_VRS = frozenset(EXPLICIT_VR_LENGTH_32)
_TAG_AND_LENGTH = struct.Struct("<HHI")
_SHORT_LENGTH = struct.Struct("<H")
_LENGTH = struct.Struct("<I")


class Source(Protocol):
    """A file object over bytes."""

    data: bytes | mmap.mmap

    def read(self, size: int, /) -> bytes: ...
    def seek(self, offset: int, whence: int = 0, /) -> int: ...
    def tell(self) -> int: ...


def scan(source: Source, *, implicit: bool, stop: Callable[[int], bool]) -> Dataset | None:
    """The elements up to the first tag that `stop` is true for, or to the end; `source` is left there.

    None for anything odd, with `source` somewhere else.
    """
    data, at = source.data, source.tell()
    if implicit and data[at + 4 : at + 6] in VRS:
        return None
    elements: dict[BaseTag, DataElement | RawDataElement] = {}
    end, last = len(data), -1
    while at < end:
        head = _head(data, at, implicit) if at + 12 <= end else None
        if head is None:
            return None
        tag, vr, length, value_at = head
        if stop(tag):
            break
        key = BaseTag(tag)
        if length == UNDEFINED_LENGTH:
            source.seek(at)
            elements[key] = next(data_element_generator(source, implicit, True, encoding=_encoding(elements)))  # type: ignore[arg-type]
            at = source.tell()
        else:
            at = value_at + length
            value = data[value_at:at] if length else empty_value_for_VR(vr, raw=True)
            elements[key] = RawDataElement(key, vr, length, value, value_at, implicit, True)  # type: ignore[arg-type]
        if at > end or tag <= last:
            return None
        last = tag
    if not elements:
        return None
    source.seek(at)
    ds = Dataset(elements)
    ds.set_original_encoding(implicit, True, _encoding(elements))
    return ds


def _head(data: bytes | mmap.mmap, at: int, implicit: bool) -> tuple[int, str | None, int, int] | None:
    """Tag, VR, length and the place of the value (PS3.5 7.1)."""
    group, number, length = _TAG_AND_LENGTH.unpack_from(data, at)
    tag = group << 16 | number
    if group == ITEM_GROUP:
        return None
    if implicit:
        return tag, None, length, at + 8
    vr = VRS.get(data[at + 4 : at + 6])
    if vr is None:
        return None
    if vr in LONG_VRS:
        return tag, vr, _LENGTH.unpack_from(data, at + 8)[0], at + 12
    return tag, vr, _SHORT_LENGTH.unpack_from(data, at + 6)[0], at + 8


def _encoding(elements: dict[BaseTag, DataElement | RawDataElement]) -> str | list[str]:
    stated = elements.get(SPECIFIC_CHARACTER_SET)
    if not isinstance(stated, RawDataElement):
        return default_encoding
    return list(convert_encodings(convert_raw_data_element(stated).value))
