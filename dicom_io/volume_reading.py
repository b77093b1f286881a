"""A volume from the files of its slices, in several workers at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from radserve.dicom_io.pixel_layout import DecodeLimits
from radserve.dicom_io.slices import DecodedSlice, Stack, decode_slices, images_of, stack_of
from radserve.dicom_io.volume import assemble_volume, decode_volume, half_of
from radserve.image import Volume

T = TypeVar("T")
# In one task: enough to make up for the exchange with a worker, few enough for all to have work, and for the memory
# that each worker keeps.
SLICES_AT_ONCE = 32
BYTES_AT_ONCE = 32 * 2**20


class Workers(Protocol):
    """Where tasks run: a WorkerPool."""

    @property
    def can_fill(self) -> bool: ...
    async def run(self, function: Callable[..., T], /, *args: Any) -> T: ...
    async def fill(self, out: npt.NDArray[Any], function: Callable[..., T], /, *args: Any) -> T: ...


async def read_volume(workers: Workers, paths: Sequence[Path], limits: DecodeLimits | None = None) -> Volume:
    """`decode_volume` in `workers`: raises as that, and WorkerError."""
    left = half_of(limits)
    stack = await workers.run(stack_of, paths, left)
    if stack is None or not workers.can_fill:
        return await workers.run(decode_volume, paths, limits)
    block = np.empty(stack.shape, np.float32)
    ordered = stack.turned(paths)
    tasks = [workers.fill(block[span], decode_slices, ordered[span], left, stack.differing) for span in _spans(stack)]
    slices: list[DecodedSlice] = []
    for found in await asyncio.gather(*tasks, return_exceptions=True):  # to cancel one would kill its worker
        if isinstance(found, BaseException):
            raise found
        if found is None:
            return await workers.run(decode_volume, paths, limits)
        slices += found
    images = stack.turned(images_of(slices, block))
    return await asyncio.to_thread(assemble_volume, images, block)


def _spans(stack: Stack) -> list[slice]:
    count, rows, columns = stack.shape
    step = max(min(SLICES_AT_ONCE, BYTES_AT_ONCE // (4 * rows * columns)), 1)
    return [slice(at, at + step) for at in range(0, count, step)]
