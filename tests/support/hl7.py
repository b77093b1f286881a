"""HL7 v2 messages."""

from __future__ import annotations

HEADER = r"MSH|^~\&|RIS|HOSPITAL|RADSERVE|SITE|20260102120000||ORM^O01^ORM_O01|17|P|2.5.1"


def message(*segments: str, header: str = HEADER, end: str = "\r", encoding: str = "utf-8") -> bytes:
    return end.join((header, *segments, "")).encode(encoding)
