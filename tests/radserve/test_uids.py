"""derive_uid: valid, stable, and different for different parts."""

from __future__ import annotations

import hashlib
import uuid

from radserve._checks import check_uid
from radserve.uids import derive_uid


def test_derived_uids_are_valid_and_hold_a_custom_uuid() -> None:
    for number in range(200):
        found = derive_uid("purpose", str(number))
        check_uid("derived", found)
        assert len(found) <= 44 and found.startswith("2.25.")
        value = uuid.UUID(int=int(found.removeprefix("2.25.")))
        assert (value.version, value.variant) == (8, uuid.RFC_4122)


def test_the_same_parts_give_the_same_uid_on_every_machine() -> None:
    digest = hashlib.sha256(bytes(7) + b"\x02sr" + bytes(7) + b"\x031.2").hexdigest()
    expected = int(f"{digest[:12]}8{digest[13:16]}{(int(digest[16], 16) & 0x3) | 0x8:x}{digest[17:32]}", 16)
    assert derive_uid("sr", "1.2") == f"2.25.{expected}"


def test_bounds_order_and_number_of_parts_count() -> None:
    parts = [("a", "bc"), ("ab", "c"), ("bc", "a"), ("abc",), ("abc", ""), ("a", "b", "c")]
    assert len({derive_uid(*each) for each in parts}) == len(parts)


def test_parts_may_hold_any_text() -> None:
    check_uid("derived", derive_uid("肺炎", "\x00/|"))
