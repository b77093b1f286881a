"""The rows of studies and their revisions: from state to state, within the transaction of the caller."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import sqlalchemy as sa

from radserve.dicom_io import index_schema as schema
from radserve.dicom_io.delivery_rows import CALLED_OFF, DELIVERED, GIVEN_UP, PENDING, SENDING
from radserve.work import Revision, Signal, StudyState

UNDER_WAY = (StudyState.COMPLETE, StudyState.ANALYSED)


def state_of(connection: sa.Connection, study_instance_uid: str, revision: int) -> str | None:
    """The state of a revision, which stays so until the transaction ends; None where the study was erased."""
    table = schema.revisions
    query = sa.select(table.c.state).where(table.c.study_instance_uid == study_instance_uid)
    found: str | None = connection.execute(query.where(table.c.revision == revision).with_for_update()).scalar()
    return found


def set_state(connection: sa.Connection, study_instance_uid: str, revision: int, state: StudyState) -> None:
    """Set the state of a revision, and of its study where that is its latest and nothing came since."""
    table, studies = schema.revisions, schema.studies
    key = (table.c.study_instance_uid == study_instance_uid) & (table.c.revision == revision)
    connection.execute(table.update().where(key).values(state=state))
    connection.execute(
        studies.update()
        .where(studies.c.study_instance_uid == study_instance_uid)
        .where(studies.c.revision == revision)
        .where(studies.c.state != StudyState.RECEIVING)
        .values(state=state)
    )


def settle(connection: sa.Connection, study_instance_uid: str, revision: int) -> None:
    """Make an analysed revision delivered where it had something to deliver and all of that arrived.

    Before all packs of a revision are through it is not analysed, so that an early delivery settles nothing.
    """
    deliveries = schema.deliveries
    state = state_of(connection, study_instance_uid, revision)
    states = set(
        connection.execute(
            sa.select(deliveries.c.state)
            .where(deliveries.c.study_instance_uid == study_instance_uid)
            .where(deliveries.c.revision == revision)
            .distinct()
        ).scalars()
    )
    if state != StudyState.ANALYSED or not states:
        return
    if states == {DELIVERED}:
        set_state(connection, study_instance_uid, revision, StudyState.DELIVERED)
    elif GIVEN_UP in states:
        set_state(connection, study_instance_uid, revision, StudyState.QUARANTINED)


def close(connection: sa.Connection, study_instance_uid: str, incomplete: bool, now: float) -> Revision | None:
    """Make a revision of what a study that is being received holds now; None for another study."""
    instances, studies = schema.instances, schema.studies
    new = (instances.c.study_instance_uid == study_instance_uid) & instances.c.revision.is_(None)
    row = connection.execute(
        sa.select(studies).where(studies.c.study_instance_uid == study_instance_uid).with_for_update()
    ).one_or_none()
    if row is None or row.state != StudyState.RECEIVING:
        return None
    made = Revision(study_instance_uid, row.revision + 1, incomplete=incomplete)
    connection.execute(instances.update().where(new).values(revision=made.revision))
    connection.execute(
        studies.update()
        .where(studies.c.study_instance_uid == study_instance_uid)
        .values(state=made.state, revision=made.revision, opened_at=None, signal=Signal.NONE, expected_instances=None)
    )
    values = {**asdict(made), "incomplete": int(incomplete), "work_id": made.work_id, "closed_at": now}
    connection.execute(schema.revisions.insert().values(values))
    return made


def begin_anew(connection: sa.Connection, study_instance_uid: str, revision: int, generation: int) -> None:
    """Let a revision be analysed under a new work id, with all its attempts; `generation` is the one so far."""
    table = schema.revisions
    again = Revision(study_instance_uid, revision, generation=generation + 1)
    connection.execute(
        table.update()
        .where(table.c.study_instance_uid == study_instance_uid)
        .where(table.c.revision == revision)
        .values(work_id=again.work_id, generation=again.generation, attempts=0)
    )
    set_state(connection, study_instance_uid, revision, StudyState.COMPLETE)


def call_off(connection: sa.Connection, uids: Sequence[str], now: float) -> bool:
    """Let nothing more be made or delivered of the studies.

    False, and no change, where a result of one has left, or is not to leave and can be had here.
    """
    studies, revisions, deliveries = schema.studies, schema.revisions, schema.deliveries
    found = connection.execute(sa.select(studies).where(studies.c.study_instance_uid.in_(uids)).with_for_update()).all()
    under_way = connection.execute(
        sa.select(revisions)
        .where(revisions.c.study_instance_uid.in_(uids))
        .where(revisions.c.state.in_(UNDER_WAY))
        .with_for_update()
    ).all()
    # A delivery that begins locks its row: once we have the locks, none of them begins.
    rows = connection.execute(
        sa.select(deliveries).where(deliveries.c.study_instance_uid.in_(uids)).with_for_update()
    ).all()
    outgoing: dict[tuple[str, int], set[str]] = {(row.study_instance_uid, row.revision): set() for row in under_way}
    for row in rows:
        outgoing.get((row.study_instance_uid, row.revision), set()).add(row.state)
    analysed = [outgoing[row.study_instance_uid, row.revision] for row in under_way if row.state == StudyState.ANALYSED]
    left = any(states & {SENDING, DELIVERED} for states in outgoing.values())
    if left or not all(analysed) or any(study.state == StudyState.DELIVERED for study in found):
        return False
    made = [close(connection, each.study_instance_uid, each.signal != Signal.COMPLETE, now) for each in found]
    ended = [*outgoing, *((each.study_instance_uid, each.revision) for each in made if each)]
    for uid, revision in ended:
        set_state(connection, uid, revision, StudyState.CALLED_OFF)
    pending = deliveries.c.study_instance_uid.in_(uids) & (deliveries.c.state == PENDING)
    connection.execute(deliveries.update().where(pending).values(state=CALLED_OFF))
    return True


def take_up(connection: sa.Connection, uid: str, now: float) -> None:
    """Go on with what was called off of a study, as a whole one; nothing for a study in another state."""
    studies, revisions, deliveries = schema.studies, schema.revisions, schema.deliveries
    row = connection.execute(
        sa.select(revisions)
        .join(studies, (studies.c.study_instance_uid == revisions.c.study_instance_uid))
        .where(studies.c.study_instance_uid == uid)
        .where(studies.c.revision == revisions.c.revision)
        .where(studies.c.state == StudyState.CALLED_OFF)
        .with_for_update()
    ).one_or_none()
    if row is None:
        return
    of_revision = (revisions.c.study_instance_uid == uid) & (revisions.c.revision == row.revision)
    connection.execute(revisions.update().where(of_revision).values(incomplete=0))
    begin_anew(connection, uid, row.revision, row.generation)
    called_off = (deliveries.c.study_instance_uid == uid) & (deliveries.c.state == CALLED_OFF)
    connection.execute(deliveries.update().where(called_off).values(state=PENDING, due_at=now))
