"""Open a DICOM file without trusting it: header as a pydicom Dataset, pixels as a place in the file's bytes.

Run it in a worker: a hostile header can use much CPU time and memory (RLIMIT_CPU and RLIMIT_AS bound both).
"""

from __future__ import annotations

import mmap
import os
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, cast

from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.uid import (
    UID,
    AllTransferSyntaxes,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)
from pydicom.valuerep import VR

from radserve.dicom_io.element_table import ElementTable
from radserve.dicom_io.nested import UNDEFINED_LENGTH, Buffer
from radserve.dicom_io.plain import Elements, dataset_of, encoding_of, plain_value
from radserve.dicom_io.preamble import PREAMBLE_LENGTH
from radserve.dicom_io.repairs import Repair, header_repairs
from radserve.dicom_io.scan import scan
from radserve.errors import DicomError, ErrorCode

INFLATED_LIMIT_BYTES = 512 * 2**20
READ_BYTES = 2**20
PIXEL_TAGS = (0x7FE00008, 0x7FE00009, 0x7FE00010)  # Float, Double Float, and Pixel Data
TRANSFER_SYNTAXES = {str(uid): uid for uid in AllTransferSyntaxes}
VRS = frozenset(str(vr) for vr in VR if len(vr) == 2)


@dataclass(frozen=True, slots=True)
class PixelElement:
    """Where the pixel data element is: its tag and VR, the offset of its value, its length, None where undefined."""

    tag: int
    vr: str
    offset: int
    length: int | None


@dataclass(frozen=True, slots=True)
class DicomFile:
    """A file opened by `open_dicom`: `elements` end before the pixels; `pixels` points into `data`.

    `end` is where the elements end in `data`.
    """

    elements: Elements = field(repr=False)
    meta_elements: Elements = field(repr=False)
    transfer_syntax_uid: str
    data: Buffer = field(repr=False)
    pixels: PixelElement | None
    end: int = 0
    repairs: tuple[Repair, ...] = ()

    @property
    def dataset(self) -> Dataset:
        """The elements as pydicom's: readers of single attributes do without."""
        return dataset_of(self.elements)

    @property
    def meta(self) -> Dataset:
        """The File Meta Information as pydicom's."""
        return dataset_of(self.meta_elements)


def open_dicom(path: Path) -> DicomFile:
    """Read the header of a DICOM file, with or without preamble.

    Raises DicomError NOT_DICOM, TRUNCATED (an element is longer than the file), INVALID_HEADER, or
    PIXEL_BUDGET_EXCEEDED for deflated content above INFLATED_LIMIT_BYTES.
    """
    return opened(bytes_of(path))


def opened(data: Buffer) -> DicomFile:
    """`open_dicom` of the bytes of a file."""
    reader = Reader(data)
    try:
        with quiet():
            return _open(reader)
    except (DicomError, MemoryError):
        raise
    except RecursionError:
        raise DicomError(ErrorCode.INVALID_HEADER, "the header's sequences are nested too deeply") from None
    except Exception as error:  # pydicom has no common base; its texts may quote values
        if reader.short or reader.tell() >= len(reader.data):
            raise truncated() from None
        raise DicomError(ErrorCode.INVALID_HEADER, f"the header cannot be parsed ({type(error).__name__})") from None


