"""How far every study has come, in the tables of the index (ports.WorkLedger), and the quarantine list."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import sqlalchemy as sa

from radserve.dicom_io import index_schema as schema
from radserve.dicom_io.database import Database
from radserve.dicom_io.delivery_rows import add_deliveries, resume_deliveries
from radserve.dicom_io.revision_rows import begin_anew, call_off, close, set_state, settle, state_of, take_up
from radserve.errors import ErrorCode, RequestError
from radserve.references import InstanceRef, StudyRef
from radserve.work import (
    Delivery,
    OpenStudy,
    QuarantineEntry,
    QuarantineKind,
    ResultRecord,
    Revision,
    Signal,
    StudyState,
)


class SqlWorkLedger:
    """The WorkLedger over a Database. Raises StorageError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def open_studies(self) -> Sequence[OpenStudy]:
        studies, instances = schema.studies, schema.instances
        query = (
            sa.select(studies, sa.func.count(instances.c.sop_instance_uid).label("stored"))
            .join(instances, instances.c.study_instance_uid == studies.c.study_instance_uid)
            .where(studies.c.state == StudyState.RECEIVING)
            .group_by(*studies.c)
            .order_by(studies.c.opened_at, studies.c.study_instance_uid)
        )
        rows = await self._database.run(lambda connection: connection.execute(query).all())
        return [
            OpenStudy(
                study_instance_uid=row.study_instance_uid,
                opened_at=row.opened_at,
                last_received_at=row.last_received_at,
                stored_instances=row.stored,
                signal=Signal(row.signal),
                expected_instances=row.expected_instances,
            )
            for row in rows
        ]

    async def signal(self, study: StudyRef, signal: Signal, expected_instances: int | None = None) -> None:
        table = schema.studies
        is_open = (table.c.study_instance_uid == study.study_instance_uid) & (table.c.state == StudyState.RECEIVING)
        values = {"signal": signal, "expected_instances": expected_instances}
        await self._database.run(lambda connection: connection.execute(table.update().where(is_open).values(values)))

    async def close(self, study: StudyRef, *, incomplete: bool, now: float) -> Revision | None:
        return await self._database.run(lambda connection: close(connection, study.study_instance_uid, incomplete, now))

    async def revisions(self, state: StudyState) -> Sequence[Revision]:
        table = schema.revisions
        query = sa.select(table).where(table.c.state == state).order_by(table.c.closed_at, table.c.work_id)
        return [_revision(row) for row in await self._database.run(lambda c: c.execute(query).all())]

    async def revision(self, work_id: str) -> Revision | None:
        query = sa.select(schema.revisions).where(schema.revisions.c.work_id == work_id)
        row = await self._database.run(lambda connection: connection.execute(query).one_or_none())
        return _revision(row) if row else None

    async def instances(self, revision: Revision) -> Sequence[InstanceRef]:
        table = schema.instances
        uids = (
            table.c.study_instance_uid,
            table.c.series_instance_uid,
            table.c.sop_instance_uid,
            table.c.sop_class_uid,
        )
        query = (
            sa.select(*uids)
            .where(table.c.study_instance_uid == revision.study_instance_uid)
            .where(table.c.revision <= revision.revision)
            .order_by(table.c.sop_instance_uid)
        )
        return [InstanceRef(*row) for row in await self._database.run(lambda c: c.execute(query).all())]

    async def calling_aes(self, study: StudyRef) -> Mapping[str, str]:
        table = schema.instances
        query = (
            sa.select(table.c.series_instance_uid, table.c.calling_ae)
            .where(table.c.study_instance_uid == study.study_instance_uid)
            .order_by(table.c.received_at.desc(), table.c.sop_instance_uid.desc())
        )
        rows = await self._database.run(lambda connection: connection.execute(query).all())
        return {row.series_instance_uid: row.calling_ae for row in rows}  # the first to come is the last to be set

    async def begin_attempt(self, revision: Revision) -> int:
        return await self._database.run(lambda connection: _count_attempt(connection, revision, 1))

    async def give_back_attempt(self, revision: Revision) -> None:
        await self._database.run(lambda connection: _count_attempt(connection, revision, -1))

    async def finish(self, revision: Revision, state: StudyState) -> None:
        key = revision.study_instance_uid, revision.revision

        def work(connection: sa.Connection) -> None:
            if state_of(connection, *key) == StudyState.COMPLETE:
                set_state(connection, *key, state)
                settle(connection, *key)

        await self._database.run(work)

    async def result(self, result_uid: str) -> ResultRecord | None:
        query = sa.select(schema.results).where(schema.results.c.result_uid == result_uid)
        return await self._one_result(query)

    async def predecessor(self, revision: Revision, pack: str) -> ResultRecord | None:
        table = schema.results
        query = (
            sa.select(table)
            .where(table.c.study_instance_uid == revision.study_instance_uid)
            .where(table.c.pack == pack)
            .where(table.c.revision < revision.revision)
            .order_by(table.c.revision.desc())
            .limit(1)
        )
        return await self._one_result(query)

    async def add_result(self, result: ResultRecord, deliveries: Sequence[Delivery], now: float) -> None:
        def work(connection: sa.Connection) -> None:
            table = schema.results
            if connection.execute(sa.select(table).where(table.c.result_uid == result.result_uid)).first():
                return
            if state_of(connection, result.study_instance_uid, result.revision) != StudyState.COMPLETE:
                return
            connection.execute(
                table.insert().values({**asdict(result), "incomplete": int(result.incomplete), "created_at": now})
            )
            add_deliveries(connection, result, deliveries, now)

        await self._database.run(work)

    async def put_in_quarantine(self, entry: QuarantineEntry) -> None:
        await self._database.run(lambda connection: quarantine(connection, entry))

    async def call_off(self, studies: Sequence[StudyRef], now: float) -> bool:
        uids = [study.study_instance_uid for study in studies]
        return await self._database.run(lambda connection: call_off(connection, uids, now))

    async def take_up(self, study: StudyRef, now: float) -> None:
        await self._database.run(lambda connection: take_up(connection, study.study_instance_uid, now))

    async def quarantined(self) -> Sequence[QuarantineEntry]:
        """All that is in quarantine, oldest first."""
        table = schema.quarantine
        query = sa.select(table).order_by(table.c.created_at, table.c.quarantine_id)
        return [_entry(row) for row in await self._database.run(lambda c: c.execute(query).all())]

    async def release(self, quarantine_id: str, *, retry: bool, now: float) -> QuarantineEntry:
        """Take an entry out of quarantine: to try it again, or to drop it.

        Raises RequestError INVALID_ARGUMENT for an unknown id, and for trying conflicting bytes again: they cannot be
        stored under a UID that is taken.
        """
        return await self._database.run(lambda connection: _release(connection, quarantine_id, retry, now))

    async def _one_result(self, query: sa.Select[Any]) -> ResultRecord | None:
        row = await self._database.run(lambda connection: connection.execute(query).one_or_none())
        if row is None:
            return None
        return ResultRecord(
            *(row.result_uid, row.study_instance_uid, row.revision, row.pack, row.pack_digest),
            predecessor_uid=row.predecessor_uid,
            incomplete=bool(row.incomplete),
        )


