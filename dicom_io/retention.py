"""Which studies have been kept for long enough: those that are finished, have nothing in quarantine and are old."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from radserve.dicom_io import index_schema as schema
from radserve.dicom_io.delivery_rows import CALLED_OFF, DELIVERED
from radserve.work import StudyState

FINISHED = (StudyState.ANALYSED, StudyState.DELIVERED, StudyState.NOT_ROUTED, StudyState.CALLED_OFF)


@dataclass(frozen=True, slots=True)
class ExpiredStudy:
    """A study that may be erased, and how many instances it has. Nothing came for it since `last_received_at`."""

    study_instance_uid: str
    state: StudyState
    last_received_at: float
    instances: int


def expired_studies(connection: sa.Connection, before: float) -> list[ExpiredStudy]:
    """The studies that are finished and for which nothing came since `before` (seconds since 1970), oldest first.

    Never one that is being received, that waits for its analysis or a delivery, or of which something is in quarantine.
    Their rows are locked until the transaction ends, where the database can do that.
    """
    studies, instances, deliveries = schema.studies, schema.instances, schema.deliveries
    uid = studies.c.study_instance_uid
    count = sa.select(sa.func.count()).where(instances.c.study_instance_uid == uid).scalar_subquery()
    under_way = sa.select(deliveries.c.state).where(deliveries.c.study_instance_uid == uid)
    unfinished = sa.select(schema.revisions.c.state).where(schema.revisions.c.study_instance_uid == uid)
    query = (
        sa.select(uid, studies.c.state, studies.c.last_received_at, count.label("instances"))
        .where(studies.c.last_received_at < before)
        .where(studies.c.state.in_(FINISHED))
        .where(~unfinished.where(schema.revisions.c.state.not_in(FINISHED)).exists())
        .where(~under_way.where(deliveries.c.state.not_in((DELIVERED, CALLED_OFF))).exists())
        .where(uid.not_in(sa.select(schema.quarantine.c.study_instance_uid)))
        .order_by(studies.c.last_received_at, uid)
        .with_for_update(of=studies)
    )
    return [
        ExpiredStudy(row.study_instance_uid, StudyState(row.state), row.last_received_at, row.instances)
        for row in connection.execute(query)
    ]
