"""The same data set in another file is the same instance; one bit of it, or of its syntax, makes it another."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread, dcmwrite
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGLSLossless

from radserve.dicom_io.same_instance import same_instance
from radserve.dicom_io.store import StudyStore
from radserve.errors import ErrorCode, StorageError
from tests.dicom_io.dimse.support import IMPLICIT, InlineWorkers, slice_bytes
from tests.support.dicoms import cr, part10

DATA = slice_bytes(1)


def with_other_head(data: bytes) -> bytes:
    """The same data set as another application writes it."""
    file = dcmread(io.BytesIO(data))
    file.file_meta.ImplementationVersionName = "ANOTHER"
    file.file_meta.SourceApplicationEntityTitle = "PACS"
    file.preamble = b"II*\0" + bytes(124)
    out = io.BytesIO()
    file.save_as(out)
    return out.getvalue()


def changed(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (DATA, True),
        (with_other_head(DATA), True),
        (changed(with_other_head(DATA), -1 + len(with_other_head(DATA))), False),
        (with_other_head(slice_bytes(1, PatientComments="x")), False),
        (with_other_head(DATA)[:-2], False),
        (slice_bytes(1, IMPLICIT), False),
        (b"no DICOM", False),
        (b"", False),
    ],
)
def test_what_counts_is_the_data_set_and_its_syntax(tmp_path: Path, other: bytes, expected: bool) -> None:
    assert with_other_head(DATA) != DATA
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_bytes(DATA)
    two.write_bytes(other)
    assert same_instance(one, two) is expected is same_instance(two, one)


def padding(length: int, syntax: str, said: int | None = None) -> bytes:
    """Data Set Trailing Padding (PS3.10 section 7.2) of so many bytes, the length as said."""
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    vr = b"" if syntax == ImplicitVRLittleEndian else b"OB\0\0"
    head = struct.pack(f"{order}HH", 0xFFFC, 0xFFFC) + vr
    return head + struct.pack(f"{order}I", length if said is None else said) + b"\xfc\xff" * (length // 2)


SYNTAXES = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, JPEGLSLossless)


def of_syntax(syntax: str) -> bytes:
    if syntax == ExplicitVRBigEndian:
        file = dcmread(io.BytesIO(DATA))
        file.file_meta.TransferSyntaxUID = syntax
        file["PixelData"].VR = "OB"
        out = io.BytesIO()
        dcmwrite(out, file, implicit_vr=False, little_endian=False)
        return out.getvalue()
    return part10(cr(np.zeros((64, 64), np.uint8)), syntax)


def compared(folder: Path, one: bytes, two: bytes) -> bool:
    (folder / "one").write_bytes(one)
    (folder / "two").write_bytes(two)
    found = same_instance(folder / "one", folder / "two")
    assert found is same_instance(folder / "two", folder / "one")
    return found


@pytest.mark.parametrize("length", [0, 2, 126, 100_000])
@pytest.mark.parametrize("syntax", SYNTAXES)
def test_padding_at_the_end_makes_no_other_instance(tmp_path: Path, syntax: str, length: int) -> None:
    data = of_syntax(syntax)
    assert compared(tmp_path, data, data + padding(length, syntax))
    # Of two paddings only that of usual images is told from pixels; else the later file goes to quarantine.
    assert compared(tmp_path, data + padding(8, syntax), data + padding(length, syntax)) is (
        syntax != ExplicitVRBigEndian
    )


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_what_only_looks_like_padding_makes_another_instance(tmp_path: Path, syntax: str) -> None:
    data, whole = of_syntax(syntax), padding(4, syntax)
    for tail in (
        *(padding(4, syntax, said) for said in (0, 3, 5, 0xFFFFFFFF)),
        *(whole[:size] for size in range(len(whole))[1:]),
        whole + b"\0",
        whole + whole,
        b"\xfc\xff\xfb\xff" + whole[4:],
        bytes(12),
    ):
        assert not compared(tmp_path, data, data + tail), tail
    assert not compared(tmp_path, data, changed(data, len(data) - 1) + whole)
    assert not compared(tmp_path, data + padding(8, syntax), changed(data, len(data) - 20) + whole)


def test_pixels_that_read_like_padding_are_pixels(tmp_path: Path) -> None:
    """The last 16 bytes of both are pixels with a head of padding; what follows it differs."""
    pixels = np.zeros((64, 64), np.uint8)
    found = []
    for last in (b"abcd", b"wxyz"):
        fake = padding(4, ExplicitVRLittleEndian)[:-4] + last
        pixels.reshape(-1)[-16:] = np.frombuffer(fake, np.uint8)
        found.append(part10(cr(pixels), ExplicitVRLittleEndian))
    assert found[0][-16:-4] == found[1][-16:-4]
    assert not compared(tmp_path, *found)
    assert not compared(tmp_path, found[0][:-16], found[0])  # one that ends within its pixels is another


async def test_the_store_takes_a_file_with_and_without_padding_as_one(tmp_path: Path) -> None:
    store = StudyStore(tmp_path, InlineWorkers())  # type: ignore[arg-type]
    await store.open()
    for data, is_duplicate in ((DATA, False), (DATA + padding(126, ExplicitVRLittleEndian), True)):
        async with store.receive() as incoming:
            incoming.write(data)
            assert (await incoming.commit()).duplicate is is_duplicate
    assert [path.read_bytes() for path in tmp_path.rglob("*.dcm")] == [DATA]
    await store.close()


async def test_the_store_takes_the_same_instance_in_another_file_as_there_and_keeps_the_first(tmp_path: Path) -> None:
    store = StudyStore(tmp_path, InlineWorkers())  # type: ignore[arg-type]
    await store.open()

    async def receive(data: bytes) -> bool:
        async with store.receive() as incoming:
            incoming.write(data)
            return (await incoming.commit()).duplicate

    assert [await receive(DATA), await receive(with_other_head(DATA))] == [False, True]
    with pytest.raises(StorageError) as caught:
        await receive(with_other_head(slice_bytes(1, PatientComments="x")))
    assert caught.value.code is ErrorCode.UID_CONFLICT
    assert [path.read_bytes() for path in tmp_path.rglob("*.dcm")] == [DATA]
    await store.close()
