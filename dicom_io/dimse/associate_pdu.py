"""The bodies of A-ASSOCIATE-RQ and -AC as values and back (PS3.8 sections 9.3.2 and 9.3.3, PS3.7 annex D.3.3)."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum

from radserve.dicom_io.dimse.pdu import ProtocolError

PREFIX = struct.Struct(">H2x16s16s32x")  # protocol version, called and calling AE title
ITEM = struct.Struct(">BxH")
PROTOCOL_VERSION = 1  # a bit


class ItemType(IntEnum):
    """Of the items that are read; others are passed over."""

    APPLICATION_CONTEXT = 0x10
    PROPOSED_CONTEXT = 0x20
    CONTEXT_RESULT = 0x21
    ABSTRACT_SYNTAX = 0x30
    TRANSFER_SYNTAX = 0x40
    USER_INFORMATION = 0x50
    MAXIMUM_LENGTH = 0x51
    IMPLEMENTATION_CLASS_UID = 0x52
    ROLE = 0x54
    IMPLEMENTATION_VERSION_NAME = 0x55


@dataclass(frozen=True, slots=True)
class ContextItem:
    """A presentation context that is proposed (`result` None) or its result (without an abstract syntax)."""

    context_id: int
    abstract_syntax: str
    transfer_syntax_uids: tuple[str, ...]
    result: int | None = None


@dataclass(frozen=True, slots=True)
class Associate:
    """A request or its acceptance. `max_pdu_bytes` 0: no limit. `roles`: of a class, whether SCU and SCP."""

    called_ae: str
    calling_ae: str
    application_context: str
    contexts: Sequence[ContextItem]
    max_pdu_bytes: int = 0
    roles: Mapping[str, tuple[bool, bool]] = field(default_factory=dict)
    protocol_version: int = PROTOCOL_VERSION


def decode(body: bytes) -> Associate:
    """Read the body of either PDU. Raises ProtocolError."""
    try:
        version, called, calling = PREFIX.unpack_from(body)
        application, length = "", 0
        contexts: list[ContextItem] = []
        roles: dict[str, tuple[bool, bool]] = {}
        for kind, value in _items(body[PREFIX.size :]):
            if kind == ItemType.APPLICATION_CONTEXT:
                application = _text(value)
            elif kind in (ItemType.PROPOSED_CONTEXT, ItemType.CONTEXT_RESULT):
                contexts.append(_context(value, is_result=kind == ItemType.CONTEXT_RESULT))
            elif kind == ItemType.USER_INFORMATION:
                length, roles = _user_information(value)
        return Associate(_text(called), _text(calling), application, contexts, length, roles, version)
    except (struct.error, IndexError):
        raise ProtocolError("an association request or answer that ends inside an item") from None


def encode(associate: Associate, implementation_class_uid: str, implementation_version_name: str) -> bytes:
    """The body; the implementation is that of the sender."""
    user = _item(ItemType.MAXIMUM_LENGTH, struct.pack(">I", associate.max_pdu_bytes))
    user += _item(ItemType.IMPLEMENTATION_CLASS_UID, implementation_class_uid.encode("ascii"))
    for uid, (scu, scp) in associate.roles.items():
        name = uid.encode("ascii", "replace")
        user += _item(ItemType.ROLE, struct.pack(">H", len(name)) + name + bytes((scu, scp)))
    user += _item(ItemType.IMPLEMENTATION_VERSION_NAME, implementation_version_name.encode("ascii"))
    return b"".join(
        (
            PREFIX.pack(associate.protocol_version, _title(associate.called_ae), _title(associate.calling_ae)),
            _item(ItemType.APPLICATION_CONTEXT, associate.application_context.encode("ascii")),
            *map(_encoded_context, associate.contexts),
            _item(ItemType.USER_INFORMATION, user),
        )
    )


def _items(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(data):
        kind, length = ITEM.unpack_from(data, at)
        at += ITEM.size + length
        if at > len(data):
            raise ProtocolError("an item that is longer than what holds it")
        yield kind, data[at - length : at]


def _context(data: bytes, *, is_result: bool) -> ContextItem:
    context_id, result = data[0], data[2]
    if not context_id % 2:
        raise ProtocolError(f"the presentation context {context_id}, which is no odd number")
    abstract, syntaxes = "", []
    for kind, value in _items(data[4:]):
        if kind == ItemType.ABSTRACT_SYNTAX:
            abstract = _text(value)
        elif kind == ItemType.TRANSFER_SYNTAX:
            syntaxes.append(_text(value))
    return ContextItem(context_id, abstract, tuple(syntaxes), result if is_result else None)


def _user_information(data: bytes) -> tuple[int, dict[str, tuple[bool, bool]]]:
    length, roles = 0, {}
    for kind, value in _items(data):
        if kind == ItemType.MAXIMUM_LENGTH:
            (length,) = struct.unpack(">I", value)
        elif kind == ItemType.ROLE:
            (size,) = struct.unpack_from(">H", value)
            roles[_text(value[2 : 2 + size])] = (bool(value[2 + size]), bool(value[3 + size]))
    return length, roles


def _encoded_context(context: ContextItem) -> bytes:
    is_proposed = context.result is None
    data = bytes((context.context_id, 0, context.result or 0, 0))
    if is_proposed:
        data += _item(ItemType.ABSTRACT_SYNTAX, context.abstract_syntax.encode("ascii"))
    data += b"".join(_item(ItemType.TRANSFER_SYNTAX, uid.encode("ascii")) for uid in context.transfer_syntax_uids)
    return _item(ItemType.PROPOSED_CONTEXT if is_proposed else ItemType.CONTEXT_RESULT, data)


def _item(kind: ItemType, data: bytes) -> bytes:
    return ITEM.pack(kind, len(data)) + data


def _text(data: bytes) -> str:
    return data.decode("ascii", "replace").strip("\0 ")


def _title(text: str) -> bytes:
    return text.encode("ascii", "replace").ljust(16)[:16]
