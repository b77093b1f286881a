"""A pool of one worker."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from radserve.workers import WorkerPool
from tests.support.tasks import LIMITS


@pytest.fixture
async def pool() -> AsyncIterator[WorkerPool]:
    async with WorkerPool(name="test", size=1, limits=LIMITS) as pool:
        yield pool
