"""Whether a file that was opened is whole: its pixels, and what follows them, end where they say."""

from __future__ import annotations

import struct
from pathlib import Path

from radserve.dicom_io.nested import Buffer
from radserve.dicom_io.part10 import DicomFile, PixelElement, Reader, open_dicom, quiet, read_elements, truncated
from radserve.dicom_io.plain import Elements, encoding_of
from radserve.errors import DicomError, ErrorCode

DELIMITER = b"\xfe\xff\xdd\xe0"


def check_whole(file: DicomFile) -> None:
    """Raise DicomError where a file ends before its pixels do, or what follows them are no elements.

    TRUNCATED or INVALID_HEADER. Zeros after the pixels are what some media fill their blocks with.
    """
    if file.pixels is None:
        return
    end = pixels_end(file.data, file.pixels)
    if end > len(file.data):
        raise truncated()
    if end < len(file.data) and file.data[end:].strip(b"\0"):
        _check_elements(Reader(file.data), end, file.elements)


def check_whole_file(path: Path) -> None:
    """`check_whole` of a file that is opened for it; raises as `open_dicom` too. Run it in a worker."""
    check_whole(open_dicom(path))


def pixels_end(data: Buffer, pixels: PixelElement) -> int:
    """Where the value of the pixel element ends, beyond the data where these are cut off.

    Encapsulated pixels end behind the delimiter that follows their items (PS3.5 annex A.4).
    """
    if pixels.length is not None:
        return pixels.offset + pixels.length
    at = pixels.offset
    while True:
        head = data[at : at + 8]
        if len(head) < 8 or head[:4] == DELIMITER:
            return at + 8
        at += 8 + struct.unpack("<I", head[4:])[0]


def _check_elements(reader: Reader, at: int, like: Elements) -> None:
    """Read elements, encoded as those before, from there to the end."""
    implicit, little = encoding_of(like)
    reader.seek(at)
    try:
        with quiet():
            read_elements(reader, implicit=implicit, little=little, stop=lambda tag: False)
    except MemoryError:
        raise
    except Exception:  # pydicom has no common base
        reader.short = reader.short or reader.tell() >= len(reader.data)
        if not reader.short:
            raise DicomError(ErrorCode.INVALID_HEADER, "what follows the pixels cannot be parsed") from None
    if reader.short:
        raise truncated()
