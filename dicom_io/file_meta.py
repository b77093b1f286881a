"""The head of a Part 10 file, and that of a data set without one: read and made by hand, in the service's own process.

The data set of a C-STORE and its file are the same bytes, with the file meta information before them.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

from radserve.errors import DicomError, ErrorCode
from radserve.uids import derive_uid

EXPLICIT_BIG, IMPLICIT_LITTLE, DEFLATED = "1.2.840.10008.1.2.2", "1.2.840.10008.1.2", "1.2.840.10008.1.2.1.99"
IMPLEMENTATION_CLASS_UID = derive_uid("radserve", "implementation class")
PREAMBLE = bytes(128) + b"DICM"
HEAD_BYTES = 2048  # the SOP class and instance stand among the first elements of a data set
LONG_FORM = (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
SOP_CLASS_UID, SOP_INSTANCE_UID = 0x00080016, 0x00080018
MEDIA_SOP_CLASS, MEDIA_SOP_INSTANCE, TRANSFER_SYNTAX = 0x00020002, 0x00020003, 0x00020010


@dataclass(frozen=True, slots=True)
class FileMeta:
    """What the head of a Part 10 file says of it, and the offset of its data set."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    offset: int


def file_head(sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str) -> bytes:
    """Preamble (zeros) and file meta information (PS3.10 section 7.1).

    It says nothing of the sender or the version of this software: the same data set makes the same file.
    """
    meta = b"".join(
        (
            _element(0x0001, b"OB", b"\0\1"),
            _element(0x0002, b"UI", _uid(sop_class_uid)),
            _element(0x0003, b"UI", _uid(sop_instance_uid)),
            _element(0x0010, b"UI", _uid(transfer_syntax_uid)),
            _element(0x0012, b"UI", _uid(IMPLEMENTATION_CLASS_UID)),
        )
    )
    return PREAMBLE + _element(0x0000, b"UL", struct.pack("<I", len(meta))) + meta


def read_file_meta(data: bytes) -> FileMeta:
    """Read the head of a Part 10 file. Raises DicomError NOT_DICOM, TRUNCATED, INVALID_HEADER."""
    if data[128:132] != b"DICM":
        raise DicomError(ErrorCode.NOT_DICOM, "the file has no DICOM preamble")
    found: dict[int, str] = {}
    at = 132
    while data[at : at + 2] == b"\x02\0":
        tag, value, at = _read_element(data, at, "<", explicit=True)
        if value is None:
            raise DicomError(ErrorCode.TRUNCATED, "the file ends inside its file meta information")
        found[tag] = value.decode("ascii", "replace").strip("\0 ")
    try:
        return FileMeta(found[MEDIA_SOP_CLASS], found[MEDIA_SOP_INSTANCE], found[TRANSFER_SYNTAX], at)
    except KeyError:
        raise DicomError(ErrorCode.INVALID_HEADER, "the file meta information lacks a UID") from None


def stated_uids(head: bytes, transfer_syntax_uid: str) -> tuple[str, str]:
    """SOP class and instance UID from the beginning of a data set; empty where they are not found there.

    This looks at no more than the first elements of group 0008; all else of a data set is read in a sandbox.
    """
    order = ">" if transfer_syntax_uid == EXPLICIT_BIG else "<"
    if transfer_syntax_uid == DEFLATED:
        try:
            head = zlib.decompressobj(-zlib.MAX_WBITS).decompress(head, HEAD_BYTES)
        except zlib.error:
            return "", ""
    found, at = {SOP_CLASS_UID: "", SOP_INSTANCE_UID: ""}, 0
    while at < len(head):
        tag, value, at = _read_element(head, at, order, explicit=transfer_syntax_uid != IMPLICIT_LITTLE)
        if value is None or tag > SOP_INSTANCE_UID:
            break
        if tag in found:
            found[tag] = value.decode("ascii", "replace").strip("\0 ")
    return found[SOP_CLASS_UID], found[SOP_INSTANCE_UID]


def _read_element(data: bytes, at: int, order: str, *, explicit: bool) -> tuple[int, bytes | None, int]:
    """The element at an offset: its tag, its value (None where it is not whole) and the offset of the next."""
    head = data[at : at + 12]
    if len(head) < 8:
        return 0, None, len(data)
    group, element = struct.unpack_from(f"{order}HH", head)
    start, form = at + 8, "I"
    if explicit and head[4:6] not in LONG_FORM:
        (length,) = struct.unpack_from(f"{order}H", head, 6)
    else:
        length_at = 8 if explicit else 4
        start = at + length_at + 4
        if len(head) < length_at + 4:
            return 0, None, len(data)
        (length,) = struct.unpack_from(f"{order}{form}", head, length_at)
    value = data[start : start + length]
    return group << 16 | element, value if len(value) == length else None, start + length


def _element(element: int, vr: bytes, value: bytes) -> bytes:
    length = struct.pack("<2xI" if vr in LONG_FORM else "<H", len(value))
    return struct.pack("<HH", 2, element) + vr + length + value


def _uid(text: str) -> bytes:
    encoded = text.encode("ascii")
    return encoded + b"\0" * (len(encoded) % 2)
