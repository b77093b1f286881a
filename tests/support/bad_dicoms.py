"""Bad and hostile DICOM files, made when asked for, each with the code it is to be refused with."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
from pydicom import Dataset
from pydicom.data import get_testdata_files
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from radserve.dicom_io.part10 import INFLATED_LIMIT_BYTES
from radserve.errors import ErrorCode
from tests.support.dicoms import LOSSLESS_SYNTAXES, colour, cr, part10, us

WORDS = np.random.default_rng(0).integers(0, 4096, (32, 32)).astype("u2")
BYTES = (WORDS >> 4).astype("u1")
PIXELS = b"\xe0\x7f\x10\x00OW\0\0"


def with_pixels(ds: Dataset, pixel_data: bytes, syntax: str) -> bytes:
    """`ds` with this pixel data under this transfer syntax, whatever it is."""
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    stub = part10(ds)
    ds = pydicom.dcmread(pydicom.filebase.DicomBytesIO(stub))
    ds.add_new(0x7FE00010, "OB", pixel_data)
    ds["PixelData"].is_undefined_length = True
    ds.file_meta.TransferSyntaxUID = syntax
    buffer = pydicom.filebase.DicomBytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def changed(ds: Dataset, syntax: str, **attributes: object) -> bytes:
    """The bytes of `ds` in a syntax, with attributes that its pixels do not have."""
    data = pydicom.dcmread(pydicom.filebase.DicomBytesIO(part10(ds, syntax)))
    for keyword, value in attributes.items():
        setattr(data, keyword, value)
    buffer = pydicom.filebase.DicomBytesIO()
    data.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def rle_of_50_bytes(side: int) -> bytes:
    header = struct.pack("<16I", 1, 64, *[0] * 14)
    frame = header + b"\x81\x00" * 1
    ds = us(BYTES)
    ds.Rows = ds.Columns = side
    return with_pixels(ds, encapsulate([frame]), RLELossless)


def nested(depth: int) -> bytes:
    body = b""
    for _ in range(depth):
        item = b"\xfe\xff\x00\xe0" + struct.pack("<I", len(body)) + body
        body = b"\x40\x00\x75\x02SQ\0\0" + struct.pack("<I", len(item)) + item
    return insert(part10(cr(WORDS)), body)


def nested_undefined(depth: int) -> bytes:
    opening = b"\x40\x00\x75\x02SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    closing = b"\xfe\xff\x0d\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0"
    return insert(part10(cr(WORDS)), opening * depth + closing * depth)


def insert(data: bytes, elements: bytes) -> bytes:
    """Put elements before the pixel data."""
    at = data.index(PIXELS[:4])
    return data[:at] + elements + data[at:]


def deflate_bomb() -> bytes:
    data = part10(cr(WORDS), DeflatedExplicitVRLittleEndian)
    start = 132 + 12 + struct.unpack("<I", data[140:144])[0]
    header = zlib.decompress(data[start:], -zlib.MAX_WBITS)
    deflater = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    chunks = [deflater.compress(header)]
    zeros = bytes(1 << 20)
    chunks += [deflater.compress(zeros) for _ in range(INFLATED_LIMIT_BYTES // len(zeros) + 1)]
    return data[:start] + b"".join(chunks) + deflater.flush()


def replaced(data: bytes, old: bytes, new: bytes) -> bytes:
    assert old in data
    return data.replace(old, new)


def jpeg_with(edit: Callable[[bytes], bytes], syntax: str = JPEGLosslessSV1) -> bytes:
    source = pydicom.dcmread(pydicom.filebase.DicomBytesIO(part10(us(BYTES), syntax)))
    frame = next(pydicom.encaps.generate_frames(source.PixelData, number_of_frames=1))
    edited = edit(frame)
    return with_pixels(us(BYTES), encapsulate([edited + b"\0" * (len(edited) % 2)]), syntax)


def halved(frame: bytes) -> bytes:
    return frame[: len(frame) // 2]


def halved_with_end(frame: bytes) -> bytes:
    return frame[: len(frame) // 2] + b"\xff\xd9"


def foreign_marker(frame: bytes) -> bytes:
    middle = len(frame) * 3 // 4
    return frame[:middle] + b"\xff\xc4" + frame[middle:-2] + b"\xff\xb7" + frame[-2:]


def sof_claims(frame: bytes) -> bytes:
    at = frame.index(b"\xff\xc3")
    return frame[: at + 5] + struct.pack(">HH", 65500, 65500) + frame[at + 9 :]


def j2k_claims(frame: bytes) -> bytes:
    at = frame.index(b"\xff\x4f\xff\x51")
    return frame[: at + 8] + struct.pack(">II", 60000, 60000) + frame[at + 16 :]


def cut(data: bytes, share: float) -> bytes:
    return data[: int(len(data) * share)]


def uncoded(keyword: str, value: object) -> bytes:
    return changed(cr(WORDS), ExplicitVRLittleEndian, **{keyword: value})


def without(keyword: str) -> bytes:
    ds = cr(WORDS)
    delattr(ds, keyword)
    return part10(ds)


C = ErrorCode
CASES: dict[str, tuple[ErrorCode, Callable[[], bytes]]] = {
    "empty file": (C.NOT_DICOM, lambda: b""),
    "text": (C.NOT_DICOM, lambda: b"This is a read-me file about the images in this folder.\n" * 20),
    "one byte": (C.NOT_DICOM, lambda: b"\x08"),
    "zip": (C.NOT_DICOM, lambda: b"PK\x03\x04" + bytes(500)),
    "preamble of zeros alone": (C.NOT_DICOM, lambda: bytes(132)),
    "prefix and nothing after it": (C.TRUNCATED, lambda: bytes(128) + b"DICM"),
    "cut in the file meta information": (C.TRUNCATED, lambda: part10(cr(WORDS))[:200]),
    "cut in the header": (C.TRUNCATED, lambda: part10(cr(WORDS))[:650]),
    "cut in the raw pixels": (C.TRUNCATED, lambda: cut(part10(cr(WORDS)), 0.9)),
    "cut in deflated data": (C.TRUNCATED, lambda: cut(part10(cr(WORDS), DeflatedExplicitVRLittleEndian), 0.9)),
    "cut in the RLE pixels": (C.TRUNCATED, lambda: cut(part10(cr(WORDS), RLELossless), 0.9)),
    "cut in the JPEG-LS pixels": (C.TRUNCATED, lambda: cut(part10(cr(WORDS), JPEGLSLossless), 0.9)),
    "no sequence delimiter": (C.TRUNCATED, lambda: part10(cr(WORDS), JPEG2000Lossless)[:-8]),
    "element longer than the file": (
        C.TRUNCATED,
        lambda: insert(part10(cr(WORDS)), b"\x29\x00\x10\x00UN\0\0\xf0\xff\xff\x7f"),
    ),
    "garbage in deflated data": (
        C.INVALID_HEADER,
        lambda: part10(cr(WORDS), DeflatedExplicitVRLittleEndian)[:400] + b"\xff" * 600,
    ),
    "deflate bomb": (C.PIXEL_BUDGET_EXCEEDED, deflate_bomb),
    "sequences nested 1000 deep": (C.INVALID_HEADER, lambda: nested_undefined(1000)),
    "sequences nested 50,000 deep": (C.INVALID_HEADER, lambda: nested_undefined(50_000)),
    "no study": (C.INVALID_HEADER, lambda: without("StudyInstanceUID")),
    "UID of letters": (
        C.INVALID_HEADER,
        lambda: replaced(part10(cr(WORDS, StudyInstanceUID="1.2.34567")), b"1.2.34567", b"1.2.Jones"),
    ),
    "UID with a path": (
        C.INVALID_HEADER,
        lambda: replaced(part10(cr(WORDS, SeriesInstanceUID="1.2.3456")), b"1.2.3456", b"../../ab"),
    ),
    "no rows": (C.INVALID_HEADER, lambda: without("Rows")),
    "rows of 0": (C.INVALID_HEADER, lambda: uncoded("Rows", 0)),
    "two rows": (C.INVALID_HEADER, lambda: uncoded("Rows", [32, 32])),
    "frames of 0": (C.INVALID_HEADER, lambda: uncoded("NumberOfFrames", 0)),
    "negative frames": (C.INVALID_HEADER, lambda: uncoded("NumberOfFrames", -3)),
    "rows of three bytes": (
        C.INVALID_HEADER,
        lambda: replaced(part10(cr(WORDS)), b"\x28\0\x10\0US\x02\0\x20\0", b"\x28\0\x10\0US\x03\0\x20\0\0"),
    ),
    "no bits": (C.INVALID_HEADER, lambda: without("BitsAllocated")),
    "more bits stored than allocated": (
        C.INVALID_HEADER,
        lambda: changed(cr(WORDS), ExplicitVRLittleEndian, BitsStored=17, HighBit=16),
    ),
    "pixel representation of 7": (C.INVALID_HEADER, lambda: uncoded("PixelRepresentation", 7)),
    "rescale slope of 0": (C.INVALID_HEADER, lambda: uncoded("RescaleSlope", 0)),
    "rescale slope that is no number": (
        C.INVALID_HEADER,
        lambda: replaced(part10(cr(WORDS, RescaleSlope="1.25")), b"\x53\x10DS\x04\x001.25", b"\x53\x10DS\x04\x001,25"),
    ),
    "no pixels": (C.NO_PIXELS, lambda: part10(cr(WORDS)).partition(b"\xe0\x7f\x10\x00")[0]),
    "no fragment": (C.NO_PIXELS, lambda: with_pixels(us(BYTES), b"\xfe\xff\x00\xe0\0\0\0\0", RLELossless)),
    "a structured report": (C.UNSUPPORTED_SOP_CLASS, lambda: uncoded("SOPClassUID", "1.2.840.10008.5.1.4.1.1.88.22")),
    "an encapsulated PDF": (C.UNSUPPORTED_SOP_CLASS, lambda: uncoded("SOPClassUID", "1.2.840.10008.5.1.4.1.1.104.1")),
    "a private SOP class": (C.UNSUPPORTED_SOP_CLASS, lambda: uncoded("SOPClassUID", "1.2.3.4")),
    "an MPEG video": (
        C.UNSUPPORTED_TRANSFER_SYNTAX,
        lambda: with_pixels(us(BYTES), encapsulate([b"12"]), "1.2.840.10008.1.2.4.102"),
    ),
    "a private transfer syntax": (
        C.UNSUPPORTED_TRANSFER_SYNTAX,
        lambda: replaced(part10(cr(WORDS)), b"1.2.840.10008.1.2.1\0", b"1.2.840.99999.1.2.1\0"),
    ),
    "one bit per pixel where there are eight": (
        C.PIXELS_INCONSISTENT,
        lambda: changed(us(BYTES), ExplicitVRLittleEndian, BitsAllocated=1, BitsStored=1, HighBit=0),
    ),
    "an odd high bit": (
        C.UNSUPPORTED_PIXELS,
        lambda: changed(cr(WORDS), ExplicitVRLittleEndian, BitsStored=12, HighBit=15),
    ),
    "an unknown photometric interpretation": (
        C.UNSUPPORTED_PIXELS,
        lambda: uncoded("PhotometricInterpretation", "CMYK"),
    ),
    "RGB of one sample": (C.INVALID_HEADER, lambda: uncoded("PhotometricInterpretation", "RGB")),
    "a palette without its tables": (
        C.INVALID_HEADER,
        lambda: changed(us(BYTES), ExplicitVRLittleEndian, PhotometricInterpretation="PALETTE COLOR"),
    ),
    "more rows than the raw pixels have": (C.TRUNCATED, lambda: uncoded("Rows", 33)),
    "half the rows of the raw pixels": (C.PIXELS_INCONSISTENT, lambda: uncoded("Rows", 16)),
    "raw pixels of undefined length": (
        C.PIXELS_INCONSISTENT,
        lambda: replaced(part10(cr(WORDS)), PIXELS + b"\0\x08\0\0", PIXELS + b"\xff" * 4),
    ),
    "other rows than the JPEG 2000 image": (
        C.PIXELS_INCONSISTENT,
        lambda: changed(cr(WORDS), JPEG2000Lossless, Rows=31),
    ),
    "other columns than the JPEG-LS image": (
        C.PIXELS_INCONSISTENT,
        lambda: changed(cr(WORDS), JPEGLSLossless, Columns=31),
    ),
    "fewer bits than the JPEG image": (
        C.PIXELS_INCONSISTENT,
        lambda: changed(cr(WORDS), JPEGLosslessSV1, BitsAllocated=8, BitsStored=8, HighBit=7),
    ),
    "values above the bits stored": (
        C.PIXELS_INCONSISTENT,
        lambda: changed(cr(WORDS), JPEGLSLossless, BitsStored=8, HighBit=7),
    ),
    "colour under a grey tag": (
        C.PIXELS_INCONSISTENT,
        lambda: changed(
            colour(np.stack([BYTES] * 3, -1)),
            JPEGLosslessSV1,
            SamplesPerPixel=1,
            PhotometricInterpretation="MONOCHROME2",
        ),
    ),
    "more frames than fragments": (
        C.PIXELS_INCONSISTENT,
        lambda: changed(us(np.stack([BYTES] * 3)), RLELossless, NumberOfFrames=4),
    ),
    "RLE of 50 bytes that claims 65535 x 65535": (C.PIXEL_BUDGET_EXCEEDED, lambda: rle_of_50_bytes(65535)),
    "RLE of 50 bytes that claims 8000 x 8000": (C.PIXELS_INCONSISTENT, lambda: rle_of_50_bytes(8000)),
    "RLE with a segment too many": (
        C.PIXELS_INCONSISTENT,
        lambda: with_pixels(
            us(BYTES), encapsulate([struct.pack("<16I", 2, 64, 64, *[0] * 13) + bytes(100)]), RLELossless
        ),
    ),
    "RLE with segments out of place": (
        C.DECODE_FAILED,
        lambda: with_pixels(
            us(BYTES), encapsulate([struct.pack("<16I", 1, 9999, *[0] * 14) + bytes(100)]), RLELossless
        ),
    ),
    "RLE that ends early": (
        C.DECODE_FAILED,
        lambda: with_pixels(
            us(BYTES), encapsulate([struct.pack("<16I", 1, 64, *[0] * 14) + b"\x00a" * 100]), RLELossless
        ),
    ),
    "RLE header cut": (C.DECODE_FAILED, lambda: with_pixels(us(BYTES), encapsulate([b"\x01\0\0\0"]), RLELossless)),
    "one billion frames": (C.PIXEL_BUDGET_EXCEEDED, lambda: uncoded("NumberOfFrames", 1_000_000_000)),
    "JPEG that claims 65500 x 65500": (C.PIXELS_INCONSISTENT, lambda: jpeg_with(sof_claims)),
    "JPEG 2000 that claims 60000 x 60000": (C.PIXELS_INCONSISTENT, lambda: jpeg_with(j2k_claims, JPEG2000Lossless)),
    "JPEG lossless cut in half": (C.DECODE_FAILED, lambda: jpeg_with(halved)),
    "JPEG lossless cut in half, with an end": (C.DECODE_FAILED, lambda: jpeg_with(halved_with_end)),
    "JPEG with a marker inside its scan": (C.DECODE_FAILED, lambda: jpeg_with(foreign_marker)),
    "JPEG baseline cut in half, with an end": (C.DECODE_FAILED, lambda: jpeg_with(halved_with_end, JPEGBaseline8Bit)),
    "JPEG-LS cut in half, with an end": (C.DECODE_FAILED, lambda: jpeg_with(halved_with_end, JPEGLSLossless)),
    "JPEG 2000 cut in half, with an end": (C.DECODE_FAILED, lambda: jpeg_with(halved_with_end, JPEG2000Lossless)),
    "JPEG-LS under the syntax of JPEG lossless": (
        C.DECODE_FAILED,
        lambda: replaced(part10(us(BYTES), JPEGLSLossless), b"1.2.4.80", b"1.2.4.70"),
    ),
    "noise for a codestream": (
        C.DECODE_FAILED,
        lambda: with_pixels(us(BYTES), encapsulate([b"\x12\x34" * 400]), JPEG2000Lossless),
    ),
    "fragments that are no items": (
        C.DECODE_FAILED,
        lambda: with_pixels(us(BYTES), b"\xfe\xff\x00\xe0\0\0\0\0" + b"\x11" * 40, JPEGBaseline8Bit),
    ),
}


def mutants(seed: int, count: int) -> list[bytes]:
    """Files with flipped, cut, doubled and overwritten parts."""
    random = np.random.default_rng(seed)
    sources = [part10(us(np.stack([BYTES] * 2)), syntax) for syntax in (*LOSSLESS_SYNTAXES, JPEGBaseline8Bit)]
    sources += [part10(cr(WORDS), syntax) for syntax in LOSSLESS_SYNTAXES]
    sources += [
        Path(get_testdata_files(f"**/{name}")[0]).read_bytes() for name in ("mlut_18.dcm", "emri_small_RLE.dcm")
    ]
    result = []
    for _ in range(count):
        data = bytearray(sources[random.integers(len(sources))])
        for _ in range(random.integers(1, 4)):
            at = int(random.integers(132, len(data)))
            kind = random.integers(4)
            if kind == 0:
                data[at] ^= 1 << random.integers(8)
            elif kind == 1:
                del data[at : at + int(random.integers(1, 40))]
            elif kind == 2:
                data[at:at] = data[at : at + int(random.integers(1, 40))]
            else:
                data[at : at + 4] = random.choice(
                    [b"\xff\xff\xff\xff", b"\0\0\0\0", b"\xff\x7f\xff\x7f", b"\xfe\xff\0\xe0"]
                )
            if len(data) < 200:
                break
        result.append(bytes(data))
    return result
