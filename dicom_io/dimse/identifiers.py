"""Small data sets of queries and reports: written by us, or read from a peer within bounds."""

from __future__ import annotations

import io

from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset

from radserve.dicom_io.file_meta import IMPLICIT_LITTLE
from radserve.dicom_io.part10 import quiet
from radserve.errors import DicomError, ErrorCode


def encode_identifier(dataset: Dataset, transfer_syntax_uid: str) -> bytes:
    """The bytes in implicit or explicit VR little endian."""
    buffer = DicomBytesIO()
    buffer.is_little_endian = True
    buffer.is_implicit_VR = transfer_syntax_uid == IMPLICIT_LITTLE
    write_dataset(buffer, dataset)
    return bytes(buffer.getvalue())


def decode_identifier(data: bytes, transfer_syntax_uid: str) -> Dataset:
    """Read the bytes. Raises DicomError INVALID_HEADER; values are converted, and checked, when they are used."""
    try:
        with quiet():
            return read_dataset(io.BytesIO(data), transfer_syntax_uid == IMPLICIT_LITTLE, True)
    except MemoryError:
        raise
    except Exception as error:  # pydicom has no common base
        text = f"the peer's data set cannot be parsed ({type(error).__name__})"
        raise DicomError(ErrorCode.INVALID_HEADER, text) from None


def text_of(dataset: Dataset, keyword: str) -> str:
    """A value as text, several joined by a backslash; empty where it is missing or cannot be converted."""
    try:
        with quiet():
            value = dataset.get(keyword)
            if value is None:
                return ""
            several = not isinstance(value, str) and hasattr(value, "__iter__")
            return "\\".join(str(each) for each in value) if several else str(value)
    except MemoryError:
        raise
    except Exception:  # as above
        return ""
