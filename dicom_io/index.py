"""The index of a study store: one row for each stored instance and study, rebuildable from the files.

It is told of an instance before the sender is, and opens the instance's study for the workflow in the same transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from radserve.dicom_io import index_schema as schema
from radserve.dicom_io import tombstones
from radserve.dicom_io.database import Database, Prepared
from radserve.dicom_io.index_entry import UIDS, IndexEntry, header_from, row_of, step_rows
from radserve.dicom_io.parse import InstanceHeader
from radserve.dicom_io.performed_steps import PerformedStep
from radserve.dicom_io.retention import ExpiredStudy, expired_studies
from radserve.dicom_io.tombstones import ERASED, EXPIRING, REQUESTED, Tombstone
from radserve.errors import ErrorCode, RequestError
from radserve.references import InstanceRef
from radserve.work import StudyState


@dataclass(frozen=True, slots=True)
class Received:
    """An entry, when it came and from whom ("" where that has no name)."""

    entry: IndexEntry
    received_at: float
    calling_ae: str = ""


class StudyIndex:
    """The rows of instances, studies and tombstones. Raises StorageError."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._adding = _Adding(database)

    async def add(self, received: Sequence[Received]) -> None:
        """Add instances that are not there yet, and open their studies; those that are there stay as they are.

        Raises RequestError STUDY_ERASED while the retention time takes a study away.
        """
        await self._database.run(lambda connection: self._adding.add(connection, received, (EXPIRING,)))

    def add_blocking(self, received: Received, *, refuse_erased: bool) -> bool:
        """As `add`, for one instance and any thread but that of the event loop; whether it was not there yet.

        Raises RequestError STUDY_ERASED also where that is asked for and the study was erased on request.
        """
        states = (REQUESTED, ERASED, EXPIRING) if refuse_erased else (EXPIRING,)
        return self._database.run_blocking(lambda connection: self._adding.add(connection, (received,), states)) > 0

    async def headers(self) -> Mapping[str, tuple[InstanceHeader, int]]:
        """The header and the size in bytes of each instance, by SOP Instance UID."""
        rows = await self._database.run(lambda connection: connection.execute(sa.select(schema.instances)).all())
        return {row.sop_instance_uid: (header_from(dict(row._mapping)), row.size) for row in rows}

    async def rows(self, study_instance_uid: str) -> Sequence[Mapping[str, Any]]:
        """All columns of the instances of a study (index_schema.instances)."""
        table = schema.instances
        query = sa.select(table).where(table.c.study_instance_uid == study_instance_uid).order_by(*table.primary_key)
        return [
            dict(row._mapping) for row in await self._database.run(lambda connection: connection.execute(query).all())
        ]

    async def instances_of(self, digests: Collection[str]) -> Mapping[str, InstanceRef]:
        """The instances that have these SHA-256, by them."""
        table = schema.instances
        query = sa.select(table.c.sha256, *(table.c[name] for name in UIDS)).where(table.c.sha256.in_(list(digests)))
        rows = await self._database.run(lambda connection: connection.execute(query).all())
        return {row.sha256: InstanceRef(**{name: getattr(row, name) for name in UIDS}) for row in rows}

    async def query(self, make: Callable[[], sa.Select[Any]]) -> Sequence[Mapping[str, Any]]:
        """Run a selection over the tables of index_schema."""
        return [
            dict(row._mapping) for row in await self._database.run(lambda connection: connection.execute(make()).all())
        ]

    async def remove(self, sop_instance_uids: Iterable[str]) -> None:
        """Forget instances whose files are gone."""
        given = list(sop_instance_uids)
        await self._database.run(lambda connection: _remove(connection, given))

    def remove_blocking(self, sop_instance_uid: str) -> None:
        """As `remove`, for one instance and any thread but that of the event loop."""
        self._database.run_blocking(lambda connection: _remove(connection, [sop_instance_uid]))

    async def replace(self, found: Sequence[Received]) -> None:
        """Rebuild: drop all rows of instances and make them anew from what was read from the files.

        When an instance came, from whom and in which revision is no part of its file: that is kept where the old row of
        the same bytes had it. Studies that keep no instance are dropped, studies that gain one are opened.
        """
        await self._database.run(lambda connection: self._adding.replace(connection, found))

    async def without_steps(self) -> Sequence[InstanceRef]:
        """The instances of a time when the index kept no performed steps, whose files were not read for them yet."""
        table = schema.instances
        query = sa.select(*(table.c[name] for name in UIDS)).where(table.c.steps_read == 0).order_by(*table.primary_key)
        found = await self._database.run(lambda connection: connection.execute(query).all())
        return [InstanceRef(**row._mapping) for row in found]

    async def add_steps(self, read: Sequence[tuple[InstanceRef, Sequence[PerformedStep]]]) -> None:
        """Add what the files of such instances say."""
        await self._database.run(lambda connection: self._adding.add_steps(connection, read))

    async def bury(self, study_instance_uid: str, now: float) -> bool:
        """Note that a study is to be erased: from now on it is. False where there is nothing of it, and none is noted.

        One that retention erased is noted, too: it is not taken again then. One that was erased keeps its tombstone.
        """
        return await self._database.run(lambda connection: tombstones.request(connection, study_instance_uid, now))

    async def to_be_erased(self) -> Sequence[str]:
        """The UIDs of studies whose erasure was asked for and is not finished."""
        return await self._database.run(tombstones.to_be_erased)

    async def expired(self, before: float) -> Sequence[ExpiredStudy]:
        """The finished studies for which nothing came since `before`: see `expired_studies`."""
        return await self._database.run(lambda connection: expired_studies(connection, before))

    async def expire(self, before: float, now: float) -> Sequence[ExpiredStudy]:
        """Note that these are to be erased: until that is done nothing more is taken of them, afterwards it is."""
        return await self._database.run(lambda connection: tombstones.expire(connection, before, now))

    async def tombstone(self, study_instance_uid: str) -> Tombstone | None:
        """The tombstone of a study, None where it was never erased."""
        return await self._database.run(lambda connection: tombstones.tombstone(connection, study_instance_uid))

    async def result_uids(self, study_instance_uid: str) -> Sequence[str]:
        """The results of a study."""
        table = schema.results
        query = sa.select(table.c.result_uid).where(table.c.study_instance_uid == study_instance_uid)
        return list(await self._database.run(lambda connection: connection.execute(query).scalars().all()))

    async def erase(self, study_instance_uid: str, instances: int, now: float) -> None:
        """Remove every row of a study, leaving the tombstone without its UID, and compact the database."""
        await self._database.run(lambda connection: tombstones.erase(connection, study_instance_uid, instances, now))
        await self._database.compact()


