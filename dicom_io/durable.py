"""Files that are wholly there or not at all, even after a power cut: write aside, fsync, rename, fsync the folders."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import os
import secrets
import shutil
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import BinaryIO

from radserve.dicom_io.same_instance import same_instance
from radserve.errors import ErrorCode, StorageError

FULL = (errno.ENOSPC, errno.EDQUOT)
ASIDE = ".incoming"
LOCK = ".lock"


def storage_error(error: OSError) -> StorageError:
    """The error for a failed file operation; it names the cause, not the path."""
    text = os.strerror(error.errno) if error.errno else type(error).__name__
    if error.errno in FULL:
        return StorageError(ErrorCode.STORAGE_FULL, f"the store is full: {text}")
    return StorageError(ErrorCode.INTERNAL, f"the store failed: {text}")


def uid_conflict() -> StorageError:
    """The error for other bytes under a UID that is taken."""
    return StorageError(ErrorCode.UID_CONFLICT, "another instance with this SOP Instance UID is stored already")


class DurableTree:
    """A folder tree to which files are only ever added. Its methods block; they may run in any thread.

    Files are written aside first, in `root`/.incoming. One process at a time holds a tree: `claim` locks it. All raise
    StorageError: STORAGE_FULL or INTERNAL.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._aside = root / ASIDE
        self._numbers = itertools.count(1)
        self._run = secrets.token_hex(4)
        self._lock_file: BinaryIO | None = None
        # A folder that one thread makes must not be taken away by another that failed to fill it.
        self._changing = threading.Lock()
        self._durable: set[Path] = set()  # folders whose own entry was fsynced, and those above

    def claim(self) -> None:
        """Make the root and lock it for this process."""
        try:
            self._aside.mkdir(parents=True, exist_ok=True)
            if self._lock_file is None:
                self._lock_file = _lock(self._root / LOCK)
        except OSError as error:
            raise storage_error(error) from None

    def release(self) -> None:
        """Unlock the root."""
        if self._lock_file:
            self._lock_file.close()
            self._lock_file = None

    def aside(self) -> Path:
        """A new path to write to before publishing."""
        return self._aside / f"{self._run}-{next(self._numbers)}.part"

    def left_aside(self) -> list[Path]:
        """What a process that ended, or a computer without power, left aside."""
        try:
            return sorted(self._aside.iterdir())
        except OSError as error:
            raise storage_error(error) from None

    def finish(self, moves: Sequence[tuple[Path, Path]]) -> None:
        """Place files that were left aside, for good; one whose place another instance has is not moved."""
        for written, target in moves:
            try:
                self.place(written, target)
            except StorageError as error:
                if error.code is not ErrorCode.UID_CONFLICT:
                    raise
        if failed := next(filter(None, self.sync([target for _, target in moves])), None):
            raise failed

    def drop_aside(self, left: Iterable[Path]) -> None:
        """Remove files that were left aside."""
        try:
            for path in left:
                path.unlink(missing_ok=True)
        except OSError as error:
            raise storage_error(error) from None

    def place(self, written: Path, target: Path) -> bool:
        """Move a file that was fsynced to its place in the tree; whether it is new there. `sync` makes that durable.

        False: a file of the same instance is there already. Raises UID_CONFLICT where one of another is, which stays.
        The caller removes what was not moved, and sees to it that only one thread places a target.
        """
        try:
            if self.holds(written, target):
                return False
            self._move(written, target)
        except OSError as error:
            raise storage_error(error) from None
        return True

    def holds(self, written: Path, target: Path) -> bool:
        """Whether a file of the same instance is at a place. Raises UID_CONFLICT where one of another is."""
        try:
            if not target.exists():
                return False
            if not same_instance(written, target):
                raise uid_conflict()
        except OSError as error:
            raise storage_error(error) from None
        return True

    def sync(self, targets: Sequence[Path]) -> list[StorageError | None]:
        """Make the entries of files durable, placed or aside: the outcome of each, None for success."""
        by_folder = {target.parent: target for target in targets}
        failed = {folder: self._fsynced(target) for folder, target in by_folder.items()}
        return [failed[target.parent] for target in targets]

    def withdraw(self, target: Path) -> None:
        """Take a file that was not acknowledged out of the tree, and the folders that are empty without it."""
        with self._changing, contextlib.suppress(OSError):
            target.unlink(missing_ok=True)
            for folder in self._between(target):
                folder.rmdir()
                self._durable.discard(folder)

    def remove_folder(self, folder: Path) -> int:
        """Remove a folder below the root with all that is in it, for good; return how many files there were."""
        try:
            count = sum(1 for path in folder.rglob("*") if path.is_file())
            with self._changing:
                if folder.exists():
                    shutil.rmtree(folder)
                    fsync_folder(folder.parent)
                self._durable = {each for each in self._durable if folder not in (each, *each.parents)}
        except OSError as error:
            raise storage_error(error) from None
        return count

    def _move(self, written: Path, target: Path) -> None:
        try:
            with self._changing:
                if target.parent not in self._durable or not target.parent.exists():  # a study may have been erased
                    target.parent.mkdir(parents=True, exist_ok=True)
                    self._durable.difference_update(self._between(target))
                written.rename(target)
        except OSError:
            self.withdraw(target)
            raise

    def _fsynced(self, target: Path) -> StorageError | None:
        """Fsync the folder of the target, and those above that hold a folder not yet known to be durable.

        Returns why it failed.
        """
        try:
            fsync_folder(target.parent)
            if target.parent not in self._durable:
                new = [folder for folder in self._between(target) if folder not in self._durable]
                for folder in new:
                    fsync_folder(folder.parent)
                self._durable.update(new)
        except OSError as error:
            return storage_error(error)
        return None

    def _between(self, target: Path) -> list[Path]:
        """The folders from that of the target up to, not including, the root."""
        depth = len(target.parts) - len(self._root.parts) - 1
        return list(target.parents[:depth])


def fsync_folder(folder: Path) -> None:
    """Make the entries of a folder durable."""
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _lock(path: Path) -> BinaryIO:
    file = path.open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise StorageError(ErrorCode.INTERNAL, f"another process uses the study store {path.parent}") from None
    return file
