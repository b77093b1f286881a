"""Who decided what about packs: an append-only file, one JSON object a line, each with the hash of the line before.

A line that is changed, taken out or put in breaks the chain (`verify`). Cutting off the end does not: who must be safe
from that copies the file, or its last hash, elsewhere.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from radserve.dicom_io.durable import storage_error
from radserve.errors import ErrorCode, StorageError

START = "0" * 64  # what the first line has for the hash of the line before


def utc_now() -> str:
    """The time in ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


class AuditLog:
    """Appends entries; when `append` returns the entry is on disk. Entries hold no patient data."""

    def __init__(self, path: Path, now: Callable[[], str] = utc_now) -> None:
        self._path = path
        self._now = now

    def append(self, action: str, facts: Mapping[str, Any]) -> None:
        """Add what was decided. Raises StorageError."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            content = self._path.read_bytes() if self._path.exists() else b""
            entry = {"time": self._now(), "action": action, **facts, "previous": _last_hash(content)}
            line = json.dumps(entry, ensure_ascii=False, allow_nan=False).encode() + b"\n"
            # A line that a power cut tore off stays as it is, and the next one stands on its own.
            torn = b"\n" if content and not content.endswith(b"\n") else b""
            with self._path.open("ab") as file:
                file.write(torn + line)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise storage_error(error) from None


def verify(path: Path) -> list[dict[str, Any]]:
    """The entries of a log; none when there is no file. Raises StorageError INTERNAL naming the first line at fault."""
    try:
        lines = path.read_bytes().split(b"\n") if path.exists() else []
    except OSError as error:
        raise storage_error(error) from None
    entries, before = [], START
    for number, line in enumerate(line for line in lines if line):
        try:
            entry = json.loads(line)
            chained = entry["previous"] == before
        except (ValueError, KeyError, TypeError):
            raise _broken(path, number, "is not an entry") from None
        if not chained:
            raise _broken(path, number, "does not follow the line before: the log was altered")
        entries.append(entry)
        before = hashlib.sha256(line).hexdigest()
    return entries


def _last_hash(content: bytes) -> str:
    lines = [line for line in content.split(b"\n") if line]
    return hashlib.sha256(lines[-1]).hexdigest() if lines else START


def _broken(path: Path, number: int, cause: str) -> StorageError:
    return StorageError(ErrorCode.INTERNAL, f"{path.name}: line {number + 1} {cause}")
