"""Commands on what a server has stored."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from radserve.dicom_io.store import StudyStore
from radserve.server.cli import app
from radserve.server.records import Records, opened_records
from radserve.server.settings import Settings
from tests.support.workflow import InlineWorkers


def on_site(root: Path, work: Callable[[Records, StudyStore], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        async with opened_records(Settings(data_dir=root)) as records:
            workers: Any = InlineWorkers()
            store = StudyStore(root / "studies", workers, None, records.index, records.options)
            await store.open()
            try:
                return await work(records, store)
            finally:
                await store.close()

    return asyncio.run(run())


def call(*arguments: str | Path, code: int = 0) -> str:
    result = CliRunner().invoke(app, [str(each) for each in arguments])
    assert result.exit_code == code, (result.output, result.exception)
    return result.output
