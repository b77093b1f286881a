"""Memory of two processes at once: copies that nobody can change any more, and memory that a worker is given to use.

It imports little: a worker reads its first message by it, before the number of threads is set. Linux.
"""

from __future__ import annotations

import ctypes
import itertools
import mmap
import os
from collections.abc import Sequence
from typing import Any

F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_GROW, F_SEAL_WRITE = 0x1, 0x2, 0x4, 0x8  # <linux/fcntl.h>
FIXED_SIZE = F_SEAL_SHRINK | F_SEAL_GROW
SEALS = F_SEAL_SEAL | FIXED_SIZE | F_SEAL_WRITE
ALIGNMENT = 64
AVAILABLE = hasattr(os, "memfd_create")


class UnsafeError(Exception):
    """Memory that is not what was said, or could still shrink, which would kill its reader."""


class SharedMemory(mmap.mmap):
    """Memory that a worker can be given a part of, to read or to write: see `within`.

    `address` is 0 where it can only be read.
    """

    number: int
    address: int

    @classmethod
    def make(cls, size: int) -> SharedMemory:
        """New memory of zeros."""
        number = os.memfd_create("radserve-shared", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(number, size)
            _seal(number, FIXED_SIZE)
            return cls.of(number, size)
        finally:
            os.close(number)

    @classmethod
    def of(cls, number: int, size: int, *, writable: bool = True) -> SharedMemory:
        """The memory of a descriptor, which is copied."""
        made = cls(number, size, access=mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ)
        made.address = ctypes.addressof(ctypes.c_char.from_buffer(made)) if writable else 0
        made.number = os.dup(number)
        return made

    def __del__(self) -> None:
        if hasattr(self, "number"):
            os.close(self.number)


def within(part: memoryview) -> tuple[SharedMemory, int] | None:
    """The shared memory in which an array lies, and where; None for what lies elsewhere."""
    array: Any = part.obj
    owner = array
    while owner is not None and not isinstance(owner, SharedMemory):
        owner = getattr(owner, "base", getattr(owner, "obj", None))
    interface = getattr(array, "__array_interface__", None)
    if owner is None or interface is None or not part.nbytes or not owner.address:
        return None
    return owner, interface["data"][0] - owner.address


class Borrowed:
    """What a worker makes of the descriptors that it is lent.

    Memory that is mapped anew is faulted in anew, page by page, so that of the last time stays mapped.
    """

    def __init__(self) -> None:
        self._which: tuple[int, int, bool] | None = None
        self._memory: SharedMemory | None = None

    def part(self, number: int, offset: int, size: int, *, writable: bool) -> memoryview:
        """The part of another process's SharedMemory, which changes with it. Raises UnsafeError, OSError."""
        status = os.fstat(number)
        if _seals(number) & FIXED_SIZE != FIXED_SIZE or not 0 <= offset <= offset + size <= status.st_size:
            raise UnsafeError
        which = status.st_dev, status.st_ino, writable  # no other memory has that number while this one is mapped
        if self._memory is None or self._which != which:
            self._memory = SharedMemory.of(number, status.st_size, writable=writable)
            self._which = which
        return memoryview(self._memory)[offset : offset + size]


def sealed_copy(parts: Sequence[memoryview]) -> int:
    """The descriptor of memory with the parts one after the other, that nobody can change any more."""
    number = os.memfd_create("radserve-message", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        for part in parts:
            rest = part
            while rest:
                rest = rest[os.write(number, rest) :]
            os.lseek(number, _padded(part.nbytes) - part.nbytes, os.SEEK_CUR)
        os.ftruncate(number, sum(_padded(part.nbytes) for part in parts))
        _seal(number, SEALS)
    except BaseException:
        os.close(number)
        raise
    return number


def mapped_copy(number: int, sizes: Sequence[int]) -> list[memoryview]:
    """The parts of `sizes` of a sealed copy: private to this process, as long as anything refers to one of them.

    Raises UnsafeError, OSError.
    """
    total = sum(map(_padded, sizes))
    if _seals(number) & SEALS != SEALS or os.fstat(number).st_size != total:
        raise UnsafeError
    whole = memoryview(mmap.mmap(number, total, access=mmap.ACCESS_COPY))
    ends = list(itertools.accumulate(map(_padded, sizes)))
    return [whole[end - _padded(size) :][:size] for size, end in zip(sizes, ends, strict=True)]


def _padded(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def _seal(number: int, seals: int) -> None:
    import fcntl  # not on Windows

    fcntl.fcntl(number, fcntl.F_ADD_SEALS, seals)


def _seals(number: int) -> int:
    import fcntl  # not on Windows

    return fcntl.fcntl(number, fcntl.F_GET_SEALS)
