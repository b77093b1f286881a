"""The same data set in another file is the same instance; one bit of it, or of its syntax, makes it another."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from pydicom import dcmread

from radserve.dicom_io.same_instance import same_instance
from radserve.dicom_io.store import StudyStore
from radserve.errors import ErrorCode, StorageError
from tests.dicom_io.dimse.support import IMPLICIT, InlineWorkers, slice_bytes

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
