"""Elements as they stand in bytes, and where a sequence of undefined length ends, without reading what is in it."""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator

from pydicom.valuerep import EXPLICIT_VR_LENGTH_32, VR

Buffer = bytes | mmap.mmap
UNDEFINED_LENGTH = 0xFFFFFFFF
VRS = {vr.encode(): str(vr) for vr in VR if len(vr) == 2}
LONG_VRS = frozenset(EXPLICIT_VR_LENGTH_32)
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD  # PS3.5 table 7.5-1
MAX_DEPTH = 8
MAX_STEPS = 4096
HEAD = struct.Struct("<HHI")
EXPLICIT_HEAD = struct.Struct("<HH2sH")
LONG_LENGTH = struct.Struct("<I")


class OddError(Exception):
    """Something that is left to the sandbox."""


def element_at(data: Buffer, at: int, implicit: bool) -> tuple[int, str | None, int, int]:
    """Tag, VR (None where implicit), length and the place of the value (PS3.5 7.1); little endian.

    Raises OddError for an unknown VR, struct.error where the data ends before the value.
    """
    if implicit:
        group, number, length = HEAD.unpack_from(data, at)
        return group << 16 | number, None, length, at + 8
    group, number, code, length = EXPLICIT_HEAD.unpack_from(data, at)
    vr = VRS.get(code)
    if vr is None:
        raise OddError
    if vr in LONG_VRS:
        return group << 16 | number, vr, LONG_LENGTH.unpack_from(data, at + 8)[0], at + 12
    return group << 16 | number, vr, length, at + 8


def end_of_items(data: Buffer, at: int, implicit: bool) -> int:
    """The place behind the delimiter of the sequence of undefined length whose items begin at `at`; little endian.

    Raises as `element_at`, and OddError for more than MAX_DEPTH sequences in one another, or MAX_STEPS items and
    elements.
    """
    inside = [SEQUENCE_END]  # what ends the sequences and items that are open
    for _ in range(MAX_STEPS):
        group, number, length = HEAD.unpack_from(data, at)
        tag = group << 16 | number
        if tag in (ITEM_END, SEQUENCE_END):
            if inside.pop() != tag or length:
                raise OddError
            at += 8
            if not inside:
                return at
        elif inside[-1] == SEQUENCE_END:
            if tag != ITEM:
                raise OddError
            at = _step(inside, ITEM_END, length, at + 8)
        else:
            _, vr, length, at = element_at(data, at, implicit)
            if length == UNDEFINED_LENGTH and not (implicit or vr == "SQ"):
                raise OddError
            at = _step(inside, SEQUENCE_END, length, at)
        if len(inside) > 2 * MAX_DEPTH:
            raise OddError
    raise OddError


def elements_of_items(
    data: Buffer, at: int, end: int, *, implicit: bool, most: int
) -> Iterator[dict[int, tuple[str | None, bytes]]]:
    """The VR and the bytes of the elements of each item of the sequence whose value lies at [at, end), by tag.

    Sequences within are left out. Raises as `element_at`, and OddError for more than `most` items.
    """
    for _ in range(most + 1):
        if at >= end:
            return
        group, number, length = HEAD.unpack_from(data, at)
        tag, at = group << 16 | number, at + 8
        if tag == SEQUENCE_END and at == end:
            return
        inner = end if length == UNDEFINED_LENGTH else at + length
        if tag != ITEM or inner > end:
            raise OddError
        item, at = _elements_of_item(data, at, inner, implicit=implicit, delimited=length == UNDEFINED_LENGTH)
        yield item
    raise OddError


def _elements_of_item(
    data: Buffer, at: int, end: int, *, implicit: bool, delimited: bool
) -> tuple[dict[int, tuple[str | None, bytes]], int]:
    found: dict[int, tuple[str | None, bytes]] = {}
    for _ in range(MAX_STEPS):
        if at == end and not delimited:
            return found, at
        group, number, length = HEAD.unpack_from(data, at)
        if group << 16 | number == ITEM_END and delimited and not length:
            return found, at + 8
        tag, vr, length, value_at = element_at(data, at, implicit)
        if length == UNDEFINED_LENGTH:
            if not (implicit or vr == "SQ"):
                raise OddError
            at = end_of_items(data, value_at, implicit)
        else:
            at = value_at + length
            found[tag] = vr, data[value_at:at]
        if at > end:
            raise OddError
    raise OddError


def _step(inside: list[int], end: int, length: int, at: int) -> int:
    """Into what has no length, over what has one."""
    if length != UNDEFINED_LENGTH:
        return at + length
    inside.append(end)
    return at
