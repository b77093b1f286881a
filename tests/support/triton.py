"""What tests of the embedded Triton share: waiting for it, looking at its processes, checking its answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

from radserve.models.triton.client import ModelStatistics, TritonRunner
from radserve.tensors import InferenceResponse, ModelRef


async def eventually(condition: Callable[[], Awaitable[bool] | bool], timeout_s: float = 120.0) -> None:
    """Return when `condition` holds; fail when it does not within `timeout_s`."""
    async with asyncio.timeout(timeout_s):
        while True:
            holds = condition()
            if holds if isinstance(holds, bool) else await holds:
                return
            await asyncio.sleep(0.05)


async def count_anew(runner: TritonRunner, model: ModelRef) -> None:
    """Load a model anew: its statistics begin at nothing, whatever was asked of it before and is not counted yet."""
    await runner.unload(model)
    await runner.load(model)
    await runner.wait_ready([model], 120.0)
    assert await runner.statistics(model) == ModelStatistics(0, 0)


async def settled_statistics(runner: TritonRunner, model: ModelRef, expected: int) -> ModelStatistics:
    """What the model has done once `expected` inferences are counted and nothing more comes in half a second.

    Triton sends an answer first and counts it afterwards. Fails with what was counted when it stays below `expected`.
    """
    deadline = time.monotonic() + 60
    found = await runner.statistics(model)
    while found.inference_count < expected:
        assert time.monotonic() < deadline, found
        await asyncio.sleep(0.05)
        found = await runner.statistics(model)
    await asyncio.sleep(0.5)
    return await runner.statistics(model)


def family(pid: int) -> list[psutil.Process]:
    """tritonserver and its backend processes."""
    server = psutil.Process(pid)
    return [server, *server.children(recursive=True)]


def living(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those that still run (a zombie does not)."""
    return [each for each in processes if _lives(each)]


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:  # it ended between the two questions
        return False


def shared_memory(prefix: str) -> list[Path]:
    """The files in shared memory whose names begin so."""
    return list(Path("/dev/shm").glob(f"{prefix}*"))


def largest_difference(answer: InferenceResponse, expected: InferenceResponse) -> float:
    """The largest difference over all tensors, which must be the same ones."""
    assert answer.outputs.keys() == expected.outputs.keys()
    return max(float(np.abs(answer.outputs[name] - array).max()) for name, array in expected.outputs.items())


@dataclass
class Tensor:
    name: str
    array: np.ndarray

    def as_numpy(self) -> np.ndarray:
        return self.array


@dataclass
class Response:
    tensors: list[Tensor]
    error: str | None = None
