"""Room on the disk that receiving leaves alone, so that the index, the queue and the logs can still be written."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from radserve._checks import invalid
from radserve.dicom_io.durable import storage_error
from radserve.errors import ErrorCode, StorageError


@dataclass(frozen=True, slots=True)
class DiskReserve:
    """`reserve_bytes` of the file system that holds `folder` are kept free; 0 keeps none.

    Asked before every instance, it refuses below the reserve and takes again above it.
    """

    folder: Path
    reserve_bytes: int

    def __post_init__(self) -> None:
        if self.reserve_bytes < 0:
            raise invalid("DiskReserve.reserve_bytes", self.reserve_bytes, "at least 0")

    def free_bytes(self) -> int:
        """What a process without privileges may still write. Raises StorageError INTERNAL."""
        try:
            found = os.statvfs(self.folder)
        except OSError as error:
            raise storage_error(error) from None
        return found.f_bavail * found.f_frsize

    def check(self, wanted_bytes: int = 0) -> None:
        """Raise StorageError STORAGE_FULL unless `wanted_bytes` fit above the reserve."""
        if not self.reserve_bytes:
            return
        free = self.free_bytes()
        if free - wanted_bytes < self.reserve_bytes:
            text = f"{free} bytes are free, of which {self.reserve_bytes} are reserved"
            raise StorageError(ErrorCode.STORAGE_FULL, text)
