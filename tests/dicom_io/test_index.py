"""The index beside the store: durable before the acknowledgement, rebuildable from the files."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from pydicom import Dataset, dcmread

from radserve.dicom_io import index_schema as schema
from radserve.dicom_io.commits import FEW_COMMITS
from radserve.dicom_io.database import sqlite_url
from radserve.dicom_io.durable import ASIDE
from radserve.dicom_io.spool import EACH_BYTES
from radserve.errors import ErrorCode, RequestError, StorageError
from radserve.references import StudyRef
from radserve.work import QuarantineKind, StudyState
from tests.support.dicoms import cr, part10
from tests.support.indexed import Site
from tests.support.stored import instance, put, refused

STEPS_MIGRATION = 5


async def test_an_acknowledged_instance_has_its_row(site: Site) -> None:
    data = instance(3, AccessionNumber="A-17", PatientName="Doe^Jane", StudyTime="101112")
    async with site.store.receive("MODALITY") as incoming:
        incoming.write(data)
        answer = await incoming.commit()
    (row,) = await site.index.rows(answer.header.instance.study_instance_uid)
    expected = {
        "sop_instance_uid": answer.header.instance.sop_instance_uid,
        "patient_name": "Doe^Jane",
        "patient_id": "P-0001",
        "accession_number": "A-17",
        "study_time": "101112",
        "calling_ae": "MODALITY",
        "modality": "CR",
        "instance_number": 3,
        "image_rows": 30,
        "image_columns": 20,
        "size": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "revision": None,
    }
    assert {name: row[name] for name in expected} == expected
    (open_study,) = await site.ledger.open_studies()
    assert open_study.study_instance_uid == answer.header.instance.study_instance_uid
    assert open_study.stored_instances == 1


async def test_one_too_large_for_memory_has_the_row_of_its_bytes_too(site: Site) -> None:
    large = part10(cr(np.arange(1500 * 1500, dtype=np.uint16).reshape(1500, 1500), study="s", instance="large"))
    assert len(large) > EACH_BYTES
    async with site.store.receive() as incoming:
        for at in range(0, len(large), 1 << 20):
            incoming.write(large[at : at + (1 << 20)])
        place = site.store.path((await incoming.commit()).header.instance)
    assert place.read_bytes() == large
    (row,) = await site.index.rows(place.parts[-3])
    assert (row["size"], row["sha256"]) == (len(large), hashlib.sha256(large).hexdigest())
    assert row["pixel_sha256"] == hashlib.sha256(dcmread(place).PixelData).hexdigest()


async def test_nothing_is_acknowledged_that_the_index_could_not_take(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise StorageError(ErrorCode.STORAGE_FULL, "the index is full")

    with monkeypatch.context() as patch:
        patch.setattr(site.index, "add_blocking", fail)
        assert (await refused(site.store, instance())).code is ErrorCode.STORAGE_FULL
    assert not list((site.root / "studies").rglob("*.dcm")) and not await site.store.list_studies()
    assert not list((site.root / "studies").glob("[0-9]*"))
    assert not (await put(site.store, instance())).duplicate


@pytest.mark.parametrize("at_once", [1, 2 * FEW_COMMITS])
async def test_an_instance_whose_bytes_are_not_durable_has_no_row(
    site: Site, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    kept = (await put(site.store, instance(99, study="kept"))).header.instance.sop_instance_uid

    def fail(number: int) -> None:
        raise OSError(errno.EIO, "I/O error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        errors = await asyncio.gather(*(refused(site.store, instance(number)) for number in range(at_once)))
    assert {error.code for error in errors} == {ErrorCode.INTERNAL}
    assert set(await site.index.headers()) == {kept}
    assert not list((site.root / "studies" / ASIDE).iterdir())
    assert not any([(await put(site.store, instance(number))).duplicate for number in range(at_once)])


async def test_a_name_that_was_lost_is_given_again_to_what_was_acknowledged_alone(tmp_path: Path, url: str) -> None:
    """After a power cut a file may have the name again that it had before it was acknowledged."""
    first = await Site(tmp_path, url).open()
    async with first.store.receive("MODALITY") as incoming:
        incoming.write(instance(1))
        header = (await incoming.commit()).header
    other = (await put(first.store, instance(2))).header
    place, aside = first.store.path(header.instance), tmp_path / "studies" / ASIDE
    await first.close()
    place.rename(aside / "acknowledged.part")
    (aside / "never.part").write_bytes(instance(3))
    (aside / "cut.part").write_bytes(instance(1)[:-2])
    (aside / "junk.part").write_bytes(b"junk")

    again = Site(tmp_path, url)
    again.workers.poison = lambda *args: True  # no parser is needed for it
    await again.open()
    assert place.read_bytes() == instance(1)
    assert not list(aside.iterdir())
    listed = again.store.headers(StudyRef(header.instance.study_instance_uid))
    assert [each.instance for each in listed] == [header.instance, other.instance]
    rows = {
        row["sop_instance_uid"]: row["calling_ae"] for row in await again.index.rows(header.instance.study_instance_uid)
    }
    assert rows == {header.instance.sop_instance_uid: "MODALITY", other.instance.sop_instance_uid: ""}
    await again.close()


async def test_where_the_index_is_lost_too_what_lies_aside_whole_is_kept(tmp_path: Path) -> None:
    first = await Site(tmp_path, sqlite_url(tmp_path / "first.db")).open()
    header = (await put(first.store, instance(1))).header
    place, aside = first.store.path(header.instance), tmp_path / "studies" / ASIDE
    await first.close()
    place.rename(aside / "acknowledged.part")
    (aside / "cut.part").write_bytes(instance(2)[:-2])
    (aside / "junk.part").write_bytes(b"junk")

    again = await Site(tmp_path, sqlite_url(tmp_path / "second.db")).open()
    assert place.read_bytes() == instance(1)
    assert set(await again.index.headers()) == {header.instance.sop_instance_uid}
    assert not list(aside.iterdir())
    await again.close()


async def test_instances_at_once_share_transactions_and_all_have_rows(site: Site) -> None:
    data = [instance(number, study=f"s{number % 5}") for number in range(40)]
    await asyncio.gather(*(put(site.store, each) for each in data))
    assert len(await site.index.headers()) == 40
    assert sum(each.stored_instances for each in await site.ledger.open_studies()) == 40


async def test_one_failing_piece_of_work_takes_back_its_own_changes_only(site: Site) -> None:
    def bury(connection: sa.Connection, name: str) -> None:
        values = {"study_sha256": name, "study_instance_uid": "", "state": "erased", "requested_at": 0, "instances": 0}
        connection.execute(schema.tombstones.insert().values(values))

    def bad(connection: sa.Connection) -> None:
        bury(connection, "bad")
        raise RequestError(ErrorCode.INVALID_ARGUMENT, "no")

    works = [lambda c: bury(c, "1"), bad, lambda c: bury(c, "2"), lambda c: bury(c, "1")]
    outcomes = await asyncio.gather(*(site.database.run(work) for work in works), return_exceptions=True)
    assert outcomes[0] is None and outcomes[2] is None
    assert isinstance(outcomes[1], RequestError)
    assert isinstance(outcomes[3], StorageError)
    assert outcomes[3].client_message in ("the index failed: IntegrityError", "the index failed: UniqueViolation")
    assert [row[0] for row in (await site.dump())["tombstones"]] == ["1", "2"]


async def test_opening_reads_only_files_that_the_index_does_not_know(tmp_path: Path, url: str) -> None:
    first = await Site(tmp_path, url).open()
    answers = [await put(first.store, instance(number)) for number in range(6)]
    await first.close()
    study = answers[0].header.instance
    folder = tmp_path / "studies" / study.study_instance_uid / study.series_instance_uid
    (folder / f"{answers[0].header.instance.sop_instance_uid}.dcm").unlink()
    unknown = instance(7)
    other = await Site(tmp_path / "other", sqlite_url(tmp_path / "other.db")).open()
    new = (await put(other.store, unknown)).header.instance
    await other.close()
    (folder / f"{new.sop_instance_uid}.dcm").write_bytes(unknown)

    again = Site(tmp_path, url)
    read: list[Path] = []
    run = again.workers.run

    async def note(function: Any, paths: list[Path], *rest: Any) -> Any:
        read.extend(paths)
        return await run(function, paths, *rest)

    again.workers.run = note  # type: ignore[method-assign]
    await again.open()
    assert [path.stem for path in read] == [new.sop_instance_uid]
    expected = {answer.header.instance.sop_instance_uid for answer in answers[1:]} | {new.sop_instance_uid}
    listed = again.store.headers(StudyRef(study.study_instance_uid))
    assert {each.instance.sop_instance_uid for each in listed} == expected == set(await again.index.headers())
    by_uid = {answer.header.instance.sop_instance_uid: answer.header for answer in answers}
    assert all(by_uid.get(each.instance.sop_instance_uid, each) == each for each in listed)
    await again.close()


async def test_rebuilding_gives_the_index_as_it_was(site: Site) -> None:
    for number in range(12):
        await put(site.store, instance(number, study=f"s{number % 3}", PatientID=f"ü{number}"))
    (first, *_) = await site.ledger.open_studies()
    await site.ledger.close(StudyRef(first.study_instance_uid), incomplete=False, now=5.0)
    before = await site.dump()
    assert await site.store.rebuild() == 12
    assert await site.dump() == before
    assert len(await site.store.list_studies()) == 3


async def test_a_lost_index_is_made_again_from_the_files(tmp_path: Path) -> None:
    first = await Site(tmp_path, sqlite_url(tmp_path / "a.db")).open()
    for number in range(5):
        await put(first.store, instance(number))
    before = (await first.dump())["instances"]
    await first.close()
    second = await Site(tmp_path, sqlite_url(tmp_path / "b.db")).open()
    after = (await second.dump())["instances"]
    when = [column.name for column in schema.instances.columns].index("received_at")
    assert [row[:when] for row in after] == [row[:when] for row in before]
    assert all(abs(a[when] - b[when]) < 5 for a, b in zip(after, before, strict=True))
    assert len(await second.ledger.open_studies()) == 1
    await second.close()


async def test_a_conflict_is_kept_in_quarantine_with_its_row_and_an_audit_line(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    await put(site.store, instance())
    bad = instance(PatientID="OTHER-PATIENT")
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            async with site.store.receive("SENDER") as incoming:
                incoming.write(bad)
                with pytest.raises(StorageError) as caught:
                    await incoming.commit()
                assert caught.value.code is ErrorCode.UID_CONFLICT
    (entry,) = await site.ledger.quarantined()
    assert (entry.kind, entry.code, entry.calling_ae) == (QuarantineKind.CONFLICT, ErrorCode.UID_CONFLICT, "SENDER")
    assert entry.sha256 == hashlib.sha256(bad).hexdigest()
    assert site.quarantine.path(entry.quarantine_id).read_bytes() == bad
    assert f"audit: UID_CONFLICT: other bytes (sha256 {entry.sha256})" in caplog.text
    assert "OTHER-PATIENT" not in caplog.text
    with pytest.raises(RequestError, match="cannot be tried again"):
        await site.ledger.release(entry.quarantine_id, retry=True, now=0)
    await site.ledger.release(entry.quarantine_id, retry=False, now=0)
    assert not await site.ledger.quarantined()


def requested(procedure: str) -> Dataset:
    item = Dataset()
    item.RequestedProcedureID, item.ScheduledProcedureStepID = procedure, "S1"
    return item


def requests(*procedures: str, **attributes: Any) -> dict[str, Any]:
    """What an instance says of its performed step."""
    items = [requested(procedure) for procedure in procedures]
    return {"PerformedProcedureStepStartDate": "20260102", "RequestAttributesSequence": items, **attributes}


async def test_steps_are_kept_once_for_a_series_rebuilt_from_the_files_and_erased_with_the_study(site: Site) -> None:
    answer = await put(site.store, instance(1, **requests("R1", "R2")))
    await put(site.store, instance(2, **requests("R1", "R2")))
    await put(site.store, instance(1, **requests("R1", study="other")))
    await put(site.store, instance(1, study="without"))
    before = (await site.dump())["performed_steps"]
    assert sorted(row[1:5] for row in before) == [("20260102", "", "S1", each) for each in ("R1", "R1", "R2")]
    await site.database.run(lambda connection: connection.execute(schema.performed_steps.delete()))
    await site.store.rebuild()
    assert (await site.dump())["performed_steps"] == before
    study = StudyRef(answer.header.instance.study_instance_uid)
    await site.store.erase(study)
    assert [row[-1] == study.study_instance_uid for row in (await site.dump())["performed_steps"]] == [False]


async def test_an_index_of_a_time_without_steps_is_filled_from_the_files_once(tmp_path: Path, url: str) -> None:
    site = await Site(tmp_path, url).open()
    for number in (1, 2):
        await put(site.store, instance(number, **requests("R1", "R2")))
    await put(site.store, instance(3, study="other", **requests("R3")))
    broken = await put(site.store, instance(4, study="broken", **requests("R4")))
    before = await site.dump()
    await site.close()
    engine = sa.create_engine(url)
    with engine.begin() as connection:  # as the version before left it
        for statement in (
            "DROP TABLE performed_steps",
            "ALTER TABLE instances DROP COLUMN steps_read",
            f"DELETE FROM schema_version WHERE version >= {STEPS_MIGRATION}",
        ):
            connection.execute(sa.text(statement))
    engine.dispose()
    path = site.store.path(broken.header.instance)
    path.write_bytes(b"\0" * path.stat().st_size)
    again = await Site(tmp_path, url).open()
    of_broken = broken.header.instance.study_instance_uid
    kept = [row for row in before["performed_steps"] if row[-1] != of_broken]
    after = await again.dump()
    assert after["performed_steps"] == kept and len(kept) == 3
    assert after["instances"] == before["instances"]
    assert await again.index.without_steps() == []
    await again.close()


async def test_a_late_instance_opens_the_study_again_and_keeps_the_first_revision(site: Site) -> None:
    ref = (await put(site.store, instance(1))).header.instance
    study = StudyRef(ref.study_instance_uid)
    first = await site.ledger.close(study, incomplete=False, now=1.0)
    assert first is not None and first.revision == 1 and first.state is StudyState.COMPLETE
    assert await site.ledger.close(study, incomplete=False, now=1.0) is None
    await put(site.store, instance(2))
    assert len(await site.ledger.open_studies()) == 1
    second = await site.ledger.close(study, incomplete=True, now=2.0)
    assert second is not None and (second.revision, second.incomplete) == (2, True)
    assert len(await site.ledger.instances(first)) == 1 and len(await site.ledger.instances(second)) == 2
    assert await site.ledger.revision(second.work_id) == second
