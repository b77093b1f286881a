"""What a store finds on its disk when it opens."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from radserve.dicom_io import durable
from radserve.dicom_io.store import StudyStore
from radserve.errors import DicomError, ErrorCode, StorageError
from tests.support.stored import InlineWorkers, files, instance, put, refused


async def test_a_stored_file_that_lost_its_end_stays_known_until_its_pixels_are_asked_for(
    stored: StudyStore, tmp_path: Path, workers: InlineWorkers
) -> None:
    header = (await put(stored, instance())).header
    await stored.close()
    (path,) = files(tmp_path)[-1:]
    os.truncate(path, path.stat().st_size - 9)
    again = StudyStore(tmp_path, workers)
    await again.open()
    assert again.header(header.instance.sop_instance_uid) == header
    with pytest.raises(DicomError) as caught:
        await again.read_image(header.instance)
    assert caught.value.code is ErrorCode.TRUNCATED
    await again.close()


async def test_a_new_store_finds_what_was_acknowledged_and_removes_the_rest(
    stored: StudyStore, tmp_path: Path, workers: InlineWorkers
) -> None:
    answers = [await put(stored, instance(number, study=f"s{number % 3}")) for number in range(7)]
    await stored.close()
    (tmp_path / durable.ASIDE / "left.part").write_bytes(instance(99)[:500])
    again = StudyStore(tmp_path, workers)
    await again.open()
    listed = [header for study in await again.list_studies() for header in again.headers(study)]
    by_uid = {header.instance.sop_instance_uid: header for header in listed}
    assert by_uid == {answer.header.instance.sop_instance_uid: answer.header for answer in answers}
    assert not list((tmp_path / durable.ASIDE).iterdir())
    assert (await put(again, instance(1, study="s1"))).duplicate
    await again.close()


async def test_a_stored_file_that_went_bad_is_left_out_kept_and_never_overwritten(
    stored: StudyStore, tmp_path: Path, workers: InlineWorkers
) -> None:
    await put(stored, instance(1))
    await put(stored, instance(2))
    await stored.close()
    bad = next(path for path in files(tmp_path) if path.suffix == ".dcm")
    whole = bad.read_bytes()
    bad.write_bytes(b"bad")
    again = StudyStore(tmp_path, workers)
    await again.open()
    (study,) = await again.list_studies()
    assert len(again.headers(study)) == 1
    assert (await refused(again, whole)).code is ErrorCode.UID_CONFLICT
    assert bad.read_bytes() == b"bad"
    await again.close()


async def test_a_stored_file_that_kills_the_worker_costs_that_file_alone(
    stored: StudyStore, tmp_path: Path, workers: InlineWorkers
) -> None:
    for number in range(5):
        await put(stored, instance(number, PatientID="poison" if number == 3 else "P"))
    await stored.close()

    def poisoned(given: Any) -> bool:
        return any(b"poison" in Path(path).read_bytes() for path in (given if isinstance(given, list) else [given]))

    workers.poison = poisoned
    again = StudyStore(tmp_path, workers)
    await again.open()
    (study,) = await again.list_studies()
    assert len(again.headers(study)) == 4
    await again.close()


async def test_a_file_under_another_instances_name_is_left_out(
    stored: StudyStore, tmp_path: Path, workers: InlineWorkers
) -> None:
    await put(stored, instance(1))
    await stored.close()
    (path,) = (path for path in files(tmp_path) if path.suffix == ".dcm")
    path.rename(path.with_name("1.2.3.dcm"))
    again = StudyStore(tmp_path, workers)
    await again.open()
    assert not await again.list_studies()
    await again.close()


async def test_a_folder_belongs_to_one_store_at_a_time(
    stored: StudyStore, tmp_path: Path, workers: InlineWorkers
) -> None:
    with pytest.raises(StorageError, match="another process"):
        await StudyStore(tmp_path, workers).open()
    await stored.close()
    again = StudyStore(tmp_path, workers)
    await again.open()
    await again.close()
