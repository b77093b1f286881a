"""The header of an instance as Part 10 bytes without pixels: what objects made from it will copy from.

Elements that were not converted are copied as they are, which takes a tenth of the time of writing them anew.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import cast

from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import correct_ambiguous_vr, correct_ambiguous_vr_element, write_data_element
from pydicom.sequence import Sequence
from pydicom.uid import PYDICOM_IMPLEMENTATION_UID, ExplicitVRLittleEndian
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32, VR

from radserve.dicom_io.element_table import ElementTable
from radserve.dicom_io.nested import LONG_VRS
from radserve.dicom_io.part10 import DicomFile
from radserve.dicom_io.plain import Elements, dataset_of, plain_value
from radserve.errors import DicomError, ErrorCode

Element = DataElement | RawDataElement
PRIVATE_BULK_BYTES = 16 * 1024
ICON_IMAGE_SEQUENCE = 0x00880200
GROUP_OF_PIXELS = 0x7FE0
OVERLAYS_AND_CURVES = (0x5000, 0x6000)
LENGTH_16_MOST = 0xFFFE
PLAIN_VRS = frozenset(vr for vr in VR if len(vr) == 2)  # the others stand for a choice ("US or SS")


def header_bytes(file: DicomFile) -> bytes:
    """The data set of `file` in explicit VR little endian; without pixels, icon, overlays, bulky private data.

    An element that cannot be written is left out. Raises DicomError INVALID_HEADER for a data set without its UIDs.
    """
    elements = file.elements
    if isinstance(elements, ElementTable) and not elements.implicit:
        return _file_meta(elements) + b"".join(_spans(elements, file.end))
    ds = file.dataset
    kept = sorted((each for each in tuple(ds.values()) if _is_kept(each)), key=lambda element: int(element.tag))
    return _file_meta(ds) + b"".join(_copied(element) or _written(ds, element) for element in kept)


def _spans(elements: ElementTable, end: int) -> Iterable[bytes]:
    """The bytes of the kept elements, those side by side in one piece."""
    first = None
    for tag, (vr, value_at, length) in elements.places.items():
        if not _is_left_out(tag, length):
            first = _start(vr, value_at) if first is None else first
        elif first is not None:
            yield elements.data[first : _start(vr, value_at)]
            first = None
    if first is not None:
        yield elements.data[first:end]


def _start(vr: str | None, value_at: int) -> int:
    return value_at - (12 if vr in LONG_VRS else 8)


def _is_kept(element: Element) -> bool:
    length = element.length if isinstance(element, RawDataElement) else None
    return not _is_left_out(int(element.tag), length)


def _is_left_out(tag: int, length: int | None) -> bool:
    """Whether an element is not copied; `length` None: that of an element that pydicom converted."""
    group = tag >> 16
    if group % 2:
        return length is None or length > PRIVATE_BULK_BYTES or not 8 < group < GROUP_OF_PIXELS
    return group & 0xFF00 in OVERLAYS_AND_CURVES or not 8 <= group < GROUP_OF_PIXELS or tag == ICON_IMAGE_SEQUENCE


def _copied(element: Element) -> bytes:
    """The element with its bytes as they are; nothing where they have to be converted."""
    if not isinstance(element, RawDataElement) or not element.is_little_endian or len(element.value or b"") % 2:
        return b""
    vr = _vr_of_implicit(element) if element.is_implicit_VR else element.VR
    if vr not in PLAIN_VRS or element.length == 0xFFFFFFFF:
        return b""
    tag = int(element.tag)
    return _element(tag >> 16, tag & 0xFFFF, str(vr), element.value or b"")


def _vr_of_implicit(element: RawDataElement) -> str:
    """UN for private elements: their items, if any, may stay in implicit VR then (PS3.5 6.2.2 note 2)."""
    if element.tag.is_private:
        return VR.UN
    vr = dictionary_VR(element.tag) if dictionary_has_tag(element.tag) else ""
    return "" if vr == VR.SQ else vr


def _element(group: int, number: int, vr: str, value: bytes) -> bytes:
    if vr in EXPLICIT_VR_LENGTH_32:
        return struct.pack("<HH2sHI", group, number, vr.encode(), 0, len(value)) + value
    if len(value) > LENGTH_16_MOST:
        return b""
    return struct.pack("<HH2sH", group, number, vr.encode(), len(value)) + value


def _written(ds: Dataset, element: Element) -> bytes:
    """The element as pydicom writes it, nothing where it cannot."""
    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = False, True
    try:
        converted = correct_ambiguous_vr_element(ds[element.tag], ds, True)
        if isinstance(converted.value, Sequence):
            for item in converted.value:
                correct_ambiguous_vr(item, True, [item, ds])
        write_data_element(buffer, converted, cast("list[str]", ds.original_character_set))
    except MemoryError:
        raise
    except Exception:  # pydicom has no common base
        return b""
    return buffer.getvalue()


def _file_meta(ds: Elements) -> bytes:
    """Preamble and File Meta Information (PS3.10 table 7.1-1)."""
    try:
        own = [_uid(ds, keyword) for keyword in ("SOPClassUID", "SOPInstanceUID")]
    except AttributeError:
        raise DicomError(ErrorCode.INVALID_HEADER, "SOPClassUID or SOPInstanceUID is missing") from None
    uids = [*own, str(ExplicitVRLittleEndian), PYDICOM_IMPLEMENTATION_UID]
    numbered: Iterable[tuple[int, str]] = zip((0x02, 0x03, 0x10, 0x12), uids, strict=True)
    group = _element(2, 1, "OB", b"\0\x01")
    group += b"".join(_element(2, number, "UI", uid.encode() + b"\0" * (len(uid) % 2)) for number, uid in numbered)
    return bytes(128) + b"DICM" + _element(2, 0, "UL", struct.pack("<I", len(group))) + group


def _uid(ds: Elements, keyword: str) -> str:
    found = plain_value(ds, keyword)
    return found if isinstance(found, str) else str(getattr(dataset_of(ds), keyword))
