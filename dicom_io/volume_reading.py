"""A volume from the files of its slices, in several workers at once that write into one array."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

from radserve.dicom_io.pixel_layout import DecodeLimits
from radserve.dicom_io.slices import DecodedSlice, decode_slices, images_of, stack_of
from radserve.dicom_io.volume import assemble_volume, decode_volume, half_of
from radserve.image import Volume
from radserve.shared_arrays import shared_zeros

T = TypeVar("T")
SLICES_AT_ONCE = 32  # in one task: enough to make up for the exchange with a worker, few enough for all to have work


class Workers(Protocol):
    """Where tasks run: a WorkerPool."""

    async def run(self, function: Callable[..., T], /, *args: Any) -> T: ...


async def read_volume(workers: Workers, paths: Sequence[Path], limits: DecodeLimits | None = None) -> Volume:
    """`decode_volume` in `workers`: raises as that, and WorkerError."""
    left = half_of(limits)
    stack = await workers.run(stack_of, paths, left)
    block = shared_zeros(stack.shape, np.float32) if stack else None
    if stack is None or block is None:
        return await workers.run(decode_volume, paths, limits)
    ordered = stack.turned(paths)
    spans = [slice(at, at + SLICES_AT_ONCE) for at in range(0, len(ordered), SLICES_AT_ONCE)]
    tasks = [workers.run(decode_slices, ordered[span], block[span], left) for span in spans]
    slices: list[DecodedSlice] = []
    for found in await asyncio.gather(*tasks, return_exceptions=True):  # to cancel one would kill its worker
        if isinstance(found, BaseException):
            raise found
        if found is None:
            return await workers.run(decode_volume, paths, limits)
        slices += found
    images = stack.turned(images_of(slices, block))
    return await asyncio.to_thread(assemble_volume, images, block)
