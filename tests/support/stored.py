"""Putting instances into a study store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from radserve.dicom_io import durable
from radserve.dicom_io.store import StoredInstance, StudyStore
from radserve.errors import ErrorCode, RadserveError, WorkerError
from tests.support.dicoms import cr, part10

IMAGE = np.arange(30 * 20, dtype=np.uint16).reshape(30, 20)
CHUNK = 300


class InlineWorkers:
    """Runs tasks in this process, as a WorkerPool would elsewhere; tests of the pool itself are in test_workers."""

    def __init__(self) -> None:
        self.poison: Callable[..., bool] = lambda *args: False

    async def run(self, function: Callable[..., Any], *args: Any) -> Any:
        await asyncio.sleep(0)
        if self.poison(*args):
            raise WorkerError(ErrorCode.WORKER_DIED, "the worker died")
        return function(*args)


def instance(number: int = 1, **attributes: Any) -> bytes:
    given = {"study": "s", "instance": str(number), "InstanceNumber": number, **attributes}
    return part10(cr(IMAGE + number, **given))


async def put(made: StudyStore, data: bytes) -> StoredInstance:
    async with made.receive() as incoming:
        for at in range(0, len(data), CHUNK):
            incoming.write(data[at : at + CHUNK])
        return await incoming.commit()


def files(root: Path) -> list[Path]:
    """Everything on disk but the lock and the empty folder for what is being written."""
    return sorted(path for path in root.rglob("*") if path.name not in (durable.ASIDE, durable.LOCK))


async def refused(made: StudyStore, data: bytes) -> RadserveError:
    with pytest.raises(RadserveError) as caught:
        await put(made, data)
    return caught.value
