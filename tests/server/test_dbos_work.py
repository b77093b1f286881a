"""Durable work over DBOS: once for an id, going on after a restart, failed work again at the step that failed."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from radserve.dicom_io.database import sqlite_url
from radserve.errors import ErrorCode, StorageError
from radserve.ports import WorkStatus
from radserve.server import dbos_work
from radserve.server.dbos_work import DbosWork
from tests.support.postgres import postgres

Step = Callable[[str], Awaitable[None]]


@asynccontextmanager
async def opened(url: str, *steps: tuple[str, Step], concurrency: int = 2) -> AsyncIterator[DbosWork]:
    work = DbosWork(url, concurrency=concurrency, poll_s=0.02)
    work.register("study", steps)
    await work.open()
    try:
        yield work
    finally:
        await work.close()


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(60):
        while not await condition():
            await asyncio.sleep(0.02)


async def drained(work: DbosWork) -> None:
    async def is_empty() -> bool:
        return not await work.list()

    await until(is_empty)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return sqlite_url(tmp_path / "work.db")
    return str(request.getfixturevalue("postgres_url"))


@pytest.fixture(scope="module")
def postgres_url() -> object:
    with postgres() as found:
        yield found


async def test_steps_run_in_order_in_the_loop_that_opened_and_once_for_an_id(url: str) -> None:
    done: list[tuple[str, str]] = []
    loop = asyncio.get_running_loop()

    def step(name: str) -> Step:
        async def run(work_id: str) -> None:
            assert asyncio.get_running_loop() is loop
            done.append((name, work_id))

        return run

    async with opened(url, ("a", step("a")), ("b", step("b"))) as work:
        for work_id in ("once-1", "once-1", "once-2"):
            await work.start("study", work_id)
        await drained(work)
        await work.start("study", "once-1")
        await asyncio.sleep(0.2)
        assert not await work.list()
    for work_id in ("once-1", "once-2"):
        assert [name for name, found in done if found == work_id] == ["a", "b"]
    assert await asyncio.to_thread(lambda: 7) == 7  # DBOS left this loop's threads alone


async def test_what_was_cut_off_goes_on_after_a_restart_at_the_step_it_was_in(url: str) -> None:
    done: list[str] = []
    reached = asyncio.Event()

    async def first(work_id: str) -> None:
        done.append(f"first {work_id}")

    async def hangs(work_id: str) -> None:
        reached.set()
        await asyncio.Event().wait()

    async def second(work_id: str) -> None:
        done.append(f"second {work_id}")

    async with opened(url, ("first", first), ("second", hangs)) as work:
        await work.start("study", "cut")
        await asyncio.wait_for(reached.wait(), 60)
        assert (await work.list())["cut"] is WorkStatus.RUNNING
    async with opened(url, ("first", first), ("second", second)) as work:
        await drained(work)
    assert done == ["first cut", "second cut"]


async def test_failed_work_is_listed_and_can_be_retried_at_the_step_that_failed(url: str, tmp_path: Path) -> None:
    done: list[str] = []
    broken = True

    async def first(work_id: str) -> None:
        done.append("first")

    async def second(work_id: str) -> None:
        if broken:
            raise ValueError("CANARY Doe^Jane")
        done.append("second")

    async with opened(url, ("first", first), ("second", second)) as work:
        await work.start("study", "bad")

        async def has_failed() -> bool:
            return (await work.list()).get("bad") is WorkStatus.FAILED

        await until(has_failed)
        broken = False
        await work.retry("bad")
        await drained(work)
    assert done == ["first", "second"]
    assert not any(b"CANARY" in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


async def test_no_more_than_the_wanted_number_run_at_once(tmp_path: Path) -> None:
    running = most = 0
    three = asyncio.Event()

    async def step(work_id: str) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        if running == 3:
            asyncio.get_running_loop().call_later(0.2, three.set)  # a fourth would come meanwhile
        await asyncio.wait_for(three.wait(), 60)
        running -= 1

    async with opened(sqlite_url(tmp_path / "work.db"), ("a", step), concurrency=3) as work:
        for number in range(12):
            await work.start("study", f"n{number}")
        await drained(work)
    assert most == 3


async def test_the_log_survives_an_upgrade_of_the_code(tmp_path: Path) -> None:
    """DBOS resumes only what was begun under its own application version."""
    async with opened(sqlite_url(tmp_path / "work.db")) as work:
        await work.start("study", "x")
        await drained(work)
    with sqlite3.connect(tmp_path / "work.db") as database:
        assert database.execute("SELECT DISTINCT application_version FROM workflow_status").fetchall() == [("1",)]


async def test_work_that_succeeded_long_ago_is_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def kept() -> list[tuple[str]]:
        with sqlite3.connect(tmp_path / "work.db") as database:
            return database.execute("SELECT workflow_uuid FROM workflow_status ORDER BY 1").fetchall()

    url = sqlite_url(tmp_path / "work.db")
    async with opened(url) as work:
        await work.start("study", "old")
        await drained(work)
    async with opened(url) as work:
        await work.start("study", "young")
        await drained(work)
    assert kept() == [("old",), ("young",)]
    monkeypatch.setattr(dbos_work, "KEPT_FOR", timedelta(0))
    async with opened(url) as work:
        await work.start("study", "new")
        await drained(work)
    assert kept() == [("new",)]


async def refusal(url: str) -> StorageError:
    work = DbosWork(url)
    with pytest.raises(StorageError) as caught:
        await work.open()
    await work.close()
    return caught.value


async def test_a_database_that_fails_is_an_error_of_ours(tmp_path: Path) -> None:
    error = await refusal(sqlite_url(tmp_path / "none" / "work.db"))
    assert error.code is ErrorCode.INTERNAL
    assert f"{tmp_path / 'none' / 'work.db'} cannot be used: OperationalError: unable to open" in error.client_message


async def test_a_database_that_is_away_is_named_with_the_cause_and_without_its_password() -> None:
    error = await refusal("postgresql+psycopg://radserve:s3cret@127.0.0.1:1/work?application_name=s3cret")
    assert (error.code, "s3cret" in str(error)) == (ErrorCode.INTERNAL, False)
    assert "postgresql+psycopg://127.0.0.1:1/work cannot be used: OperationalError: " in error.client_message
    assert "Connection refused" in error.client_message


async def test_a_url_that_is_none_is_refused() -> None:
    error = await refusal("postgres")
    assert error.code is ErrorCode.INVALID_ARGUMENT
    assert error.client_message.startswith("the database URL cannot be used")
