"""The files that a DICOMDIR names (PS3.3 annex F)."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.filereader import read_file_meta_info
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, MediaStorageDirectoryStorage

from radserve.errors import DicomError, ErrorCode

_DIRECTORY_RECORDS, _FILE_ID = 0x00041220, 0x00041500
_CLASS_ELEMENT = b"\x02\x00\x02\x00UI" + len(MediaStorageDirectoryStorage).to_bytes(2, "little")
_CLASS = _CLASS_ELEMENT + MediaStorageDirectoryStorage.encode()


def is_dicomdir(name: str, beginning: bytes) -> bool:
    """Whether a file is a DICOMDIR: by its name, or by the SOP class in the first bytes (512 are enough)."""
    return name.upper() == "DICOMDIR" or (beginning[128:132] == b"DICM" and _CLASS in beginning[132:])


def referenced_files(path: Path, max_bytes: int) -> list[tuple[str, ...]]:
    """Return the file IDs that the records name, as path components, each once, in their order.

    They are as the file has them and may lead out of its folder. Runs in the caller's process: bounded by `max_bytes`
    and never inflated (PS3.10 8.6: a DICOMDIR is Explicit VR Little Endian; Implicit is tolerated). Raises DicomError.
    """
    try:
        if path.stat().st_size > max_bytes:
            raise DicomError(ErrorCode.REQUEST_TOO_LARGE, f"the DICOMDIR has more than {max_bytes} bytes")
        data = path.read_bytes()
    except OSError as error:
        raise DicomError(ErrorCode.INVALID_ARGUMENT, f"the DICOMDIR cannot be read: {error.strerror}") from None
    if data[128:132] != b"DICM":
        raise DicomError(ErrorCode.NOT_DICOM, "the DICOMDIR is not a DICOM file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return list(dict.fromkeys(_file_id(record) for record in _records(path, data) if _FILE_ID in record))
    except DicomError:
        raise
    except Exception as error:  # whatever hostile bytes lead to, RecursionError and MemoryError too
        kind = type(error).__name__
        raise DicomError(ErrorCode.INVALID_HEADER, f"the DICOMDIR cannot be parsed ({kind})") from None


def _records(path: Path, data: bytes) -> list[Dataset]:
    syntax = read_file_meta_info(path).get("TransferSyntaxUID", "")
    if syntax not in (ExplicitVRLittleEndian, ImplicitVRLittleEndian):
        message = f"the DICOMDIR has the transfer syntax {str(syntax)[:64]!r}, expected Explicit VR Little Endian"
        raise DicomError(ErrorCode.UNSUPPORTED_TRANSFER_SYNTAX if syntax else ErrorCode.INVALID_HEADER, message)
    directory = dcmread(io.BytesIO(data), specific_tags=[_DIRECTORY_RECORDS])
    return list(directory[_DIRECTORY_RECORDS].value) if _DIRECTORY_RECORDS in directory else []


def _file_id(record: Dataset) -> tuple[str, ...]:
    value = record[_FILE_ID].value
    return (value,) if isinstance(value, str) else tuple(str(part) for part in value or ())
