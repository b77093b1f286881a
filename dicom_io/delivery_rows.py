"""The outbox in the tables of the index: one row for each object of each result and each destination."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from radserve.dicom_io import index_schema as schema
from radserve.work import Delivery, ResultRecord

PENDING, SENDING, DELIVERED, GIVEN_UP, CALLED_OFF = "pending", "sending", "delivered", "given-up", "called-off"


def add_deliveries(connection: sa.Connection, result: ResultRecord, deliveries: Sequence[Delivery], now: float) -> None:
    """Put the objects of a result in the outbox, due at once."""
    subject = {"study_instance_uid": result.study_instance_uid, "revision": result.revision}
    for each in deliveries:
        key = _values(each.key.result_uid, each.key.destination, each.key.sop_instance_uid)
        values = {
            "artifact": each.artifact,
            "state": PENDING,
            "owner": "",
            "attempts": 0,
            "due_at": now,
            "delivered_at": None,
        }
        connection.execute(schema.deliveries.insert().values({**key, **subject, **values}))


def resume_deliveries(
    connection: sa.Connection, result_uid: str, destination: str, sop_instance_uid: str, now: float
) -> None:
    """Make a delivery that was given up due again, with all its attempts."""
    table = schema.deliveries
    connection.execute(
        table.update()
        .where(matches(result_uid, destination, sop_instance_uid))
        .where(table.c.state == GIVEN_UP)
        .values(state=PENDING, attempts=0, due_at=now)
    )


def matches(result_uid: str, destination: str, sop_instance_uid: str) -> sa.ColumnElement[bool]:
    """The condition for one row."""
    columns = schema.deliveries.c
    return sa.and_(
        *(columns[name] == value for name, value in _values(result_uid, destination, sop_instance_uid).items())
    )


def _values(result_uid: str, destination: str, sop_instance_uid: str) -> dict[str, str]:
    return {"result_uid": result_uid, "destination": destination, "sop_instance_uid": sop_instance_uid}
