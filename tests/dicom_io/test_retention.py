"""Retention takes away what is finished and old, nothing else, and what comes again later is taken again."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import sqlalchemy as sa

from radserve.dicom_io import index_schema as schema
from radserve.dicom_io.delivery_rows import DELIVERED, GIVEN_UP, PENDING, SENDING
from radserve.errors import ErrorCode
from radserve.references import StudyRef
from radserve.server.retention import DAY_S, POLL_S, expire, retention
from radserve.uids import derive_uid
from radserve.work import Delivery, DeliveryKey, QuarantineEntry, QuarantineKind, ResultRecord, StudyState
from tests.support.dicoms import uid
from tests.support.indexed import Site
from tests.support.stored import instance, put, refused
from tests.support.workflow import VirtualClock

OLD, YOUNG = 100.0, 1000.0
BEFORE = 500.0


async def finished(
    site: Site, name: str, state: StudyState = StudyState.ANALYSED, result: ResultRecord | None = None
) -> StudyRef:
    """A stored study whose only revision has this state, and for which nothing came since OLD."""
    await put(site.store, instance(study=name, instance=name))
    study = StudyRef(uid("study", name))
    revision = await site.ledger.close(study, incomplete=False, now=OLD)
    assert revision is not None
    if result:
        await site.ledger.add_result(result, [Delivery(DeliveryKey(result.result_uid, "pacs", "1.2.3"), "sr.dcm")], OLD)
    await site.ledger.finish(revision, state)
    await aged(site, study, OLD)
    return study


async def aged(site: Site, study: StudyRef, at: float) -> None:
    table = schema.studies
    is_it = table.c.study_instance_uid == study.study_instance_uid
    await site.database.run(lambda c: c.execute(table.update().where(is_it).values(last_received_at=at)))


async def with_delivery(site: Site, name: str, state: str) -> StudyRef:
    result = ResultRecord(derive_uid("result", name), uid("study", name), 1, "pack", "digest")
    study = await finished(site, name, result=result)
    table = schema.deliveries
    is_it = table.c.study_instance_uid == study.study_instance_uid
    await site.database.run(lambda c: c.execute(table.update().where(is_it).values(state=state)))
    return study


async def test_only_finished_studies_expire_and_those_with_nothing_in_quarantine(site: Site) -> None:
    expected = [
        await finished(site, f"finished {state}", state) for state in (StudyState.ANALYSED, StudyState.DELIVERED)
    ]
    expected.append(await finished(site, "not routed", StudyState.NOT_ROUTED))
    expected.append(await with_delivery(site, "arrived", DELIVERED))
    for state in (PENDING, SENDING, GIVEN_UP):
        await with_delivery(site, f"delivery {state}", state)
    for state in (StudyState.COMPLETE, StudyState.QUARANTINED):
        await finished(site, f"unfinished {state}", state)
    await put(site.store, instance(study="receiving", instance="receiving"))
    await aged(site, StudyRef(uid("study", "receiving")), OLD)
    await aged(site, await finished(site, "young"), YOUNG)
    late = await finished(site, "late")
    await put(site.store, instance(study="late", instance="late 2"))
    await aged(site, late, OLD)
    conflict = await finished(site, "conflict")
    entry = QuarantineEntry(
        "2.25.1", QuarantineKind.CONFLICT, conflict.study_instance_uid, ErrorCode.UID_CONFLICT, "other bytes", OLD
    )
    await site.ledger.put_in_quarantine(entry)
    found = await site.index.expired(BEFORE)
    assert {each.study_instance_uid for each in found} == {each.study_instance_uid for each in expected}
    assert {(each.last_received_at, each.instances) for each in found} == {(OLD, 1)}


async def test_an_expired_study_is_erased_and_taken_again_when_it_comes(site: Site) -> None:
    study = await finished(site, "s")
    kept = await finished(site, "kept")
    await aged(site, kept, YOUNG)
    assert [each.study_instance_uid for each in await site.index.expire(BEFORE, YOUNG)] == [study.study_instance_uid]
    again = instance(study="s", instance="s")
    assert (await refused(site.store, again)).code is ErrorCode.STUDY_ERASED  # it would go with what is being erased
    assert await site.store.erase_requested() == 1
    assert await site.store.list_studies() == [kept]
    assert not (site.root / "studies" / study.study_instance_uid).exists()
    stone = await site.index.tombstone(study.study_instance_uid)
    assert stone is not None and stone.erased_at is not None and stone.instances == 1
    assert not (await put(site.store, again)).duplicate
    assert await site.store.erase_requested() == 0
    assert set(await site.store.list_studies()) == {study, kept}


async def test_what_a_person_had_erased_stays_refused(site: Site) -> None:
    study = await finished(site, "s")
    await site.store.erase(study)
    await site.index.expire(BEFORE, YOUNG)
    assert (await refused(site.store, instance(study="s"))).code is ErrorCode.STUDY_ERASED


async def test_the_server_looks_for_old_studies_now_and_then(tmp_path: Path) -> None:
    site = await Site(tmp_path, f"sqlite:///{tmp_path / 'index.db'}").open()
    clock = VirtualClock(OLD + 29 * DAY_S)
    study = await finished(site, "s")

    async def asked() -> bool:
        return study.study_instance_uid in await site.index.to_be_erased()

    async with retention(site.index, 30.0, clock):
        assert await expire(site.index, 30.0, clock) == 0
        assert not await asked()
        async with asyncio.timeout(60):
            while not await asked():
                clock.advance(DAY_S)
                await asyncio.sleep(0.01)
    await site.close()


@pytest.mark.parametrize("days", [None, 30.0])
async def test_without_a_time_studies_are_kept_for_good(tmp_path: Path, days: float | None) -> None:
    site = await Site(tmp_path, f"sqlite:///{tmp_path / 'index.db'}").open()
    clock = VirtualClock(OLD + 1000 * DAY_S)
    await finished(site, "s")
    async with retention(site.index, days, clock):
        clock.advance(POLL_S)
        for _ in range(20):
            await asyncio.sleep(0.005)
    with_stone = await site.database.run(lambda c: c.execute(sa.select(schema.tombstones)).all())
    assert bool(with_stone) is (days is not None)
    await site.close()
