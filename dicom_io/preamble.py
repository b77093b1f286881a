"""The bytes before the elements of a Part 10 file (PS3.10 section 7.1), which belong to nobody."""

from __future__ import annotations

from typing import BinaryIO

PREAMBLE_LENGTH = 128


def zero_preamble(file: BinaryIO) -> bytes:
    """Overwrite the preamble of a Part 10 file open for reading and writing; return what it held, b"" if nothing.

    A preamble may make the file a program or a TIFF image as well (CVE-2019-11687); PS3.10 section 7.1 wants zeros
    where nothing uses it. The position in the file is kept.
    """
    at = file.tell()
    file.seek(0)
    head = file.read(PREAMBLE_LENGTH + 4)
    is_used = head[PREAMBLE_LENGTH:] == b"DICM" and any(head[:PREAMBLE_LENGTH])
    if is_used:
        file.seek(0)
        file.write(bytes(PREAMBLE_LENGTH))
    file.seek(at)
    return head[:PREAMBLE_LENGTH] if is_used else b""
