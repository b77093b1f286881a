"""Which studies were erased, or are to be: what the index remembers of them is a hash of the UID (a tombstone)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from radserve.dicom_io import index_schema as schema
from radserve.dicom_io.retention import ExpiredStudy, expired_studies

# An erasure that a person asked for, and one by the site's retention time. What a person had erased is not taken again.
REQUESTED, ERASED = "requested", "erased"
EXPIRING, EXPIRED = "expiring", "expired"
OF_A_STUDY = (  # the tables with rows of a study
    *(schema.instances, schema.performed_steps, schema.studies, schema.revisions),
    *(schema.results, schema.result_objects, schema.deliveries, schema.quarantine, schema.image_annotations),
)


@dataclass(frozen=True, slots=True)
class Tombstone:
    """That a study was erased: its UID is kept as SHA-256 only. `instances`: how many files were removed."""

    study_sha256: str
    requested_at: float
    erased_at: float | None
    instances: int


def request(connection: sa.Connection, study_instance_uid: str, now: float) -> bool:
    """Note that a person wants a study erased. False where there is nothing of it, and none is noted.

    One that retention erased is noted, too: it is not taken again then. One that was erased keeps its tombstone.
    """
    if not (_has_rows(connection, study_instance_uid) or _state(connection, study_instance_uid) in (EXPIRING, EXPIRED)):
        return False
    _bury(connection, study_instance_uid, REQUESTED, now)
    return True


def expire(connection: sa.Connection, before: float, now: float) -> Sequence[ExpiredStudy]:
    """Note that the studies which have been kept for long enough are to be erased."""
    found = expired_studies(connection, before)
    for each in found:
        _bury(connection, each.study_instance_uid, EXPIRING, now)
    return found


def to_be_erased(connection: sa.Connection) -> Sequence[str]:
    """The UIDs of studies whose erasure was asked for and is not finished."""
    table = schema.tombstones
    query = sa.select(table.c.study_instance_uid).where(table.c.state.in_((REQUESTED, EXPIRING)))
    return connection.execute(query).scalars().all()


def erase(connection: sa.Connection, study_instance_uid: str, instances: int, now: float) -> None:
    """Remove every row of a study, and its UID from its tombstone."""
    for table in OF_A_STUDY:
        connection.execute(table.delete().where(table.c.study_instance_uid == study_instance_uid))
    stone = schema.tombstones
    done = sa.case((stone.c.state == EXPIRING, EXPIRED), else_=ERASED)
    connection.execute(
        stone.update()
        .where(stone.c.study_sha256 == digest(study_instance_uid))
        .values(study_instance_uid="", state=done, erased_at=now, instances=instances)
    )


def tombstone(connection: sa.Connection, study_instance_uid: str) -> Tombstone | None:
    """The tombstone of a study, None where it was never erased."""
    table = schema.tombstones
    query = sa.select(table).where(table.c.study_sha256 == digest(study_instance_uid))
    row = connection.execute(query).one_or_none()
    return Tombstone(row.study_sha256, row.requested_at, row.erased_at, row.instances) if row else None


def digest(study_instance_uid: str) -> str:
    """What stays of the UID of an erased study."""
    return hashlib.sha256(study_instance_uid.encode()).hexdigest()


def _bury(connection: sa.Connection, study_instance_uid: str, state: str, now: float) -> None:
    table = schema.tombstones
    row = {"study_sha256": digest(study_instance_uid), "study_instance_uid": study_instance_uid}
    connection.execute(table.delete().where(table.c.study_sha256 == row["study_sha256"]))
    connection.execute(
        table.insert().values({**row, "state": state, "requested_at": now, "erased_at": None, "instances": 0})
    )


def _has_rows(connection: sa.Connection, study_instance_uid: str) -> bool:
    rows = (
        sa.select(table.c.study_instance_uid).where(table.c.study_instance_uid == study_instance_uid).limit(1)
        for table in OF_A_STUDY
    )
    return any(connection.execute(query).first() is not None for query in rows)


def _state(connection: sa.Connection, study_instance_uid: str) -> str | None:
    table = schema.tombstones
    query = sa.select(table.c.state).where(table.c.study_sha256 == digest(study_instance_uid))
    return connection.execute(query).scalar()
