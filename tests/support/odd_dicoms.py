"""More bad, hostile and merely odd DICOM files as recipes, each with the answer it is to get.

`REFUSED` gives the code; `ACCEPTED` are files that decode to `WORDS` in spite of what is odd about them. The groups:
tags against pixels, structure, text and numbers, identity, preambles, codestreams, fragments, bombs.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

import numpy as np
import pydicom
from pydicom import Dataset
from pydicom.encaps import encapsulate
from pydicom.filebase import DicomBytesIO
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from radserve.errors import ErrorCode
from tests.support.bad_dicoms import (
    BYTES,
    PIXELS,
    WORDS,
    changed,
    cut,
    halved,
    halved_with_end,
    insert,
    replaced,
    with_pixels,
)
from tests.support.dicoms import colour, cr, part10, us

C = ErrorCode
Make = Callable[[], bytes]
COMPRESSED = (RLELossless, JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless, HTJ2KLossless)
PREAMBLES = {
    "a Windows program": b"MZ\x90\x00\x03\x00\x00\x00",
    "a Linux program": b"\x7fELF\x02\x01\x01\x00",
    "a little-endian TIFF": b"II*\x00\x08\x00\x00\x00",
    "a big-endian TIFF": b"MM\x00*\x00\x00\x00\x08",
    "a BigTIFF": b"II+\x00\x08\x00\x00\x00",
    "a shell script": b"#!/bin/sh\necho hello\n",
    "a PDF": b"%PDF-1.7\n",
    "a web page": b"<html><script>alert(1)</script>",
    "a zip archive": b"PK\x05\x06",
    "a Mach-O program": b"\xcf\xfa\xed\xfe\x07\x00\x00\x01",
}


def element(group: int, number: int, vr: str, value: bytes, length: int | None = None) -> bytes:
    """An element in explicit VR little endian with the length it says, whatever that of its value."""
    head = struct.pack("<HH", group, number) + vr.encode("latin-1")
    size = len(value) if length is None else length
    long_form = vr in ("OB", "OW", "OF", "OD", "SQ", "UN", "UT", "UC", "UR", "OL", "OV", "SV", "UV")
    return head + (struct.pack("<HI", 0, size) if long_form else struct.pack("<H", size)) + value


def after(data: bytes, tag: bytes, elements: bytes) -> bytes:
    """Put elements before the first element whose tag and VR are `tag`."""
    at = data.index(tag)
    return data[:at] + elements + data[at:]


def with_value(ds: Dataset, keyword: str, raw: bytes, vr: str = "") -> bytes:
    """The bytes of `ds` with the value of an attribute written as it is."""
    data = part10(ds)
    tag = pydicom.datadict.tag_for_keyword(keyword)
    assert tag is not None
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF)
    own = vr or pydicom.datadict.dictionary_VR(tag)
    new = element(tag >> 16, tag & 0xFFFF, own, raw)
    if keyword in ds:
        old = element(tag >> 16, tag & 0xFFFF, ds[keyword].VR, b"")[:6]
        at = data.rindex(old) if keyword != "SOPInstanceUID" else data.index(old)
        length = struct.unpack("<H", data[at + 6 : at + 8])[0]
        return data[:at] + new + data[at + 8 + length :]
    later = min((one.tag for one in ds if one.tag > tag), default=0x7FE00010)
    return after(data, struct.pack("<HH", later >> 16, later & 0xFFFF) + ds[later].VR.encode(), new) if head else data


def preamble(head: bytes) -> bytes:
    return head.ljust(128, b"\0") + part10(cr(WORDS))[128:]


def frame_of(ds: Dataset, syntax: str) -> bytes:
    source = pydicom.dcmread(DicomBytesIO(part10(ds, syntax)))
    return next(pydicom.encaps.generate_frames(source.PixelData, number_of_frames=1))


def coded(edit: Callable[[bytes], bytes], syntax: str) -> bytes:
    """A radiograph whose codestream was edited."""
    edited = edit(frame_of(cr(WORDS), syntax))
    return with_pixels(cr(WORDS), encapsulate([edited + b"\0" * (len(edited) % 2)]), syntax)


def patched(marker: bytes, offset: int, new: bytes) -> Callable[[bytes], bytes]:
    def edit(frame: bytes) -> bytes:
        at = frame.index(marker) + offset
        return frame[:at] + new + frame[at + len(new) :]

    return edit


def fragments(*items: bytes, table: bytes = b"", end: bytes = b"\xfe\xff\xdd\xe0\0\0\0\0") -> bytes:
    """Encapsulated pixel data of these items, with the sequence delimiter, or without."""
    data = b"".join(b"\xfe\xff\x00\xe0" + struct.pack("<I", len(item)) + item for item in (table, *items))
    whole = with_pixels(us(BYTES), b"\xfe\xff\x00\xe0\0\0\0\0", RLELossless)
    start = whole.rindex(b"\xe0\x7f\x10\x00OB") + 12
    return whole[:start] + data + end


def two_frames(table: bytes) -> bytes:
    frame = frame_of(us(BYTES), RLELossless)
    data = fragments(frame[: len(frame) // 2 * 2 - 64], frame, frame, table=table)
    return replaced(data, b"\x28\0\x10\0US", element(0x28, 8, "IS", b"2 ") + b"\x28\0\x10\0US")


def _tags_against_pixels() -> dict[str, tuple[ErrorCode, Make]]:
    cases: dict[str, tuple[ErrorCode, Make]] = {}
    wrong = {
        "a row more": {"Rows": 33},
        "a row less": {"Rows": 31},
        "a column more": {"Columns": 33},
        "rows and columns of another shape": {"Rows": 16, "Columns": 64},
        "half the bits": {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7},
        "a frame more": {"NumberOfFrames": 2},
    }
    for syntax in COMPRESSED:
        for what, attributes in wrong.items():
            name = f"{what} than the {syntax.name.split(' Image')[0][:32]} pixels"
            cases[name] = (C.PIXELS_INCONSISTENT, lambda s=syntax, a=attributes: changed(cr(WORDS), s, **a))  # type: ignore[misc]
    rle = "RLE Lossless"
    del cases[f"rows and columns of another shape than the {rle} pixels"]  # RLE does not say its shape
    for what in ("a row more", "a column more"):  # nor how much there should be of it
        name = f"{what} than the {rle} pixels"
        cases[name] = (C.DECODE_FAILED, cases[name][1])
    raw: dict[str, tuple[ErrorCode, dict[str, object]]] = {
        "a raw column more": (C.TRUNCATED, {"Columns": 33}),
        "a raw frame more": (C.TRUNCATED, {"NumberOfFrames": 2}),
        "raw pixels of 8 bits that are 16": (
            C.PIXELS_INCONSISTENT,
            {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7},
        ),
        "raw pixels of 32 bits that are 16": (C.TRUNCATED, {"BitsAllocated": 32, "BitsStored": 32, "HighBit": 31}),
        "raw colour that is grey": (C.TRUNCATED, {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}),
        "24 bits allocated": (C.UNSUPPORTED_PIXELS, {"BitsAllocated": 24, "BitsStored": 24, "HighBit": 23}),
        "64 bits allocated": (C.UNSUPPORTED_PIXELS, {"BitsAllocated": 64, "BitsStored": 64, "HighBit": 63}),
        "two samples": (C.INVALID_HEADER, {"SamplesPerPixel": 2}),
        "four samples": (C.UNSUPPORTED_PIXELS, {"SamplesPerPixel": 4, "PhotometricInterpretation": "ARGB"}),
        "bits stored of 0": (C.INVALID_HEADER, {"BitsStored": 0}),
        "no photometric interpretation": (C.UNSUPPORTED_PIXELS, {"PhotometricInterpretation": ""}),
        "planar configuration of 5": (C.INVALID_HEADER, {"PlanarConfiguration": 5}),
    }
    for name, (code, attributes) in raw.items():
        cases[name] = (code, lambda a=attributes: changed(cr(WORDS), ExplicitVRLittleEndian, **a))  # type: ignore[misc]
    return cases


def _odd_columns() -> bytes:
    ds = colour(np.zeros((4, 5, 3), "u1"), "YBR_FULL_422")
    ds.PixelData = bytes(40)
    return part10(ds)


def _doubled_pixels() -> bytes:
    data = part10(cr(WORDS))
    return data + data[data.index(PIXELS) :]


def _explicit_under(syntax: str) -> bytes:
    """An explicit little endian data set under another transfer syntax."""
    data = part10(cr(WORDS))
    old = element(2, 0x10, "UI", ExplicitVRLittleEndian.encode() + b"\0")
    new = element(2, 0x10, "UI", syntax.encode() + b"\0" * (len(syntax) % 2))
    length = struct.unpack("<I", data[140:144])[0] + len(new) - len(old)
    return replaced(data[:140] + struct.pack("<I", length) + data[144:], old, new)


def _without_syntax() -> bytes:
    data = part10(cr(WORDS))
    old = element(2, 0x10, "UI", ExplicitVRLittleEndian.encode() + b"\0")
    length = struct.unpack("<I", data[140:144])[0] - len(old)
    return replaced(data[:140] + struct.pack("<I", length) + data[144:], old, b"")


ROWS = b"\x28\0\x10\0US"
PATIENT = b"\x10\0\x10\0PN"
STRUCTURE: dict[str, tuple[ErrorCode, Make]] = {
    "an item delimiter at the top": (
        C.NO_PIXELS,
        lambda: after(part10(cr(WORDS)), ROWS, b"\xfe\xff\x0d\xe0\0\0\0\0"),
    ),
    "a sequence of items that are none": (
        C.TRUNCATED,
        lambda: insert(part10(cr(WORDS)), element(0x40, 0x275, "SQ", b"\x11" * 40, 0xFFFFFFFF)),
    ),
    "a sequence that never ends": (
        C.TRUNCATED,
        lambda: insert(part10(cr(WORDS)), element(0x40, 0x275, "SQ", b"\xfe\xff\x00\xe0\xff\xff\xff\xff", 0xFFFFFFFF)),
    ),
    "an item longer than the file": (
        C.TRUNCATED,
        lambda: insert(part10(cr(WORDS)), element(0x40, 0x275, "SQ", b"\xfe\xff\x00\xe0\xff\xff\xff\x7f", 0xFFFFFFFF)),
    ),
    "a text longer than the file": (
        C.TRUNCATED,
        lambda: insert(part10(cr(WORDS)), element(0x40, 0x280, "UT", b"ab", 1 << 30)),
    ),
    "the meta group length beyond the file": (
        C.TRUNCATED,
        lambda: part10(cr(WORDS))[:140] + b"\xff\xff\xff\x7f" + part10(cr(WORDS))[144:300],
    ),
    "only the meta information": (
        C.TRUNCATED,
        lambda: part10(cr(WORDS))[: part10(cr(WORDS)).index(b"\x08\0\x05\0CS")],
    ),
    "a transfer syntax that is text": (
        C.INVALID_HEADER,
        lambda: replaced(part10(cr(WORDS)), b"1.2.840.10008.1.2.1\0", b"Jones.10008.1.2.1\0\0\0"),
    ),
    "little endian bytes under big endian": (C.TRUNCATED, lambda: _explicit_under(ExplicitVRBigEndian)),
    "explicit bytes under deflate": (C.INVALID_HEADER, lambda: _explicit_under(DeflatedExplicitVRLittleEndian)),
    "an empty deflated data set": (
        C.TRUNCATED,
        lambda: part10(cr(WORDS), DeflatedExplicitVRLittleEndian)[
            : 144 + struct.unpack("<I", part10(cr(WORDS), DeflatedExplicitVRLittleEndian)[140:144])[0]
        ],
    ),
    "rows without a value": (
        C.INVALID_HEADER,
        lambda: replaced(part10(cr(WORDS)), ROWS + b"\x02\0\x20\0", ROWS + b"\0\0"),
    ),
    "rows that are text": (C.INVALID_HEADER, lambda: replaced(part10(cr(WORDS)), ROWS, b"\x28\0\x10\0LO")),
    "rows that are a sequence": (
        C.INVALID_HEADER,
        lambda: replaced(part10(cr(WORDS)), ROWS + b"\x02\0\x20\0", element(0x28, 0x10, "SQ", b"")),
    ),
    "a modality LUT that is no sequence": (
        C.INVALID_HEADER,
        lambda: insert(part10(cr(WORDS)), element(0x28, 0x3000, "LO", b"abcd")),
    ),
    "a modality LUT without data": (C.INVALID_HEADER, lambda: part10(cr(WORDS, ModalityLUTSequence=[Dataset()]))),
    "422 of an odd number of columns": (C.PIXELS_INCONSISTENT, _odd_columns),
    "a kilobyte of a private element and no more": (
        C.TRUNCATED,
        lambda: part10(cr(WORDS))[:400] + element(0x29, 0x1010, "OB", bytes(1024), 4096),
    ),
    "pixel data of length 0": (C.TRUNCATED, lambda: part10(cr(WORDS)).partition(PIXELS)[0] + PIXELS + bytes(4)),
    "pixel data without its length": (C.TRUNCATED, lambda: part10(cr(WORDS)).partition(PIXELS)[0] + PIXELS[:6]),
    "pixel data of odd length": (C.TRUNCATED, lambda: cut(part10(cr(WORDS)), 0.5) + b"\0"),
}
IDENTITY: dict[str, tuple[ErrorCode, Make]] = {
    f"{keyword} {what}": (C.INVALID_HEADER, lambda k=keyword, r=raw: with_value(cr(WORDS), k, r))  # type: ignore[misc]
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
    for what, raw in {
        "that climbs": b"../../../etc/cron",
        "that is absolute": b"/etc/passwd\0",
        "of Windows": b"..\\..\\evil.1",
        "of 66 characters": b"1." * 32 + b"11",
        "with NUL inside": b"1.2\x003.4",
        "of dots": b"....",
        "of two values": b"1.2.3\\1.2.4\0",
        "with a newline": b"1.2.3\n4.",
    }.items()
}
TEXT: dict[str, tuple[ErrorCode, Make]] = {
    "frames that are no number": (C.INVALID_HEADER, lambda: with_value(cr(WORDS), "NumberOfFrames", b"many")),
    "frames with a fraction": (C.INVALID_HEADER, lambda: with_value(cr(WORDS), "NumberOfFrames", b"1.5 ")),
    "frames of 13 digits": (C.PIXEL_BUDGET_EXCEEDED, lambda: with_value(cr(WORDS), "NumberOfFrames", b"999999999999")),
    "frames of infinity": (C.INVALID_HEADER, lambda: with_value(cr(WORDS), "NumberOfFrames", b"inf ")),
    "a slope of infinity": (C.INVALID_HEADER, lambda: with_value(cr(WORDS), "RescaleSlope", b"inf ")),
    "a slope of nothing at all": (C.INVALID_HEADER, lambda: with_value(cr(WORDS), "RescaleSlope", b"nan ")),
    "a slope beyond float32": (C.INVALID_HEADER, lambda: with_value(cr(WORDS), "RescaleSlope", b"1e300 ")),
    "an intercept of letters": (C.INVALID_HEADER, lambda: with_value(cr(WORDS), "RescaleIntercept", b"minus1024 ")),
}
SOF = {JPEGLosslessSV1: b"\xff\xc3", JPEGLSLossless: b"\xff\xf7"}
SIZ = b"\xff\x4f\xff\x51"


def _codestreams() -> dict[str, tuple[ErrorCode, Make]]:
    cases: dict[str, tuple[ErrorCode, Make]] = {}
    for syntax in COMPRESSED:
        name = syntax.name.split(" Image")[0][:32]
        edits: dict[str, Callable[[bytes], bytes]] = {
            "its first hundred bytes": lambda frame: frame[:100],
            "zeros of its length": lambda frame: bytes(len(frame)),
            "itself backwards": lambda frame: frame[::-1],
        }
        for what, edit in edits.items():
            # The first word of RLE is the number of segments.
            is_count = syntax == RLELossless and "hundred" not in what
            code = C.PIXELS_INCONSISTENT if is_count else C.DECODE_FAILED
            cases[f"{name}: {what}"] = (code, _edited(edit, syntax))
    for syntax, marker in SOF.items():
        name = syntax.name.split(" Image")[0][:32]
        for what, offset, new in (
            ("a frame header of 0 x 0", 5, bytes(4)),
            ("four components", 9, b"\x04"),
            ("17 bits", 4, b"\x11"),
        ):
            cases[f"{name}: {what}"] = (C.PIXELS_INCONSISTENT, _edited(patched(marker, offset, new), syntax))
    for syntax in (JPEG2000Lossless, HTJ2KLossless):
        name = syntax.name.split(" Image")[0][:32]
        for what, offset, new, code in (
            ("16384 components", 40, b"\x40\0", C.DECODE_FAILED),
            ("an empty image area", 8, bytes(8), C.DECODE_FAILED),
            ("tiles of 0 x 0", 24, bytes(8), C.DECODE_FAILED),
            ("tiles of 1 x 1", 24, struct.pack(">II", 1, 1), C.DECODE_FAILED),
            ("60000 x 60000", 8, struct.pack(">II", 60000, 60000), C.PIXELS_INCONSISTENT),
        ):
            cases[f"{name}: {what}"] = (code, _edited(patched(SIZ, offset, new), syntax))
        cases[f"{name} cut in half"] = (C.DECODE_FAILED, _edited(halved, syntax))
        cases[f"{name} cut in half, with an end"] = (C.DECODE_FAILED, _edited(halved_with_end, syntax))
    for what, content, syntax in (
        ("JPEG 2000 under HTJ2K", lambda: frame_of(cr(WORDS), JPEG2000Lossless), HTJ2KLossless),
        ("JPEG baseline under JPEG 2000", lambda: frame_of(us(BYTES), JPEGBaseline8Bit), JPEG2000Lossless),
        ("JPEG lossless under baseline", lambda: frame_of(us(BYTES), JPEGLosslessSV1), JPEGBaseline8Bit),
        ("a PNG under JPEG baseline", lambda: b"\x89PNG\r\n\x1a\n" + bytes(100), JPEGBaseline8Bit),
    ):
        cases[what] = (C.DECODE_FAILED, _filed(content, syntax))
    return cases


def _edited(edit: Callable[[bytes], bytes], syntax: str) -> Make:
    return lambda: coded(edit, syntax)


def _filed(content: Make, syntax: str) -> Make:
    ds = cr(WORDS) if syntax == HTJ2KLossless else us(BYTES)
    return lambda: with_pixels(ds, encapsulate([content()]), syntax)


def _no_items() -> bytes:
    whole = with_pixels(us(BYTES), b"\xfe\xff\x00\xe0\0\0\0\0", RLELossless)
    return whole[: whole.rindex(b"\xe0\x7f\x10\x00OB") + 12] + b"\xfe\xff\xdd\xe0\0\0\0\0"


FRAGMENTS: dict[str, tuple[ErrorCode, Make]] = {
    "an offset table only": (C.NO_PIXELS, lambda: fragments(table=bytes(4))),
    "no items at all": (C.NO_PIXELS, _no_items),
    "an empty fragment": (C.DECODE_FAILED, lambda: fragments(b"")),
    "a fragment longer than the file": (
        C.TRUNCATED, lambda: fragments(bytes(8), end=b"\xfe\xff\x00\xe0\xff\xff\xff\x7f")),
    "a fragment of undefined length": (
        C.TRUNCATED, lambda: fragments(bytes(8), end=b"\xfe\xff\x00\xe0\xff\xff\xff\xff")),
    "an offset table that points into a fragment": (
        C.PIXELS_INCONSISTENT, lambda: two_frames(struct.pack("<II", 0, 20))),
    "an offset table beyond the file": (C.PIXELS_INCONSISTENT, lambda: two_frames(struct.pack("<II", 0, 1 << 30))),
    "an offset table that does not start at 0": (C.PIXELS_INCONSISTENT, lambda: two_frames(struct.pack("<II", 8, 16))),
    "an offset table that goes back": (C.PIXELS_INCONSISTENT, lambda: two_frames(struct.pack("<II", 0, 0))),
    "an offset table of one frame for two": (C.PIXELS_INCONSISTENT, lambda: two_frames(struct.pack("<I", 0))),
}  # fmt: skip


def _claims(**attributes: object) -> bytes:
    return changed(us(BYTES), ExplicitVRLittleEndian, **attributes)


def _palette_of_nothing() -> bytes:
    ds = us(BYTES, PhotometricInterpretation="PALETTE COLOR")
    for number in (1, 2, 3):
        ds.add_new(0x00281100 + number, "US", [0, 0, 16])
        ds.add_new(0x00281200 + number, "OW", b"ab")
    return part10(ds)


BOMBS: dict[str, tuple[ErrorCode, Make]] = {
    "bits for 65535 x 65535": (
        C.PIXEL_BUDGET_EXCEEDED,
        lambda: _claims(BitsAllocated=1, BitsStored=1, HighBit=0, Rows=65535, Columns=65535),
    ),
    "16384 frames of 8192 x 8192": (
        C.PIXEL_BUDGET_EXCEEDED,
        lambda: _claims(NumberOfFrames=16384, Rows=8192, Columns=8192),
    ),
    "a palette of 65536 entries and 6 bytes": (C.INVALID_HEADER, _palette_of_nothing),
    "20,000 items of functional groups for one frame": (
        C.INVALID_HEADER,
        lambda: insert(
            part10(us(BYTES)),
            element(0x5200, 0x9230, "SQ", (b"\xfe\xff\x00\xe0" + bytes(4)) * 20_000),
        ),
    ),
    "RLE of nothing but repeats": (
        C.PIXELS_INCONSISTENT,
        lambda: with_pixels(
            us(BYTES, Rows=4000, Columns=4000),
            encapsulate([struct.pack("<16I", 1, 64, *[0] * 14) + b"\x81\x00" * 50_000]),
            RLELossless,
        ),
    ),
}

REFUSED: dict[str, tuple[ErrorCode, Make]] = {
    **_tags_against_pixels(),
    **STRUCTURE,
    **IDENTITY,
    **TEXT,
    **_codestreams(),
    **FRAGMENTS,
    **BOMBS,
    **{
        f"{name} with no DICM": (C.NOT_DICOM, lambda h=head: h.ljust(200, b"\0"))  # type: ignore[misc]
        for name, head in list(PREAMBLES.items())[:4]
    },
}


def private(count: int) -> bytes:
    return b"".join(element(0x29, 0x1000 + index % 0xEF, "LO", b"ab") for index in range(count))


ACCEPTED: dict[str, Make] = {
    **{f"the preamble of {name}": lambda h=head: preamble(h) for name, head in PREAMBLES.items()},  # type: ignore[misc]
    "no transfer syntax": _without_syntax,
    "no preamble": lambda: part10(cr(WORDS))[132:],
    "explicit bytes under implicit": lambda: _explicit_under(ImplicitVRLittleEndian),
    "a data set twice its length": _doubled_pixels,
    "garbage after the pixels": lambda: part10(cr(WORDS)) + b"\x11" * 999,
    "rows as UN": lambda: replaced(part10(cr(WORDS)), ROWS + b"\x02\0", element(0x28, 0x10, "UN", b"\x20\0")[:12]),
    "a private element of an unknown VR": lambda: insert(part10(cr(WORDS)), element(0x29, 0x1010, "ZZ", b"ab")),
    "a private block without its creator": lambda: insert(part10(cr(WORDS)), element(0x29, 0x1010, "LO", b"ab")),
    "the same private element 200 times": lambda: insert(part10(cr(WORDS)), private(200)),
    "an unknown character set": lambda: replaced(part10(cr(WORDS)), b"ISO_IR 192", b"ISO_IR 999"),
    "a misspelt character set": lambda: replaced(part10(cr(WORDS)), b"ISO_IR 192", b"ISO-IR 192"),
    "a character set of bytes": lambda: replaced(part10(cr(WORDS)), b"ISO_IR 192", b"\xff" * 10),
    "a name of bytes that are no UTF-8": lambda: with_value(cr(WORDS), "PatientName", b"\xff\xfe\xfd^\xc3"),
    "a name of five component groups": lambda: with_value(cr(WORDS), "PatientName", b"a=b=c=d=e "),
    "a name of 4,000 characters": lambda: with_value(cr(WORDS), "PatientName", b"x" * 4000),
    "a name of escape sequences": lambda: with_value(cr(WORDS), "PatientName", b"\x1b$B\x1b(J\x1b$)C^\x1b"),
    "a description of control characters": lambda: with_value(cr(WORDS), "StudyDescription", bytes(range(1, 31))),
    "an age of letters": lambda: with_value(cr(WORDS), "PatientAge", b"OLD "),
    "a birth date in the year 9999": lambda: with_value(cr(WORDS), "PatientBirthDate", b"99991231"),
    "an instance number of letters": lambda: with_value(cr(WORDS), "InstanceNumber", b"one "),
    "a series number of 30 digits": lambda: with_value(cr(WORDS), "SeriesNumber", b"1" * 30),
    "a window of infinity": lambda: after(
        part10(cr(WORDS)), PIXELS[:4], element(0x28, 0x1050, "DS", b"inf ") + element(0x28, 0x1051, "DS", b"inf ")
    ),
    "a pixel spacing of letters": lambda: with_value(cr(WORDS), "PixelSpacing", b"a\\b "),
    "a leading zero in a UID": lambda: with_value(cr(WORDS), "StudyInstanceUID", b"1.2.003.04"),
    "an SOP instance UID of 64 characters": lambda: with_value(cr(WORDS), "SOPInstanceUID", b"1." * 31 + b"11"),
    "nested private sequences, ten deep": lambda: insert(part10(cr(WORDS)), _nested_private(10)),
    "overlays with no data": lambda: insert(part10(cr(WORDS)), element(0x6000, 0x10, "US", b"\x20\0")),
    "a window without a width": lambda: part10(cr(WORDS, WindowCenter=5)),
}  # fmt: skip


def _nested_private(depth: int) -> bytes:
    body = b""
    for _ in range(depth):
        body = element(0x29, 0x1010, "SQ", b"\xfe\xff\x00\xe0" + struct.pack("<I", len(body)) + body)
    return body
