"""Plain elements in the DICOM JSON model without pydicom's conversion, which takes most of the time of a header."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping
from typing import Any

from pydicom.dataelem import RawDataElement

NUMBERS = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "FL": "f", "FD": "d"}
TEXTS: Mapping[str, Callable[[str], Any]] = {
    **dict.fromkeys(("AE", "AS", "CS", "DA", "DT", "LO", "SH", "TM", "UI"), str),
    "IS": int,
    "DS": float,
}
NUMERALS = {"IS": b"0123456789+-\\", "DS": b"0123456789+-.eE\\"}


def plain_json(raw: RawDataElement) -> dict[str, Any] | None:
    """The element of a raw one in explicit VR little endian; None for anything that is not plain.

    Plain are numbers, UIDs and ASCII text; without empty values among several.
    """
    if raw.is_implicit_VR or not raw.is_little_endian or not raw.value:
        return None
    if raw.VR in NUMBERS:
        return _numbers(raw.VR, raw.value)
    return _texts(raw.VR, raw.value) if raw.VR is not None and raw.VR in TEXTS else None


def _numbers(vr: str, value: bytes) -> dict[str, Any] | None:
    code = NUMBERS[vr]
    count, rest = divmod(len(value), struct.calcsize(code))
    if rest:
        return None
    values = list(struct.unpack(f"<{count}{code}", value))
    if code in "fd" and not all(map(math.isfinite, values)):
        return None
    return {"vr": vr, "Value": values}


def _texts(vr: str, padded: bytes) -> dict[str, Any] | None:
    value = padded.strip(b" \0") if vr in NUMERALS else padded.rstrip(b" \0")
    # Below 0x80 and without escape sequences every character set is ASCII (PS3.3 C.12.1.1.2).
    if not value.isascii() or b"\x1b" in value or b"\0" in value or value.translate(None, NUMERALS.get(vr, value)):
        return None
    parts = value.decode("ascii").split("\\")
    if not all(parts) or any(part != part.strip() for part in parts):
        return None
    try:
        return {"vr": vr, "Value": [TEXTS[vr](part) for part in parts]}
    except ValueError:
        return None
