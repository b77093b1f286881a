"""Headers of one store are read in batches while it goes on, and what fails there costs nothing but time."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from radserve.dicom_io.dicomweb.header_cache import BATCH
from radserve.dicom_io.dicomweb.header_filling import HeaderAhead
from radserve.errors import ErrorCode, StorageError
from radserve.references import InstanceRef


class Holdings:
    """Notes which instances are read, each time."""

    def __init__(self) -> None:
        self.workers = None
        self.cache = self
        self.batches: list[list[str]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.fails = False

    async def several(self, study_by_sop: Mapping[str, str]) -> dict[str, str]:
        return {uid: uid for uid in study_by_sop}

    async def read(self, held: Sequence[str], workers: object) -> None:
        self.batches.append(list(held))
        await self.gate.wait()
        if self.fails:
            raise StorageError(ErrorCode.STORAGE_FULL, "full")


def instances(count: int, first: int = 0) -> list[InstanceRef]:
    return [InstanceRef("1.2", "1.3", f"1.4.{number}", "1.5") for number in range(first, first + count)]


async def until_read(holdings: Holdings, count: int) -> None:
    async with asyncio.timeout(60):
        while sum(map(len, holdings.batches)) < count:
            await asyncio.sleep(0)


async def test_a_batch_is_read_as_soon_as_it_is_together_and_the_rest_at_the_end() -> None:
    holdings: Any = Holdings()
    ahead = HeaderAhead(holdings)
    for each in instances(BATCH - 1):
        ahead.add(each)
    await asyncio.sleep(0)
    assert holdings.batches == []
    holdings.gate.clear()
    for each in instances(2 * BATCH, first=BATCH - 1):  # they come while the first batch is being read
        ahead.add(each)
    await until_read(holdings, BATCH)
    assert len(holdings.batches) == 1
    ahead.read()
    holdings.gate.set()
    await until_read(holdings, 3 * BATCH - 1)
    assert [len(each) for each in holdings.batches] == [BATCH, BATCH, BATCH - 1]
    assert [uid for each in holdings.batches for uid in each] == [f"1.4.{number}" for number in range(3 * BATCH - 1)]


async def test_what_fails_is_left_to_who_asks() -> None:
    holdings: Any = Holdings()
    holdings.fails = True
    ahead = HeaderAhead(holdings)
    ahead.add(instances(1)[0])
    ahead.read()
    await until_read(holdings, 1)
    await asyncio.sleep(0)
    holdings.fails = False
    ahead.add(instances(1, first=1)[0])
    async with asyncio.timeout(60):
        while len(holdings.batches) < 2:
            ahead.read()
            await asyncio.sleep(0)
    assert holdings.batches[-1] == ["1.4.1"]
