"""Arrays that tasks of radserve.workers read and write in place: their memory is given to the worker, not a copy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from radserve._shared_memory import AVAILABLE, SharedMemory, within, write


def shared_zeros(shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any] | None:
    """A new array; None where the system has no such memory.

    Given to WorkerPool.run, it or a contiguous part of it is the caller's own array in the worker: what the task writes
    is there when it has ended. A part that is not writeable here is not writeable there.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if not AVAILABLE or not size:
        return None
    return np.frombuffer(SharedMemory.make(size), dtype).reshape(shape)


def is_shared(array: npt.NDArray[Any]) -> bool:
    """Whether a contiguous array is (a part of) a shared one, and writeable."""
    return array.flags.writeable and within(array.data) is not None


def put(place: npt.NDArray[Any], values: npt.NDArray[Any]) -> None:
    """`place[...] = values`, where both are contiguous and of one dtype; for new shared memory the quickest way."""
    if not write(place.data, values.data):
        place[...] = values
