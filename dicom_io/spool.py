"""The bytes of one instance on its way: in memory while they are few, else in a file aside."""

from __future__ import annotations

import contextlib
import io
import mmap
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from radserve.dicom_io.durable import storage_error
from radserve.dicom_io.nested import Buffer
from radserve.dicom_io.preamble import zero_preamble

EACH_BYTES = 4 << 20
ALL_BYTES = 128 << 20


class Memory:
    """How many bytes all instances on their way may hold in memory together. For one thread."""

    def __init__(self, most_bytes: int = ALL_BYTES) -> None:
        self.held = 0
        self._most = most_bytes

    def take(self, size: int) -> bool:
        """Whether there was room for so many more; then they are counted."""
        if self.held + size > self._most:
            return False
        self.held += size
        return True

    def give_back(self, size: int) -> None:
        self.held -= size


class Spool:
    """Bytes that are written once, from the first to the last; then read, and saved at `path` (which is new).

    A file is made where memory does not take them, or by `save`: making one may wait for the disk. All raise
    StorageError.
    """

    def __init__(self, path: Path, memory: Memory) -> None:
        self.path = path
        self.size = 0
        self._memory = memory
        self._held = 0  # bytes of the memory
        self._file: BinaryIO = io.BytesIO()

    def write(self, chunk: bytes | memoryview) -> None:
        """Add bytes (to the system's cache at most: quick for chunks of a few MB)."""
        if isinstance(self._file, io.BytesIO):
            if self.size + len(chunk) <= EACH_BYTES and self._memory.take(len(chunk)):
                self._held += len(chunk)
            else:
                self._spill()
        self.size += len(chunk)
        try:
            _write_all(self._file, chunk)
        except OSError as error:
            raise storage_error(error) from None

    def zero_preamble(self) -> bytes:
        """As preamble.zero_preamble."""
        with _as_storage_error():
            return zero_preamble(self._file)

    def data(self) -> Buffer:
        """All bytes."""
        if isinstance(self._file, io.BytesIO):
            return self._file.getvalue()  # no copy
        return mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)

    def to_file(self) -> None:
        """Have the bytes in the file, not yet durable. Blocks; may run in any thread."""
        if isinstance(self._file, io.BytesIO):
            data = self._file.getvalue()
            with _as_storage_error():
                self._file = self.path.open("x+b", buffering=0)
                _write_all(self._file, data)

    def save(self) -> None:
        """Make the bytes durable in the file, once. Blocks; may run in any thread."""
        self.to_file()
        if not self._file.closed:
            with _as_storage_error(), self._file as file:
                os.fsync(file.fileno())

    def discard(self) -> None:
        """Forget the bytes, and the file if it is still at its path."""
        self._memory.give_back(self._held)
        self._held = 0
        with contextlib.suppress(OSError):
            self._file.close()
            self.path.unlink(missing_ok=True)

    def _spill(self) -> None:
        data = self.data()
        with _as_storage_error():
            self._file = self.path.open("x+b", buffering=0)
            _write_all(self._file, data)
        self._memory.give_back(self._held)
        self._held = 0


@contextlib.contextmanager
def _as_storage_error() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise storage_error(error) from None


def _write_all(file: BinaryIO, data: Buffer | memoryview) -> None:
    """Without a buffer in between, a write may take only a part."""
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]