def quarantine(connection: sa.Connection, entry: QuarantineEntry) -> None:
    """Write an entry, in the place of an older one of the same id, and the state of what it speaks of."""
    table = schema.quarantine
    connection.execute(table.delete().where(table.c.quarantine_id == entry.quarantine_id))
    connection.execute(table.insert().values(asdict(entry)))
    if entry.kind is not QuarantineKind.CONFLICT:
        set_state(connection, entry.study_instance_uid, entry.revision, StudyState.QUARANTINED)


def _count_attempt(connection: sa.Connection, revision: Revision, difference: int) -> int:
    table = schema.revisions
    key = table.c.work_id == revision.work_id
    connection.execute(table.update().where(key).values(attempts=table.c.attempts + difference))
    return int(connection.execute(sa.select(table.c.attempts).where(key)).scalar() or 0)


def _release(connection: sa.Connection, quarantine_id: str, retry: bool, now: float) -> QuarantineEntry:
    table = schema.quarantine
    row = connection.execute(sa.select(table).where(table.c.quarantine_id == quarantine_id)).one_or_none()
    if row is None:
        raise RequestError(ErrorCode.INVALID_ARGUMENT, f"nothing in quarantine has the id {quarantine_id[:64]}")
    entry = _entry(row)
    if retry and entry.kind is QuarantineKind.CONFLICT:
        text = "conflicting bytes cannot be tried again: their UID is taken; look at them, then drop them"
        raise RequestError(ErrorCode.INVALID_ARGUMENT, text)
    connection.execute(table.delete().where(table.c.quarantine_id == quarantine_id))
    if retry and entry.kind is QuarantineKind.STUDY:
        _try_again(connection, entry)
    elif retry:
        resume_deliveries(connection, entry.result_uid, entry.destination, entry.sop_instance_uid, now)
        set_state(connection, entry.study_instance_uid, entry.revision, StudyState.ANALYSED)
        settle(connection, entry.study_instance_uid, entry.revision)  # another delivery may still be given up
    return entry


def _try_again(connection: sa.Connection, entry: QuarantineEntry) -> None:
    table = schema.revisions
    key = (table.c.study_instance_uid == entry.study_instance_uid) & (table.c.revision == entry.revision)
    row = connection.execute(sa.select(table).where(key)).one_or_none()
    if row is None:
        raise RequestError(ErrorCode.STUDY_NOT_FOUND, "the study of this entry is not stored here any more")
    begin_anew(connection, entry.study_instance_uid, entry.revision, row.generation)


def _revision(row: Any) -> Revision:
    return Revision(
        row.study_instance_uid,
        row.revision,
        StudyState(row.state),
        bool(row.incomplete),
        row.generation,
        row.attempts,
    )


def _entry(row: Any) -> QuarantineEntry:
    values = dict(row._mapping)
    return QuarantineEntry(
        **{**values, "kind": QuarantineKind(row.kind), "code": ErrorCode(row.code)},
    )