class _Adding:
    """The statements that every instance needs. ON CONFLICT belongs to the dialects."""

    def __init__(self, database: Database) -> None:
        insert, dialect = database.insert, database.dialect
        self._instance = Prepared(insert(schema.instances).on_conflict_do_nothing(), dialect)
        self._step = Prepared(insert(schema.performed_steps).on_conflict_do_nothing(), dialect)
        stones = schema.tombstones
        buried = sa.select(stones.c.state).where(stones.c.study_sha256 == sa.bindparam("digest"))
        self._tombstone = Prepared(buried, dialect)
        table = schema.studies
        study = insert(table)
        new = study.excluded
        later = sa.case(
            (table.c.last_received_at > new.last_received_at, table.c.last_received_at), else_=new.last_received_at
        )
        changes = {
            "state": new.state,
            "last_received_at": later,
            "opened_at": sa.func.coalesce(table.c.opened_at, new.opened_at),
        }
        opened = study.on_conflict_do_update(index_elements=[table.c.study_instance_uid], set_=changes)
        self._study = Prepared(opened, dialect)

    def add(self, connection: sa.Connection, received: Sequence[Received], refused: Collection[str]) -> int:
        """Add what is new, unless its study has a tombstone in one of the `refused` states; return how many were."""
        for uid in {each.entry.header.instance.study_instance_uid for each in received}:
            stone = self._tombstone.run(connection, {"digest": tombstones.digest(uid)}).fetchone()
            if stone and stone[0] in refused:
                raise RequestError(ErrorCode.STUDY_ERASED, "the study was erased here and is not taken again")
        added = 0
        for each in received:
            row = {**row_of(each.entry), "received_at": each.received_at, "calling_ae": each.calling_ae}
            if self._instance.run(connection, {**row, "revision": None}).rowcount:
                self._add_steps(connection, each.entry.header.instance, each.entry.steps)
                self.open_study(connection, row["study_instance_uid"], each.received_at)
                added += 1
        return added

    def add_steps(self, connection: sa.Connection, read: Sequence[tuple[InstanceRef, Sequence[PerformedStep]]]) -> None:
        """Add the steps of instances that have a row (still), and note that their files were read for them."""
        table = schema.instances
        for instance, steps in read:
            noted = table.update().where(table.c.sop_instance_uid == instance.sop_instance_uid).values(steps_read=1)
            if connection.execute(noted).rowcount:
                self._add_steps(connection, instance, steps)

    def _add_steps(self, connection: sa.Connection, instance: InstanceRef, steps: Sequence[PerformedStep]) -> None:
        for row in step_rows(instance, steps):
            self._step.run(connection, row)

    def open_study(self, connection: sa.Connection, study_instance_uid: str, at: float) -> None:
        row = {"study_instance_uid": study_instance_uid, "state": StudyState.RECEIVING.value, "revision": 0}
        times = {"first_received_at": at, "last_received_at": at, "opened_at": at}
        self._study.run(connection, {**row, **times, "signal": "", "expected_instances": None})

    def replace(self, connection: sa.Connection, found: Sequence[Received]) -> None:
        table = schema.instances
        old = {row.sop_instance_uid: row for row in connection.execute(sa.select(table)).all()}
        connection.execute(table.delete())
        connection.execute(schema.performed_steps.delete())
        for each in found:
            before = old.get(each.entry.header.instance.sop_instance_uid)
            if before is None or before.sha256 != each.entry.sha256:
                self.add(connection, [each], ())
                continue
            kept = {name: getattr(before, name) for name in ("received_at", "calling_ae", "revision")}
            self._instance.run(connection, {**row_of(each.entry), **kept})
            self._add_steps(connection, each.entry.header.instance, each.entry.steps)
            if not _is_known(connection, before.study_instance_uid):
                self.open_study(connection, before.study_instance_uid, before.received_at)
        _drop_empty_studies(connection)


def _remove(connection: sa.Connection, sop_instance_uids: Sequence[str]) -> None:
    table = schema.instances
    for uid in sop_instance_uids:
        connection.execute(table.delete().where(table.c.sop_instance_uid == uid))
    _drop_empty_studies(connection)


def _drop_empty_studies(connection: sa.Connection) -> None:
    kept = sa.select(schema.instances.c.study_instance_uid)
    connection.execute(schema.studies.delete().where(schema.studies.c.study_instance_uid.not_in(kept)))
    steps, series = schema.performed_steps, sa.select(schema.instances.c.series_instance_uid)
    connection.execute(steps.delete().where(steps.c.series_instance_uid.not_in(series)))


def _is_known(connection: sa.Connection, study_instance_uid: str) -> bool:
    table = schema.studies
    query = sa.select(table.c.revision).where(table.c.study_instance_uid == study_instance_uid)
    return connection.execute(query).first() is not None
