"""The tables of the index and the statements that bring an older one up to date, for SQLite and PostgreSQL.

Each migration is frozen once released: a change of the tables is a new entry of MIGRATIONS. `schema_version` holds how
many were applied.
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from radserve.errors import ErrorCode, StorageError

Migration = Sequence[str]
MIGRATION_LOCK = 5_283_749_202  # PostgreSQL advisory lock: two nodes that start at once migrate one after the other

metadata = sa.MetaData()


def _text(name: str, *, key: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text, primary_key=key, nullable=False)


def _integer(name: str, *, key: bool = False, nullable: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.Integer, primary_key=key, nullable=nullable, autoincrement=False)


def _time(name: str, *, nullable: bool = False) -> sa.Column[float]:
    return sa.Column(name, sa.Double, nullable=nullable)


ACQUISITION_TEXTS = (
    *("modality", "body_part", "view_position", "laterality", "patient_sex", "study_date", "study_description"),
    *("series_description", "manufacturer", "manufacturer_model_name"),
)
PATIENT_AND_STUDY = (
    *("patient_id", "patient_name", "patient_birth_date", "accession_number"),
    *("study_id", "study_time", "referring_physician_name"),
)

instances = sa.Table(
    "instances",
    metadata,
    _text("sop_instance_uid", key=True),
    *map(_text, ("study_instance_uid", "series_instance_uid", "sop_class_uid", "transfer_syntax_uid")),
    *map(_text, ACQUISITION_TEXTS),
    _time("age_years", nullable=True),
    _integer("series_number", nullable=True),
    _integer("instance_number", nullable=True),
    *map(_integer, ("image_rows", "image_columns", "frames")),
    *map(_text, PATIENT_AND_STUDY),
    sa.Column("size", sa.BigInteger, nullable=False),
    _text("sha256"),
    _time("received_at"),
    _text("calling_ae"),
    _integer("revision", nullable=True),
    _text("pixel_sha256"),
    _integer("signed"),
    _integer("steps_read"),  # 0: of a time before there was a table of steps, and its file was not read again yet
)
# What the instances of a series say of its performed procedure steps: see performed_steps.py.
performed_steps = sa.Table(
    "performed_steps",
    metadata,
    *(_text(name, key=True) for name in ("series_instance_uid", "start_date", "start_time")),
    *(_text(name, key=True) for name in ("scheduled_procedure_step_id", "requested_procedure_id")),
    _text("study_instance_uid"),
)
studies = sa.Table(
    "studies",
    metadata,
    _text("study_instance_uid", key=True),
    _text("state"),
    _integer("revision"),
    _time("first_received_at"),
    _time("last_received_at"),
    _time("opened_at", nullable=True),
    _text("signal"),
    _integer("expected_instances", nullable=True),
)
revisions = sa.Table(
    "revisions",
    metadata,
    _text("study_instance_uid", key=True),
    _integer("revision", key=True),
    _text("work_id"),
    _text("state"),
    *map(_integer, ("incomplete", "generation", "attempts")),
    _time("closed_at"),
)
results = sa.Table(
    "results",
    metadata,
    _text("result_uid", key=True),
    _text("study_instance_uid"),
    _integer("revision"),
    *map(_text, ("pack", "pack_digest", "predecessor_uid")),
    _integer("incomplete"),
    _time("created_at"),
)
deliveries = sa.Table(
    "deliveries",
    metadata,
    _text("result_uid", key=True),
    _text("destination", key=True),
    _text("sop_instance_uid", key=True),
    _text("study_instance_uid"),
    _integer("revision"),
    *map(_text, ("artifact", "state", "owner")),
    _integer("attempts"),
    _time("due_at"),
    _time("delivered_at", nullable=True),
)
quarantine = sa.Table(
    "quarantine",
    metadata,
    _text("quarantine_id", key=True),
    *map(_text, ("kind", "study_instance_uid", "code", "reason")),
    _time("created_at"),
    _text("sop_instance_uid"),
    _integer("revision"),
    *map(_text, ("result_uid", "destination", "calling_ae", "sha256")),
)
tombstones = sa.Table(
    "tombstones",
    metadata,
    _text("study_sha256", key=True),
    *map(_text, ("study_instance_uid", "state")),
    _time("requested_at"),
    _time("erased_at", nullable=True),
    _integer("instances"),
)
# What people and programs saw: see annotations.py.
image_annotations = sa.Table(
    "annotations",
    metadata,
    _text("annotation_uid", key=True),
    *map(_text, ("study_instance_uid", "series_instance_uid", "sop_instance_uid")),
    _integer("frame"),
    *map(_text, ("scheme", "code", "meaning", "presence", "outline", "annotator")),
)
# The DICOM objects of results, read from their files when they are first asked for: see result_rows.py.
result_objects = sa.Table(
    "result_objects",
    metadata,
    _text("sop_instance_uid", key=True),
    *map(_text, ("study_instance_uid", "series_instance_uid", "sop_class_uid", "transfer_syntax_uid")),
    *map(_text, ACQUISITION_TEXTS),
    *(_integer(name, nullable=True) for name in ("series_number", "instance_number")),
    *map(_integer, ("image_rows", "image_columns", "frames")),
    *map(_text, PATIENT_AND_STUDY),
    *map(_text, ("result_uid", "file_name")),
)
schema_version = sa.Table("schema_version", metadata, _integer("version", key=True))

MIGRATIONS: Sequence[Migration] = (
    (
        """CREATE TABLE instances (
            sop_instance_uid TEXT PRIMARY KEY NOT NULL, study_instance_uid TEXT NOT NULL,
            series_instance_uid TEXT NOT NULL, sop_class_uid TEXT NOT NULL, transfer_syntax_uid TEXT NOT NULL,
            modality TEXT NOT NULL, body_part TEXT NOT NULL, view_position TEXT NOT NULL, laterality TEXT NOT NULL,
            patient_sex TEXT NOT NULL, study_date TEXT NOT NULL, study_description TEXT NOT NULL,
            series_description TEXT NOT NULL, manufacturer TEXT NOT NULL, manufacturer_model_name TEXT NOT NULL,
            age_years DOUBLE PRECISION, series_number INTEGER, instance_number INTEGER, image_rows INTEGER NOT NULL,
            image_columns INTEGER NOT NULL, frames INTEGER NOT NULL, patient_id TEXT NOT NULL,
            patient_name TEXT NOT NULL, patient_birth_date TEXT NOT NULL, accession_number TEXT NOT NULL,
            study_id TEXT NOT NULL, study_time TEXT NOT NULL, referring_physician_name TEXT NOT NULL,
            size BIGINT NOT NULL, sha256 TEXT NOT NULL, received_at DOUBLE PRECISION NOT NULL,
            calling_ae TEXT NOT NULL, revision INTEGER)""",
        "CREATE INDEX instances_of_a_study ON instances (study_instance_uid)",
        """CREATE TABLE studies (
            study_instance_uid TEXT PRIMARY KEY NOT NULL, state TEXT NOT NULL, revision INTEGER NOT NULL,
            first_received_at DOUBLE PRECISION NOT NULL, last_received_at DOUBLE PRECISION NOT NULL,
            opened_at DOUBLE PRECISION, signal TEXT NOT NULL, expected_instances INTEGER)""",
        "CREATE INDEX studies_by_state ON studies (state)",
        """CREATE TABLE revisions (
            study_instance_uid TEXT NOT NULL, revision INTEGER NOT NULL, work_id TEXT UNIQUE NOT NULL,
            state TEXT NOT NULL, incomplete INTEGER NOT NULL, generation INTEGER NOT NULL, attempts INTEGER NOT NULL,
            closed_at DOUBLE PRECISION NOT NULL, PRIMARY KEY (study_instance_uid, revision))""",
        "CREATE INDEX revisions_by_state ON revisions (state)",
        """CREATE TABLE results (
            result_uid TEXT PRIMARY KEY NOT NULL, study_instance_uid TEXT NOT NULL, revision INTEGER NOT NULL,
            pack TEXT NOT NULL, pack_digest TEXT NOT NULL, predecessor_uid TEXT NOT NULL, incomplete INTEGER NOT NULL,
            created_at DOUBLE PRECISION NOT NULL, UNIQUE (study_instance_uid, revision, pack))""",
        """CREATE TABLE deliveries (
            result_uid TEXT NOT NULL, destination TEXT NOT NULL, sop_instance_uid TEXT NOT NULL,
            study_instance_uid TEXT NOT NULL, revision INTEGER NOT NULL, artifact TEXT NOT NULL, state TEXT NOT NULL,
            owner TEXT NOT NULL, attempts INTEGER NOT NULL, due_at DOUBLE PRECISION NOT NULL,
            delivered_at DOUBLE PRECISION,
            PRIMARY KEY (result_uid, destination, sop_instance_uid))""",
        "CREATE INDEX deliveries_due ON deliveries (state, due_at)",
        """CREATE TABLE quarantine (
            quarantine_id TEXT PRIMARY KEY NOT NULL, kind TEXT NOT NULL, study_instance_uid TEXT NOT NULL,
            code TEXT NOT NULL, reason TEXT NOT NULL, created_at DOUBLE PRECISION NOT NULL,
            sop_instance_uid TEXT NOT NULL, revision INTEGER NOT NULL, result_uid TEXT NOT NULL,
            destination TEXT NOT NULL, calling_ae TEXT NOT NULL, sha256 TEXT NOT NULL)""",
        """CREATE TABLE tombstones (
            study_sha256 TEXT PRIMARY KEY NOT NULL, study_instance_uid TEXT NOT NULL, state TEXT NOT NULL,
            requested_at DOUBLE PRECISION NOT NULL, erased_at DOUBLE PRECISION, instances INTEGER NOT NULL)""",
    ),
    (
        """CREATE TABLE result_objects (
            sop_instance_uid TEXT PRIMARY KEY NOT NULL, study_instance_uid TEXT NOT NULL,
            series_instance_uid TEXT NOT NULL, sop_class_uid TEXT NOT NULL, transfer_syntax_uid TEXT NOT NULL,
            modality TEXT NOT NULL, body_part TEXT NOT NULL, view_position TEXT NOT NULL, laterality TEXT NOT NULL,
            patient_sex TEXT NOT NULL, study_date TEXT NOT NULL, study_description TEXT NOT NULL,
            series_description TEXT NOT NULL, manufacturer TEXT NOT NULL, manufacturer_model_name TEXT NOT NULL,
            series_number INTEGER, instance_number INTEGER, image_rows INTEGER NOT NULL,
            image_columns INTEGER NOT NULL, frames INTEGER NOT NULL, patient_id TEXT NOT NULL,
            patient_name TEXT NOT NULL, patient_birth_date TEXT NOT NULL, accession_number TEXT NOT NULL,
            study_id TEXT NOT NULL, study_time TEXT NOT NULL, referring_physician_name TEXT NOT NULL,
            result_uid TEXT NOT NULL, file_name TEXT NOT NULL)""",
        "CREATE INDEX result_objects_of_a_study ON result_objects (study_instance_uid)",
    ),
    (
        "ALTER TABLE instances ADD COLUMN pixel_sha256 TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE instances ADD COLUMN signed INTEGER NOT NULL DEFAULT 0",
    ),
    (
        """CREATE TABLE annotations (
            annotation_uid TEXT PRIMARY KEY NOT NULL, study_instance_uid TEXT NOT NULL,
            series_instance_uid TEXT NOT NULL, sop_instance_uid TEXT NOT NULL, frame INTEGER NOT NULL,
            scheme TEXT NOT NULL, code TEXT NOT NULL, meaning TEXT NOT NULL, presence TEXT NOT NULL,
            outline TEXT NOT NULL, annotator TEXT NOT NULL)""",
        "CREATE INDEX annotations_of_a_study ON annotations (study_instance_uid)",
    ),
    (
        """CREATE TABLE performed_steps (
            series_instance_uid TEXT NOT NULL, start_date TEXT NOT NULL, start_time TEXT NOT NULL,
            scheduled_procedure_step_id TEXT NOT NULL, requested_procedure_id TEXT NOT NULL,
            study_instance_uid TEXT NOT NULL, PRIMARY KEY (series_instance_uid, start_date, start_time,
            scheduled_procedure_step_id, requested_procedure_id))""",
        "CREATE INDEX performed_steps_of_a_study ON performed_steps (study_instance_uid)",
        "ALTER TABLE instances ADD COLUMN steps_read INTEGER NOT NULL DEFAULT 0",
    ),
)


def migrate(connection: sa.Connection, migrations: Sequence[Migration] = MIGRATIONS) -> int:
    """Apply what is missing, within the caller's transaction; return how many were applied.

    Raises StorageError INTERNAL where the index was written by a newer radserve.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": MIGRATION_LOCK})
    schema_version.create(connection, checkfirst=True)
    applied = connection.execute(sa.select(sa.func.max(schema_version.c.version))).scalar() or 0
    if applied > len(migrations):
        text = f"the index has schema version {applied}, this radserve knows {len(migrations)}: use a newer radserve"
        raise StorageError(ErrorCode.INTERNAL, text)
    for number, migration in enumerate(migrations[applied:], start=applied + 1):
        for statement in migration:
            connection.execute(sa.text(statement))
        connection.execute(schema_version.insert().values(version=number))
    return len(migrations) - applied
