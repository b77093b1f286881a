"""What was delivered and what is due, in the tables of the index (ports.OutboxLedger)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import astuple, replace
from typing import Any

import sqlalchemy as sa

from radserve.dicom_io import index_schema as schema
from radserve.dicom_io.database import Database
from radserve.dicom_io.delivery_rows import DELIVERED, GIVEN_UP, PENDING, SENDING, matches
from radserve.dicom_io.revision_rows import settle
from radserve.dicom_io.work_ledger import quarantine
from radserve.work import Delivery, DeliveryKey, QuarantineEntry


class SqlOutboxLedger:
    """The OutboxLedger over a Database. Raises StorageError.

    `node` names this process among those that share the database: what one of them has begun is left to it.
    """

    def __init__(self, database: Database, node: str = "local") -> None:
        self._database = database
        self._node = node

    async def due(self, now: float, limit: int, busy: Collection[str] = ()) -> Sequence[Delivery]:
        table = schema.deliveries
        query = (
            sa.select(table)
            .where(self._may_begin())
            .where(table.c.due_at <= now)
            .where(table.c.destination.not_in(list(busy)))
            .order_by(table.c.due_at, table.c.revision, *table.primary_key)
            .limit(limit)
        )
        rows = await self._database.run(lambda connection: connection.execute(query).all())
        return [
            Delivery(
                DeliveryKey(row.result_uid, row.destination, row.sop_instance_uid),
                row.artifact,
                row.attempts,
                interrupted=row.state == SENDING,
                study_instance_uid=row.study_instance_uid,
            )
            for row in rows
        ]

    async def begin(self, key: DeliveryKey) -> int:
        table = schema.deliveries
        mine = matches(*astuple(key)) & self._may_begin()
        update = table.update().where(mine)
        update = update.values(state=SENDING, owner=self._node, attempts=table.c.attempts + 1)
        query = sa.select(table.c.attempts).where(matches(*astuple(key)))

        def work(connection: sa.Connection) -> int:
            if not connection.execute(update).rowcount:
                return 0
            return int(connection.execute(query).scalar() or 0)

        return await self._database.run(work)

    async def delivered(self, key: DeliveryKey, now: float) -> None:
        await self._database.run(lambda connection: _delivered(connection, key, now))

    async def postpone(self, key: DeliveryKey, due_at: float) -> None:
        await self._set(key, state=PENDING, due_at=due_at)

    async def put_in_quarantine(self, entry: QuarantineEntry) -> None:
        key = DeliveryKey(entry.result_uid, entry.destination, entry.sop_instance_uid)

        def work(connection: sa.Connection) -> None:
            row = connection.execute(sa.select(schema.deliveries).where(matches(*astuple(key)))).one_or_none()
            if row is None:  # the study was erased
                return
            connection.execute(schema.deliveries.update().where(matches(*astuple(key))).values(state=GIVEN_UP))
            subject = replace(entry, study_instance_uid=row.study_instance_uid, revision=row.revision)
            quarantine(connection, subject)

        await self._database.run(work)

    def _may_begin(self) -> sa.ColumnElement[bool]:
        columns = schema.deliveries.c
        return (columns.state == PENDING) | ((columns.state == SENDING) & (columns.owner == self._node))

    async def _set(self, key: DeliveryKey, **values: Any) -> None:
        update = schema.deliveries.update().where(matches(*astuple(key))).values(values)
        await self._database.run(lambda connection: connection.execute(update))


def _delivered(connection: sa.Connection, key: DeliveryKey, now: float) -> None:
    table = schema.deliveries
    connection.execute(table.update().where(matches(*astuple(key))).values(state=DELIVERED, delivered_at=now))
    row = connection.execute(sa.select(table).where(matches(*astuple(key)))).one_or_none()
    if row is None:
        return
    settle(connection, row.study_instance_uid, row.revision)
