"""Tasks for workers, and what tests of them wait for."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable
from pathlib import Path

import numpy as np
import pytest

from radserve.errors import RadserveError
from radserve.workers import WorkerLimits

GIB = 2**30
LIMITS = WorkerLimits(memory_bytes=2 * GIB, cpu_seconds=20, wall_seconds=900)


def double(value: float) -> float:
    return value * 2


def process_id() -> int:
    return os.getpid()


def make_array(size: int) -> np.ndarray:
    array = np.arange(size, dtype=np.uint8)
    array.setflags(write=False)
    return array


def echo(arrays: list[np.ndarray]) -> list[np.ndarray]:
    return arrays


async def exists(path: Path) -> None:
    """Return when a worker has made the file."""
    async with asyncio.timeout(240):
        while not path.exists():
            await asyncio.sleep(0.01)


async def failure(awaitable: Awaitable[object]) -> RadserveError:
    with pytest.raises(RadserveError) as caught:
        await awaitable
    return caught.value
