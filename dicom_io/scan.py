"""A quick reading of little-endian data sets: several times pydicom's speed, and pydicom itself for anything odd.

Most headers are a row of elements with a length, or sequences without one whose end is found. Other elements of
undefined length are read by pydicom, and the row goes on behind them. Where something else is odd (unknown VR, another
encoding than said, an end in the wrong place), nothing is decided here: the answer is None, and pydicom reads, or
refuses, it all.
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

from radserve.dicom_io.nested import UNDEFINED_LENGTH, VRS, OddError, element_at, end_of_items

FIRST_ITEM_TAG = 0xFFFE0000
DELIMITER_BYTES = 8
SPECIFIC_CHARACTER_SET = BaseTag(0x00080005)


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
    try:
        return _scan(source, implicit, stop)
    except (OddError, struct.error):
        return None


def _scan(source: Source, implicit: bool, stop: Callable[[int], bool]) -> Dataset | None:
    data, at = source.data, source.tell()
    elements: dict[BaseTag, DataElement | RawDataElement] = {}
    end, last = len(data), -1
    while at < end:
        tag, vr, length, value_at = element_at(data, at, implicit)
        if tag >= FIRST_ITEM_TAG:
            return None
        if stop(tag):
            break
        key = BaseTag(tag)
        if length == UNDEFINED_LENGTH and vr == "SQ":
            at = end_of_items(data, value_at, implicit)
            items = data[value_at : at - DELIMITER_BYTES]  # read when they are asked for, as ones with a length
            elements[key] = RawDataElement(key, vr, len(items), items, value_at, implicit, True)
        elif length == UNDEFINED_LENGTH:
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


def _encoding(elements: dict[BaseTag, DataElement | RawDataElement]) -> str | list[str]:
    stated = elements.get(SPECIFIC_CHARACTER_SET)
    if not isinstance(stated, RawDataElement):
        return default_encoding
    return list(convert_encodings(convert_raw_data_element(stated).value))
