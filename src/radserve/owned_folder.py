"""Temporary folders that go at the end of their owner, and of one that was killed at a next start.

The owner holds a lock (flock) on its folder, which the kernel takes from a process that ends, however it ends: a folder
whose lock can be had has no owner any more. That holds among containers as well, which do not see each other's
processes.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

SUFFIX = ".owned"
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - where POSIX shared memory lies on Linux


@contextmanager
def owned_folder(kind: str) -> Iterator[Path]:
    """A new temporary folder, radserve-KIND-SOMETHING.owned, for this user only and while the block runs."""
    hidden = Path(tempfile.mkdtemp(prefix=f".radserve-{kind}-"))
    lock = _lock(hidden)  # before it has the name by which others look for folders without an owner
    folder = hidden.rename(hidden.with_name(hidden.name[1:] + SUFFIX))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def shared_memory_prefix(folder: Path) -> str:
    """How the names of the POSIX shared memory of an owned folder's owner begin: it goes with the folder."""
    return folder.name.removesuffix(SUFFIX)


def shared_memory_of(folder: Path) -> list[Path]:
    """The files of that shared memory."""
    return list(_SHARED_MEMORY.glob(f"{shared_memory_prefix(folder)}*"))


def remove_abandoned() -> list[str]:
    """Remove the owned folders, with their shared memory, whose owner is dead; return their names.

    Those of other users, and all where there are no locks (Windows, some network file systems), are left alone.
    """
    removed = []
    for folder in Path(tempfile.gettempdir()).glob(f"radserve-*{SUFFIX}"):
        lock = None
        with suppress(OSError):
            lock = _lock(folder)
        if lock is None:
            continue
        with suppress(OSError):
            for region in shared_memory_of(folder):
                region.unlink(missing_ok=True)
            shutil.rmtree(folder)
            removed.append(folder.name)
        os.close(lock)
    return removed


def _lock(folder: Path) -> int | None:
    """A descriptor that holds the lock until it is closed; None where another has it, or there are no locks."""
    try:
        import fcntl  # not on Windows
    except ImportError:
        return None
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(number)
        return None
    return number
