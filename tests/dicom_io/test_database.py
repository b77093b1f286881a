"""The database of the index: its schema, its migrations, its durability."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from radserve.dicom_io import index_schema as schema
from radserve.dicom_io.database import Database, sqlite_url
from radserve.errors import ErrorCode, StorageError


async def test_the_migrations_make_the_tables_that_the_code_uses(url: str) -> None:
    database = Database(url)
    await database.open()
    await database.open()  # nothing is left to do
    engine = sa.create_engine(url)
    found = sa.inspect(engine)
    for table in schema.metadata.tables.values():
        columns = {each["name"]: each for each in found.get_columns(table.name)}
        assert set(columns) == set(table.columns.keys()), table.name
        assert {name for name, each in columns.items() if each["nullable"]} == {
            each.name for each in table.columns if each.nullable
        }, table.name
        assert found.get_pk_constraint(table.name)["constrained_columns"] == [each.name for each in table.primary_key]
    engine.dispose()
    await database.close()


def test_an_older_index_is_brought_forward_and_a_newer_one_is_refused(tmp_path: Path) -> None:
    engine = sa.create_engine(sqlite_url(tmp_path / "index.db"))
    added = (*schema.MIGRATIONS, ("ALTER TABLE studies ADD COLUMN note TEXT",))
    with engine.begin() as connection:
        assert schema.migrate(connection) == len(schema.MIGRATIONS)
    with engine.begin() as connection:
        assert schema.migrate(connection, added) == 1
        assert "note" in {each["name"] for each in sa.inspect(connection).get_columns("studies")}
        assert schema.migrate(connection, added) == 0
        with pytest.raises(
            StorageError, match=f"schema version {len(added)}, this radserve knows {len(schema.MIGRATIONS)}"
        ):
            schema.migrate(connection)
    engine.dispose()


async def test_sqlite_syncs_every_commit_and_overwrites_what_is_deleted(tmp_path: Path) -> None:
    database = Database(sqlite_url(tmp_path / "index.db"))
    await database.open()

    def pragmas(connection: sa.Connection) -> list[Any]:
        return [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "secure_delete")
        ]

    assert await database.run(pragmas) == ["wal", 2, 1]
    await database.close()
    assert sqlite3.connect(tmp_path / "index.db").execute("SELECT max(version) FROM schema_version").fetchone() == (
        len(schema.MIGRATIONS),
    )


@pytest.mark.parametrize("bad", ["nonsense", "oracle+nodriver://x", "mysql://host/db"])
def test_a_url_that_cannot_be_used_is_refused(bad: str) -> None:
    with pytest.raises(StorageError) as caught:
        Database(bad)
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT
