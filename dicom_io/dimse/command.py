"""Command sets: the part of a DIMSE message before its data set (PS3.7 section 6.3.1 and annex E)."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

from radserve.dicom_io.dimse.pdu import ProtocolError

NO_DATA_SET = 0x0101
HAS_DATA_SET = 0x0001
RESPONSE = 0x8000
ERROR_COMMENT_LENGTH = 64  # VR LO


class Tag(IntEnum):
    """Elements of group 0000 (PS3.7 table E.1-1)."""

    GROUP_LENGTH = 0x0000
    AFFECTED_SOP_CLASS_UID = 0x0002
    REQUESTED_SOP_CLASS_UID = 0x0003
    COMMAND_FIELD = 0x0100
    MESSAGE_ID = 0x0110
    MESSAGE_ID_RESPONDED_TO = 0x0120
    MOVE_DESTINATION = 0x0600
    PRIORITY = 0x0700
    DATA_SET_TYPE = 0x0800
    STATUS = 0x0900
    ERROR_COMMENT = 0x0902
    AFFECTED_SOP_INSTANCE_UID = 0x1000
    REQUESTED_SOP_INSTANCE_UID = 0x1001
    EVENT_TYPE_ID = 0x1002
    ACTION_TYPE_ID = 0x1008
    REMAINING_SUBOPERATIONS = 0x1020
    COMPLETED_SUBOPERATIONS = 0x1021
    FAILED_SUBOPERATIONS = 0x1022
    WARNING_SUBOPERATIONS = 0x1023


class Operation(IntEnum):
    """The Command Field (0000,0100) of a request."""

    C_STORE = 0x0001
    C_GET = 0x0010
    C_FIND = 0x0020
    C_MOVE = 0x0021
    C_ECHO = 0x0030
    N_EVENT_REPORT = 0x0100
    N_ACTION = 0x0130
    C_CANCEL = 0x0FFF


@dataclass(frozen=True, slots=True)
class Command:
    """A command set, element by element as it came."""

    elements: Mapping[int, bytes]

    @property
    def operation(self) -> int:
        """The Command Field."""
        return self.number(Tag.COMMAND_FIELD)

    @property
    def has_data_set(self) -> bool:
        return self.number(Tag.DATA_SET_TYPE) != NO_DATA_SET

    @property
    def status(self) -> int:
        return self.number(Tag.STATUS)

    def number(self, tag: Tag, default: int | None = None) -> int:
        """An element of VR US. Raises ProtocolError where it is missing (without a default) or not two bytes."""
        value = self.elements.get(tag)
        if value is None and default is not None:
            return default
        if value is None or len(value) != 2:
            raise ProtocolError(f"the command has no usable {tag.name}")
        return int.from_bytes(value, "little")

    def text(self, tag: Tag) -> str:
        """An element of VR UI, AE or LO without its padding; empty where it is missing."""
        return self.elements.get(tag, b"").decode("ascii", "replace").strip("\0 ")


def decode_command(data: bytes) -> Command:
    """Read a command set (implicit VR little endian). Raises ProtocolError."""
    elements: dict[int, bytes] = {}
    at = 0
    while at < len(data):
        if len(data) - at < 8:
            raise ProtocolError("a command that ends inside an element")
        group, element, length = struct.unpack_from("<HHI", data, at)
        value = data[at + 8 : at + 8 + length]
        if group or len(value) != length:
            raise ProtocolError("a command with an element that is not of group 0000 or longer than the command")
        elements[element] = value
        at += 8 + length
    return Command(elements)


def encode_command(values: Mapping[Tag, int | str]) -> bytes:
    """The bytes of a command set; numbers are of VR US, texts UI, AE or LO."""
    body = b"".join(_element(tag, _encoded(tag, values[tag])) for tag in sorted(values))
    return _element(Tag.GROUP_LENGTH, struct.pack("<I", len(body))) + body


def response_to(request: Command, status: int, comment: str = "", **extra: int | str) -> dict[Tag, int | str]:
    """The command of a response without a data set; UIDs are those of the request. `extra`: further tags by name."""
    values: dict[Tag, int | str] = {
        Tag.COMMAND_FIELD: request.operation | RESPONSE,
        Tag.MESSAGE_ID_RESPONDED_TO: request.number(Tag.MESSAGE_ID),
        Tag.DATA_SET_TYPE: NO_DATA_SET,
        Tag.STATUS: status,
    }
    for tag in (Tag.AFFECTED_SOP_CLASS_UID, Tag.AFFECTED_SOP_INSTANCE_UID):
        if text := request.text(tag):
            values[tag] = text
    if comment:
        values[Tag.ERROR_COMMENT] = comment[:ERROR_COMMENT_LENGTH]
    return values | {Tag[name.upper()]: value for name, value in extra.items()}


def _encoded(tag: Tag, value: int | str) -> bytes:
    if isinstance(value, int):
        return struct.pack("<H", value)
    text = value.encode("ascii", "replace")
    padding = b"\0" if tag.name.endswith("UID") else b" "
    return text + padding * (len(text) % 2)


def _element(tag: Tag, value: bytes) -> bytes:
    return struct.pack("<HHI", 0, tag, len(value)) + value
