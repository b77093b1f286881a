"""StudyStore: what is acknowledged is there after a restart, whole, once; all else leaves nothing behind."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian, JPEGLSLossless

from radserve.dicom_io import durable
from radserve.dicom_io.store import StoredInstance, StoreLimits, StudyStore
from radserve.errors import DicomError, ErrorCode, RadserveError, RequestError, StorageError
from radserve.references import InstanceRef, StudyRef
from radserve.workers import WorkerLimits, WorkerPool
from tests.support.dicoms import cr, part10
from tests.support.odd_dicoms import PREAMBLES
from tests.support.stored import IMAGE, InlineWorkers, files, instance, put, refused

# Giving


async def test_studies_are_of_one_patient_by_id_issuer_and_birth_date_and_an_empty_id_is_nobodys(
    stored: StudyStore,
) -> None:
    known = {"PatientID": "1", "IssuerOfPatientID": "H", "PatientBirthDate": "20200101"}
    given = {
        "one": known,
        "again": known,
        "other id": known | {"PatientID": "2"},
        "other issuer": known | {"IssuerOfPatientID": "K"},
        "other birth": known | {"PatientBirthDate": "20210101"},
        "none": known | {"PatientID": ""},
        "none too": known | {"PatientID": ""},
    }
    refs = {}
    for number, (name, tags) in enumerate(given.items()):
        header = (await put(stored, instance(number, study=name, **tags))).header
        refs[name] = StudyRef(header.instance.study_instance_uid)
    assert await stored.same_patient(refs["one"], refs["again"])
    for name in ("other id", "other issuer", "other birth", "none"):
        assert not await stored.same_patient(refs["one"], refs[name])
    assert not await stored.same_patient(refs["none"], refs["none too"])
    with pytest.raises(RadserveError) as caught:
        await stored.same_patient(refs["one"], StudyRef("1.2.3"))
    assert caught.value.code is ErrorCode.STUDY_NOT_FOUND


# Taking


async def test_an_acknowledged_instance_lies_on_disk_byte_for_byte(stored: StudyStore, tmp_path: Path) -> None:
    data = instance()
    answer = await put(stored, data)
    ref = answer.header.instance
    assert not answer.duplicate
    place = tmp_path / ref.study_instance_uid / ref.series_instance_uid / f"{ref.sop_instance_uid}.dcm"
    assert [path for path in files(tmp_path) if path.is_file()] == [place]
    assert place.read_bytes() == data
    assert await stored.list_studies() == [StudyRef(ref.study_instance_uid)]


async def test_the_same_bytes_again_are_a_duplicate(stored: StudyStore, tmp_path: Path) -> None:
    first, second = await put(stored, instance()), await put(stored, instance())
    assert (first.duplicate, second.duplicate) == (False, True)
    assert first.header == second.header
    assert len([path for path in files(tmp_path) if path.is_file()]) == 1


@pytest.mark.parametrize("other", [{"PatientID": "P-0002"}, {"SeriesNumber": 7}])
async def test_other_bytes_under_the_same_uid_are_refused_and_the_first_stay(
    stored: StudyStore, tmp_path: Path, other: dict[str, Any]
) -> None:
    data = instance()
    await put(stored, data)
    error = await refused(stored, instance(**other))
    assert isinstance(error, StorageError) and error.code is ErrorCode.UID_CONFLICT
    (kept,) = (path for path in files(tmp_path) if path.is_file())
    assert kept.read_bytes() == data


async def test_a_uid_that_is_taken_in_another_study_is_a_conflict(stored: StudyStore) -> None:
    taken = (await put(stored, instance())).header.instance.sop_instance_uid
    error = await refused(stored, instance(study="t", SOPInstanceUID=taken))
    assert error.code is ErrorCode.UID_CONFLICT
    assert len(await stored.list_studies()) == 1


async def test_commits_of_the_same_uid_at_once_store_it_once(stored: StudyStore, tmp_path: Path) -> None:
    answers = await asyncio.gather(*(put(stored, instance()) for _ in range(8)))
    assert sorted(answer.duplicate for answer in answers) == [False] + [True] * 7
    assert len([path for path in files(tmp_path) if path.is_file()]) == 1


async def test_of_different_bytes_under_one_uid_at_once_one_wins(stored: StudyStore) -> None:
    data = [instance(PatientID=str(number)) for number in range(8)]
    answers = await asyncio.gather(*(put(stored, each) for each in data), return_exceptions=True)
    assert len([answer for answer in answers if isinstance(answer, StoredInstance)]) == 1
    assert {answer.code for answer in answers if isinstance(answer, StorageError)} == {ErrorCode.UID_CONFLICT}


async def test_many_different_instances_at_once_are_all_stored(stored: StudyStore, tmp_path: Path) -> None:
    data = [instance(number, study=f"s{number % 5}") for number in range(40)]
    answers = await asyncio.gather(*(put(stored, each) for each in data))
    assert not any(answer.duplicate for answer in answers)
    assert len([path for path in files(tmp_path) if path.is_file()]) == 40
    assert len(await stored.list_studies()) == 5


async def test_what_is_not_committed_leaves_nothing(stored: StudyStore, tmp_path: Path) -> None:
    with pytest.raises(ConnectionError):
        async with stored.receive() as incoming:
            incoming.write(instance())
            raise ConnectionError
    async with stored.receive() as incoming:
        incoming.write(instance())
    assert not files(tmp_path) and not await stored.list_studies()


@pytest.mark.parametrize(
    ("data", "code"), [(b"", ErrorCode.NOT_DICOM), (b"text" * 99, ErrorCode.NOT_DICOM), (instance()[:400], None)]
)
async def test_what_is_not_dicom_is_refused_and_leaves_nothing(
    stored: StudyStore, tmp_path: Path, data: bytes, code: ErrorCode | None
) -> None:
    error = await refused(stored, data)
    assert isinstance(error, DicomError) and error.code is (code or error.code)
    assert not files(tmp_path)


async def test_uids_that_lead_elsewhere_are_refused(stored: StudyStore, tmp_path: Path) -> None:
    good = instance()
    uid = cr(IMAGE + 1, study="s", instance="1").SOPInstanceUID.encode()
    evil = b"../../../../tmp/evil".ljust(len(uid), b"x")[: len(uid)]
    assert uid in good
    error = await refused(stored, good.replace(uid, evil))
    assert error.code in (ErrorCode.INVALID_HEADER, ErrorCode.INVALID_ARGUMENT)
    assert not files(tmp_path)


async def test_an_instance_above_the_limit_is_refused_while_it_is_written(
    tmp_path: Path, workers: InlineWorkers
) -> None:
    made = StudyStore(tmp_path, workers, StoreLimits(max_instance_bytes=1000))
    await made.open()
    with pytest.raises(RequestError, match="more than 1000 bytes") as caught:
        async with made.receive() as incoming:
            incoming.write(b"1" * 1000)
            incoming.write(b"1")
    assert caught.value.code is ErrorCode.REQUEST_TOO_LARGE
    assert not files(tmp_path)


async def test_an_instance_can_be_committed_once(stored: StudyStore) -> None:
    async with stored.receive() as incoming:
        incoming.write(instance())
        await incoming.commit()
        with pytest.raises(RuntimeError, match="committed"):
            await incoming.commit()


async def test_a_worker_that_dies_on_a_header_costs_that_instance_alone(
    stored: StudyStore, workers: InlineWorkers, tmp_path: Path
) -> None:
    workers.poison = lambda path, *rest: b"poison" in Path(path).read_bytes()
    odd = part10(cr(IMAGE, PatientID="poison"), ExplicitVRBigEndian)  # what is odd is read in a worker
    assert (await refused(stored, odd)).code is ErrorCode.WORKER_DIED
    assert not files(tmp_path)
    await put(stored, instance())


async def test_a_cancelled_commit_ends_and_is_listed_or_leaves_nothing(stored: StudyStore, tmp_path: Path) -> None:
    for delay in (0, 0.0005, 0.002, 0.01):
        data = instance(study=f"cancelled {delay}")
        task = asyncio.create_task(put(stored, data))
        await asyncio.sleep(delay)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await stored.close()
    studies = await stored.list_studies()
    listed = [header for study in studies for header in stored.headers(study)]
    assert len([path for path in files(tmp_path) if path.is_file()]) == len(listed)
    assert not list((tmp_path / durable.ASIDE).iterdir())


@pytest.mark.parametrize("name", PREAMBLES)
async def test_a_preamble_that_makes_a_program_of_the_file_is_stored_as_zeros(
    stored: StudyStore, tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    clean = instance()
    dangerous = PREAMBLES[name].ljust(128, b"\1") + clean[128:]
    assert not (await put(stored, dangerous)).duplicate
    (path,) = tmp_path.rglob("*.dcm")
    assert path.read_bytes() == clean
    assert hashlib.sha256(dangerous[:128]).hexdigest() in caplog.text
    caplog.clear()
    assert (await put(stored, clean)).duplicate  # the same but for its preamble: the same
    assert not caplog.text
    assert (await put(stored, dangerous)).duplicate


# Order of what happens on disk


async def test_the_file_and_every_new_folder_are_fsynced_before_the_acknowledgement(
    stored: StudyStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    fsync, rename = os.fsync, Path.rename

    def note_fsync(number: int) -> None:
        place = Path(f"/proc/self/fd/{number}").readlink().relative_to(tmp_path)
        done.append("fsync file" if place.suffix == ".part" else f"fsync depth {len(place.parts)}")
        fsync(number)

    def note_rename(self: Path, target: Path) -> Path:
        done.append("rename")
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(Path, "rename", note_rename)
    await put(stored, instance(1))
    assert done == ["fsync file", "rename", "fsync depth 2", "fsync depth 1", "fsync depth 0"]
    done.clear()
    await put(stored, instance(2))
    assert done == ["fsync file", "rename", "fsync depth 2"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
@pytest.mark.parametrize("step", ["fsync file", "fsync folder", "mkdir", "rename"])
async def test_a_disk_that_fails_at_any_step_leaves_nothing_and_says_why(
    stored: StudyStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, number: int
) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise OSError(number, os.strerror(number), str(tmp_path / "secret"))

    with monkeypatch.context() as patch:
        if step == "fsync file":
            patch.setattr(os, "fsync", fail)
        elif step == "fsync folder":
            patch.setattr(durable, "fsync_folder", fail)
        else:
            patch.setattr(Path, step, fail)
        error = await refused(stored, instance())
    assert isinstance(error, StorageError)
    assert error.code is (ErrorCode.INTERNAL if number == errno.EIO else ErrorCode.STORAGE_FULL)
    assert os.strerror(number) in error.client_message and "secret" not in str(error)
    assert not files(tmp_path) and not await stored.list_studies()
    assert not (await put(stored, instance())).duplicate


async def test_a_full_disk_refuses_keeps_the_acknowledged_and_recovers(tmp_path: Path, workers: InlineWorkers) -> None:
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", tmp_path]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small tmpfs needs root")
    try:
        made = StudyStore(tmp_path, workers)
        await made.open()
        noise = np.random.default_rng(0).integers(0, 65535, (300, 300), dtype=np.uint16)
        data = [part10(cr(noise + np.uint16(number), instance=str(number))) for number in range(10)]
        answers = await asyncio.gather(*(put(made, each) for each in data), return_exceptions=True)
        kept = [answer for answer in answers if isinstance(answer, StoredInstance)]
        errors = [answer for answer in answers if isinstance(answer, BaseException)]
        assert 1 <= len(kept) < 10
        assert {getattr(error, "code", error) for error in errors} == {ErrorCode.STORAGE_FULL}
        on_disk = [path for path in files(tmp_path) if path.is_file()]
        assert sorted(path.stem for path in on_disk) == sorted(a.header.instance.sop_instance_uid for a in kept)
        on_disk[0].unlink()
        again = next(each for each, answer in zip(data, answers, strict=True) if isinstance(answer, BaseException))
        assert not (await put(made, again)).duplicate
        await made.close()
    finally:
        subprocess.run(["umount", tmp_path], check=True)


# Giving


async def test_instances_are_listed_by_series_and_instance_number(stored: StudyStore) -> None:
    for series, number in (("b", 2), ("a", 3), ("b", 1), ("a", 10), ("c", 1)):
        series_number = {"a": 2, "b": 1, "c": None}[series]
        await put(stored, instance(number, series=series, SeriesNumber=series_number))
    (study,) = await stored.list_studies()
    found = [(header.context.series_number, header.instance_number) for header in stored.headers(study)]
    assert found == [(1, 1), (1, 2), (2, 3), (2, 10), (None, 1)]
    assert [ref for ref, _ in await stored.list_instances(study)] == [h.instance for h in stored.headers(study)]


async def test_what_is_not_stored_is_refused_with_its_code(stored: StudyStore) -> None:
    ref = (await put(stored, instance())).header.instance
    study = StudyRef(ref.study_instance_uid)
    with pytest.raises(RequestError, match=r"1\.2\.3") as caught:
        await stored.list_instances(StudyRef("1.2.3"))
    assert caught.value.code is ErrorCode.STUDY_NOT_FOUND
    with pytest.raises(RequestError, match=r"series 1\.2\.3") as caught:
        stored.headers(study, "1.2.3")
    assert caught.value.code is ErrorCode.SERIES_NOT_FOUND
    unknown = InstanceRef(ref.study_instance_uid, ref.series_instance_uid, "1.2.3", ref.sop_class_uid)
    with pytest.raises(RequestError) as caught:
        await stored.read_image(unknown)
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT


async def test_one_series_of_a_study_can_be_asked_for(stored: StudyStore) -> None:
    await put(stored, instance(1, series="a"))
    ref = (await put(stored, instance(2, series="b"))).header.instance
    found = stored.headers(StudyRef(ref.study_instance_uid), ref.series_instance_uid)
    assert [header.instance for header in found] == [ref]


@pytest.mark.parametrize("syntax", [None, ImplicitVRLittleEndian, JPEGLSLossless, DeflatedExplicitVRLittleEndian])
async def test_what_ends_before_its_pixels_do_is_refused_and_leaves_nothing(
    stored: StudyStore, tmp_path: Path, syntax: str | None
) -> None:
    whole = part10(cr(IMAGE), syntax) if syntax else instance()
    for missing in (2, 9, len(IMAGE.tobytes()) // 2):  # without the last byte a deflated one may be whole
        assert (await refused(stored, whole[:-missing])).code is ErrorCode.TRUNCATED
    assert not files(tmp_path)
    assert not (await put(stored, whole)).duplicate


# With the real workers


async def test_receiving_and_decoding_in_real_workers(tmp_path: Path) -> None:
    pytest.importorskip("radserve.dicom_io.decode")
    limits = WorkerLimits(memory_bytes=2 << 30, cpu_seconds=20, wall_seconds=60)
    async with WorkerPool(name="store test", size=2, limits=limits) as pool:
        made = StudyStore(tmp_path, pool)
        await made.open()
        ref = (await put(made, instance(5))).header.instance
        image = await made.read_image(ref)
        assert image.instance == ref
        np.testing.assert_array_equal(image.array[0], IMAGE + 5)
        assert (await refused(made, b"text" * 99)).code is ErrorCode.NOT_DICOM
        await made.close()
