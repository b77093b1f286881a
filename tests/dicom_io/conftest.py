"""A store in a folder of its own, alone and with its index on either database."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from radserve.dicom_io import index_schema as schema
from radserve.dicom_io.database import sqlite_url
from radserve.dicom_io.store import StudyStore
from tests.support.indexed import Site
from tests.support.postgres import postgres
from tests.support.stored import InlineWorkers


@pytest.fixture
def workers() -> InlineWorkers:
    return InlineWorkers()


@pytest.fixture
async def stored(tmp_path: Path, workers: InlineWorkers) -> AsyncIterator[StudyStore]:
    made = StudyStore(tmp_path, workers)
    await made.open()
    yield made
    await made.close()


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    with postgres() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return sqlite_url(tmp_path / "index.db")
    found: str = request.getfixturevalue("postgres_url")
    engine = sa.create_engine(found)
    with engine.begin() as connection:
        for table in schema.metadata.tables:
            connection.execute(sa.text(f"DROP TABLE IF EXISTS {table}"))
    engine.dispose()
    return found


@pytest.fixture
async def site(tmp_path: Path, url: str) -> AsyncIterator[Site]:
    made = await Site(tmp_path, url).open()
    yield made
    await made.close()
