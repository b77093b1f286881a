"""The header of a usual instance, read in the process that received it, without pydicom and in bounded time.

A data set that comes from a network is hostile until it was read in a sandbox. Reading what nearly every instance looks
like needs no parser, though: a row of elements, each with its length, of which two dozen short ones are wanted and the
others are stepped over. Whatever is odd (another byte order, an unknown VR or character set, a value that is no plain
one, a length that leads elsewhere) is not decided here: the answer is None, and the sandbox reads, or refuses, it all.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydicom.charset import python_encoding
from pydicom.uid import UID, ImplicitVRLittleEndian

from radserve.dicom_io.ends import DELIMITER
from radserve.dicom_io.index_entry import IndexEntry, PatientAndStudy, patient_and_study_of
from radserve.dicom_io.nested import (
    LONG_LENGTH,
    UNDEFINED_LENGTH,
    VRS,
    Buffer,
    OddError,
    element_at,
    elements_of_items,
    end_of_items,
)
from radserve.dicom_io.parse import TRANSFER_SYNTAXES, InstanceHeader, header_of
from radserve.dicom_io.part10 import PIXEL_TAGS, DicomFile, PixelElement
from radserve.dicom_io.performed_steps import MOST_REQUESTS, REQUEST_KEYS, REQUESTS, PerformedStep, steps_of
from radserve.dicom_io.plain import ODD, PlainElements, known, plain_from
from radserve.dicom_io.preamble import PREAMBLE_LENGTH
from radserve.errors import RadserveError

MAX_ELEMENTS = 4096
MAX_FRAGMENTS = 4096
MAX_VALUE_BYTES = 1024
TRANSFER_SYNTAX_UID, MAC_PARAMETERS = 0x00020010, 0x4FFE0001
SPECIFIC_CHARACTER_SET, SOP_CLASS_UID = 0x00080005, 0x00080016
ODD_SYNTAXES = ("1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99")  # big endian, deflated
ENCAPSULATED = frozenset(syntax for syntax in TRANSFER_SYNTAXES if UID(syntax).is_encapsulated)
PIXEL_VRS = ("OB", "OW", "OF", "OD")
TEXT_VRS = ("LO", "SH", "PN", "CS", "AE")
WANTED = {
    known(keyword)[0]: (keyword, known(keyword)[1])
    for keyword in (
        *("SpecificCharacterSet", "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"),
        *("Modality", "BodyPartExamined", "ViewPosition", "ImageLaterality", "Laterality", "PatientSex", "PatientAge"),
        *("PatientBirthDate", "StudyDate", "StudyDescription", "SeriesNumber", "SeriesDescription", "Manufacturer"),
        *("ManufacturerModelName", "Rows", "Columns", "NumberOfFrames", "InstanceNumber", "PatientID", "PatientName"),
        *("AccessionNumber", "StudyID", "StudyTime", "ReferringPhysicianName"),
        *("PerformedProcedureStepStartDate", "PerformedProcedureStepStartTime"),
    )
}
WANTED_OF_REQUEST = {known(keyword)[0]: (keyword, known(keyword)[1]) for keyword in REQUEST_KEYS}
REQUESTS_TAG = int(known(REQUESTS)[0])
Raw = dict[int, tuple[str | None, bytes]]  # by tag: the VR, None where implicit, and the value
# Character sets of one or more bytes without escape sequences (PS3.3 C.12.1.1.2).
CHARACTER_SETS = {
    term: codec
    for term, codec in python_encoding.items()
    if (term in ("", "GB18030", "GBK") or term.startswith("ISO_IR")) and codec != "shift_jis"
}


@dataclass(frozen=True, slots=True)
class QuickHeader:
    """What `read_entry` reads of an instance, but for its digests; the pixel value lies at [pixels_at, pixels_end)."""

    header: InstanceHeader
    patient_and_study: PatientAndStudy
    signed: bool
    pixels_at: int
    pixels_end: int
    steps: tuple[PerformedStep, ...]


def quick_header(data: Buffer) -> QuickHeader | None:
    """The header of a whole Part 10 file, None where anything about it is odd."""
    try:
        return _read(data)
    except (OddError, RadserveError, struct.error):
        return None


def entry_of(quick: QuickHeader, data: Buffer) -> IndexEntry:
    """The entry that `read_entry` would make of the same bytes. For any thread: this takes both digests."""
    with memoryview(data) as whole, whole[quick.pixels_at : quick.pixels_end] as pixels:
        sha256, pixel_sha256 = (hashlib.sha256(part).hexdigest() for part in (whole, pixels))
        return IndexEntry(
            quick.header, quick.patient_and_study, len(whole), sha256, pixel_sha256, quick.signed, quick.steps
        )


def _read(data: Buffer) -> QuickHeader:
    if data[PREAMBLE_LENGTH : PREAMBLE_LENGTH + 4] != b"DICM":
        raise OddError
    syntax, at = _transfer_syntax(data)
    implicit = syntax == ImplicitVRLittleEndian
    raw, requests, signed, pixels = _elements(data, at, implicit)
    end = _pixels_end(data, pixels)
    _check_rest(data, end, implicit)
    if (pixels.length is None) != (syntax in ENCAPSULATED) or SOP_CLASS_UID not in raw:
        raise OddError
    codec = _codec(raw)
    items = [PlainElements(_values(item, codec, WANTED_OF_REQUEST)) for item in requests]
    elements = PlainElements(_values(raw, codec, WANTED) | {REQUESTS: items})
    file = DicomFile(elements, elements, syntax, b"", pixels)
    about = header_of(file), patient_and_study_of(elements), signed
    return QuickHeader(*about, pixels.offset, end, steps_of(elements))


def _transfer_syntax(data: Buffer) -> tuple[str, int]:
    """The transfer syntax and where the data set begins."""
    at, syntax = PREAMBLE_LENGTH + 4, b""
    while data[at : at + 2] == b"\2\0":
        tag, _, length, value_at = element_at(data, at, implicit=False)
        at = value_at + length
        if at > len(data):
            raise OddError
        if tag == TRANSFER_SYNTAX_UID:
            syntax = data[value_at:at]
    name = syntax.rstrip(b"\0").decode("ascii", "replace")
    if name not in TRANSFER_SYNTAXES or name in ODD_SYNTAXES:
        raise OddError
    return name, at


def _elements(data: Buffer, at: int, implicit: bool) -> tuple[Raw, list[Raw], bool, PixelElement]:
    """The wanted elements, those of the requests, whether there are digital signatures, and the pixels."""
    raw: Raw = {}
    requests: list[Raw] = []
    last, signed = -1, False
    if implicit and data[at + 4 : at + 6] in VRS:
        raise OddError
    for _ in range(MAX_ELEMENTS):
        tag, vr, length, value_at = element_at(data, at, implicit)
        if tag <= last:
            raise OddError
        if tag in PIXEL_TAGS:
            if not implicit and vr not in PIXEL_VRS:
                raise OddError
            pixels = PixelElement(tag, vr or "OW", value_at, None if length == UNDEFINED_LENGTH else length)
            return raw, requests, signed, pixels
        if length == UNDEFINED_LENGTH:
            if tag in WANTED or not (implicit or vr == "SQ"):
                raise OddError
            at = end_of_items(data, value_at, implicit)
        else:
            at = value_at + length
            if tag in WANTED:
                if length > MAX_VALUE_BYTES:
                    raise OddError
                raw[tag] = vr, data[value_at:at]
        if tag == REQUESTS_TAG:
            requests = _requests(data, value_at, at, vr)
        signed = signed or tag == MAC_PARAMETERS
        last = tag
    raise OddError


def _requests(data: Buffer, at: int, end: int, vr: str | None) -> list[Raw]:
    """The wanted elements of the requests, whose sequence lies at [at, end)."""
    if vr not in (None, "SQ"):
        raise OddError
    found: list[Raw] = []
    for item in elements_of_items(data, at, end, implicit=vr is None, most=MOST_REQUESTS):
        if SPECIFIC_CHARACTER_SET in item:
            raise OddError
        found.append({tag: element for tag, element in item.items() if tag in WANTED_OF_REQUEST})
    if any(len(value) > MAX_VALUE_BYTES for item in found for _, value in item.values()):
        raise OddError
    return found


def _pixels_end(data: Buffer, pixels: PixelElement) -> int:
    """Where the pixel value ends, as ends.pixels_end has it."""
    at = pixels.offset
    if pixels.length is not None:
        end = at + pixels.length
        if end > len(data):
            raise OddError
        return end
    for _ in range(MAX_FRAGMENTS):
        head = data[at : at + 8]
        if len(head) < 8:
            raise OddError
        at += 8
        if head[:4] == DELIMITER:
            return at
        at += LONG_LENGTH.unpack_from(head, 4)[0]
    raise OddError


def _check_rest(data: Buffer, at: int, implicit: bool) -> None:
    """Step over the elements after the pixels: usually none, or padding."""
    for _ in range(MAX_ELEMENTS):
        if at == len(data):
            return
        _, vr, length, at = element_at(data, at, implicit)
        if length != UNDEFINED_LENGTH:
            at += length
        elif implicit or vr == "SQ":
            at = end_of_items(data, at, implicit)
        else:
            raise OddError
    raise OddError


def _codec(raw: Raw) -> str | None:
    term = _plain("CS", raw.get(SPECIFIC_CHARACTER_SET, ("CS", b"")))
    return CHARACTER_SETS.get(term) if isinstance(term, str) else None


def _values(raw: Raw, codec: str | None, wanted: Mapping[int, tuple[str, str]]) -> dict[str, Any]:
    """The values by keyword, as `plain_value` and pydicom give them; one that is odd ends the reading."""
    values = {}
    for tag, element in raw.items():
        keyword, vr = wanted[tag]
        found = _plain(vr, element)
        if found is ODD:
            value = element[1]
            if codec is None or vr not in TEXT_VRS or b"\\" in value or b"\x1b" in value:
                raise OddError
            found = _decoded(value, codec, vr)
        values[keyword] = found
    return values


def _plain(vr: str, element: tuple[str | None, bytes]) -> Any:
    value = element[1]
    if element[0] not in (None, vr):
        raise OddError
    return plain_from(vr, value) if value.strip(b" \0") else ""


def _decoded(value: bytes, codec: str, vr: str) -> str:
    try:
        if vr != "PN":
            return value.decode(codec).rstrip(" \0")
        groups = [group.decode(codec) for group in value.rstrip(b"\0 ").split(b"=")]  # PS3.5 6.2.1.1
    except UnicodeDecodeError:
        raise OddError from None
    while groups and not groups[-1]:
        groups.pop()
    return "=".join(groups)