@contextmanager
def quiet() -> Iterator[None]:
    """Drop pydicom's warnings: they quote values."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def bytes_of(path: Path) -> Buffer:
    """The bytes of a file: those of a small one are read, which takes less time than to map and to unmap them.

    Raises DicomError NOT_DICOM where there are none.
    """
    with path.open("rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        if not size:
            raise DicomError(ErrorCode.NOT_DICOM, "the file is empty")
        if size <= READ_BYTES:
            return file.readall()  # not one read(): it may stop short on a network file system
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


class Reader:
    """A file object over a buffer that notes when the bytes ended inside an element (`short`)."""

    def __init__(self, data: Buffer) -> None:
        self.data = data
        self.short = False
        self._at = 0

    def read(self, size: int) -> bytes:
        chunk = self.data[self._at : self._at + size]
        self._at += len(chunk)
        # No bytes where the next element would begin (8 bytes) are the normal end.
        if len(chunk) < size and (chunk or size != 8):
            self.short = True
        return chunk

    def seek(self, offset: int, whence: int = 0) -> int:
        base = (0, self._at, len(self.data))[whence]
        self._at = max(base + offset, 0)
        if self._at > len(self.data):
            self.short = True
        return self._at

    def tell(self) -> int:
        return self._at


def truncated() -> DicomError:
    """The error of a file that ends too early."""
    return DicomError(ErrorCode.TRUNCATED, "the file ends inside a data element")


def _open(reader: Reader) -> DicomFile:
    has_preamble = reader.data[PREAMBLE_LENGTH : PREAMBLE_LENGTH + 4] == b"DICM"
    reader.seek(PREAMBLE_LENGTH + 4 if has_preamble else 0)
    start = reader.tell()
    if not (has_preamble or _looks_like_an_element(reader.data)):
        raise DicomError(ErrorCode.NOT_DICOM, "the file has neither a DICOM preamble nor DICOM elements at its start")
    meta: Elements = Dataset()
    if reader.data[start : start + 2] == b"\x02\x00":
        meta = read_elements(reader, implicit=False, little=True, stop=lambda tag: tag >> 16 != 2)
    if reader.short:
        raise truncated()
    syntax = _transfer_syntax(meta, reader)
    if syntax == DeflatedExplicitVRLittleEndian:
        reader = Reader(_inflate(reader))
    elements = read_elements(
        reader,
        implicit=syntax == ImplicitVRLittleEndian,
        little=syntax != ExplicitVRBigEndian,
        stop=PIXEL_TAGS.__contains__,
    )
    end = reader.tell()
    pixels = _pixel_element(reader, elements)
    if reader.short:
        raise truncated()
    repairs = (*_encoding_repairs(meta, syntax, elements), *header_repairs(elements))
    return DicomFile(elements, meta, str(syntax), reader.data, pixels, end, repairs)


def _encoding_repairs(meta: Elements, syntax: UID, elements: Elements) -> Iterator[Repair]:
    if not plain_value(meta, "TransferSyntaxUID"):
        yield Repair("TransferSyntaxUID", "absent", syntax.name, "from the first element")
    if isinstance(elements, ElementTable):  # it is made of nothing else than what was said
        return
    implicit, expected = dataset_of(elements).original_encoding[0], syntax == ImplicitVRLittleEndian
    if implicit is not None and len(dataset_of(elements)) and implicit != expected:
        stated, found = ("implicit", "explicit") if expected else ("explicit", "implicit")
        yield Repair("encoding of the data set", f"{stated} VR", f"{found} VR", "from the first element")


def read_elements(reader: Reader, *, implicit: bool, little: bool, stop: Callable[[int], bool]) -> Elements:
    """The data set from where the reader is up to `stop`, which is asked with each tag."""
    start = reader.tell()
    table = scan(reader, implicit=implicit, stop=stop) if little else None
    if table is not None:
        return table
    reader.seek(start)
    reader.short = False
    return read_dataset(cast(BinaryIO, reader), implicit, little, stop_when=lambda tag, vr, length: stop(tag))


def _looks_like_an_element(data: Buffer) -> bool:
    head = data[:8]
    if len(head) < 8:
        return False
    little, big = struct.unpack("<H", head[:2])[0], struct.unpack(">H", head[:2])[0]
    explicit = head[4:6].decode("latin-1") in VRS
    if explicit:
        return little in (0x0002, 0x0008) or big == 0x0008
    return little in (0x0002, 0x0008) and struct.unpack("<I", head[4:])[0] <= len(data) - 8


def _transfer_syntax(meta: Elements, reader: Reader) -> UID:
    stated = plain_value(meta, "TransferSyntaxUID")
    if stated in TRANSFER_SYNTAXES:
        return TRANSFER_SYNTAXES[stated]
    stated = dataset_of(meta).get("TransferSyntaxUID")
    if stated:
        if not isinstance(stated, UID) or not stated.is_valid:
            raise DicomError(ErrorCode.INVALID_HEADER, "TransferSyntaxUID is not a UID")
        return stated
    head = reader.data[reader.tell() : reader.tell() + 6]
    if head[4:6].decode("latin-1") not in VRS:
        return ImplicitVRLittleEndian
    return ExplicitVRBigEndian if head[0] == 0 else ExplicitVRLittleEndian


def _inflate(reader: Reader) -> bytes:
    stream = zlib.decompressobj(-zlib.MAX_WBITS)  # PS3.5 A.5: raw deflate
    try:
        data = stream.decompress(reader.data[reader.tell() :], INFLATED_LIMIT_BYTES)
    except zlib.error:
        raise DicomError(ErrorCode.INVALID_HEADER, "the deflated data set cannot be inflated") from None
    if stream.unconsumed_tail:
        limit = INFLATED_LIMIT_BYTES // 2**20
        raise DicomError(ErrorCode.PIXEL_BUDGET_EXCEEDED, f"the deflated data set inflates to more than {limit} MiB")
    if not stream.eof:
        raise DicomError(ErrorCode.TRUNCATED, "the deflated data set ends early")
    return data


def _pixel_element(reader: Reader, elements: Elements) -> PixelElement | None:
    """The element that stopped the reading, if one did. It is read anew: pydicom rewinds to its start."""
    start = reader.tell()
    head = reader.data[start : start + 12]
    if len(head) < 8:
        return None
    implicit, little = encoding_of(elements)
    order = "<" if little else ">"
    group, element = struct.unpack(f"{order}HH", head[:4])
    tag = group << 16 | element
    if tag not in PIXEL_TAGS:
        return None
    long_form = not implicit and head[4:6] in (b"OB", b"OW", b"OF", b"OD", b"UN")
    at = 8 if long_form else 4
    if len(head) < at + 4:
        raise truncated()
    (length,) = struct.unpack(f"{order}I", head[at : at + 4])
    vr = head[4:6].decode("ascii") if long_form else "OW"
    return PixelElement(tag, vr, start + at + 4, None if length == UNDEFINED_LENGTH else length)
