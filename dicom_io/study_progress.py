"""How far a stored study has come, and what was made of it; for whoever waits for its end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from radserve.dicom_io import index_schema as schema
from radserve.dicom_io.database import Database
from radserve.dicom_io.delivery_rows import DELIVERED, PENDING, SENDING
from radserve.references import StudyRef
from radserve.work import StudyState


@dataclass(frozen=True, slots=True)
class ResultObjectAt:
    """An object of a result, its file, and the destination that has it, "" for none."""

    result_uid: str
    artifact: str
    destination: str = ""


@dataclass(frozen=True, slots=True)
class StudyProgress:
    """The state of a study; `settled`: nothing more will happen by itself, and `quarantined` says whether it failed.

    `result_uids`: the newest result of each pack. `deliveries`: their objects that destinations have. `reason`: why it
    is in quarantine.
    """

    state: StudyState
    undelivered: int
    result_uids: tuple[str, ...]
    deliveries: tuple[ResultObjectAt, ...]
    reason: str = ""

    @property
    def is_done(self) -> bool:
        """Whether there are results, all of which have arrived where they are to go."""
        return self.state in (StudyState.ANALYSED, StudyState.DELIVERED) and not self.undelivered


@dataclass(frozen=True, slots=True)
class StudyLine:
    """A study in a list of all: `incomplete` of its newest revision; objects that are still to be delivered; what is
    in quarantine of it. `last_received_at`: seconds since 1970.
    """

    study_instance_uid: str
    state: StudyState
    revision: int
    incomplete: bool
    instances: int
    last_received_at: float
    undelivered: int
    quarantined: int


class SqlStudyProgress:
    """Reads it from the tables of the index. Raises StorageError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def of(self, study: StudyRef) -> StudyProgress | None:
        """None for a study that is not stored here."""
        return await self._database.run(lambda connection: _read(connection, study.study_instance_uid))

    async def newest(self, state: StudyState | None, most: int) -> Sequence[StudyLine]:
        """The studies, of one state where it is given, that something came for last; the newest first."""
        return await self._database.run(lambda connection: _newest(connection, state, most))


def _newest(connection: sa.Connection, state: StudyState | None, most: int) -> list[StudyLine]:
    studies, revisions = schema.studies, schema.revisions
    newest = sa.and_(
        revisions.c.study_instance_uid == studies.c.study_instance_uid, revisions.c.revision == studies.c.revision
    )
    query = (
        sa.select(
            *(studies.c.study_instance_uid, studies.c.state, studies.c.revision, studies.c.last_received_at),
            sa.func.coalesce(revisions.c.incomplete, 0).label("incomplete"),
            _count(schema.instances).label("instances"),
            _count(schema.deliveries, schema.deliveries.c.state.in_((PENDING, SENDING))).label("undelivered"),
            _count(schema.quarantine).label("quarantined"),
        )
        .select_from(studies.outerjoin(revisions, newest))
        .order_by(studies.c.last_received_at.desc(), studies.c.study_instance_uid)
        .limit(most)
    )
    if state is not None:
        query = query.where(studies.c.state == state.value)
    rows = connection.execute(query).mappings()
    return [
        StudyLine(**{**row, "state": StudyState(row["state"]), "incomplete": bool(row["incomplete"])}) for row in rows
    ]


def _count(table: sa.Table, *conditions: sa.ColumnElement[bool]) -> sa.ScalarSelect[int]:
    of_study = table.c.study_instance_uid == schema.studies.c.study_instance_uid
    return sa.select(sa.func.count()).select_from(table).where(of_study, *conditions).scalar_subquery()


def _read(connection: sa.Connection, uid: str) -> StudyProgress | None:
    state = connection.execute(_of(schema.studies, uid, schema.studies.c.state)).scalar()
    if state is None:
        return None
    results = connection.execute(
        _of(schema.results, uid, schema.results.c.pack, schema.results.c.result_uid).order_by(schema.results.c.revision)
    ).all()
    newest = {row.pack: row.result_uid for row in results}
    deliveries: Sequence[Any] = connection.execute(_of(schema.deliveries, uid, schema.deliveries)).all()
    mine = [row for row in deliveries if row.result_uid in newest.values()]
    table = schema.quarantine
    reason = connection.execute(
        _of(table, uid, table.c.reason).where(table.c.kind != "conflict").order_by(table.c.created_at.desc())
    ).scalar()
    return StudyProgress(
        StudyState(state),
        sum(row.state != DELIVERED for row in mine),
        tuple(newest.values()),
        tuple(ResultObjectAt(row.result_uid, row.artifact, row.destination) for row in mine if row.state == DELIVERED),
        reason or "",
    )


def _of(table: sa.Table, uid: str, *columns: Any) -> sa.Select[Any]:
    return sa.select(*columns).where(table.c.study_instance_uid == uid)
