"""Finding the files to send: in folders, zip archives, DICOMDIRs, or named one by one.

Nothing is judged here but the container: whether a file is DICOM at all is said by the server's parser. A refusal never
stops the search.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO

from radserve.dicom_io.archives import discover_archive, is_hidden
from radserve.dicom_io.dicomdir import is_dicomdir, referenced_files
from radserve.dicom_io.found import DiscoveryLimits, FoundFile, refusal
from radserve.errors import DicomError, ErrorCode
from radserve.results import StudyFailure

__all__ = ["DiscoveryLimits", "FoundFile", "discover"]

ZIP_MAGIC = b"PK\x03\x04"
Found = Iterator[FoundFile | StudyFailure]


def discover(paths: Sequence[Path], limits: DiscoveryLimits | None = None) -> Found:
    """Yield every file under `paths` in a fixed order, and a failure for each input that cannot be taken.

    A path is a folder (searched to the bottom; hidden files are passed over), a .zip, a DICOMDIR (the files that it
    names) or a file. A DICOMDIR within a folder adds no files: those it names but the folder lacks are failures. No
    file is yielded twice. Codes: EMPTY_INPUT, INVALID_ARGUMENT (no such file, not readable), ARCHIVE_UNSAFE, TRUNCATED,
    REQUEST_TOO_LARGE (more than `limits.max_files`: the search ends there), and those of `referenced_files`.
    """
    bounds = limits or DiscoveryLimits()
    search = _Search(bounds)
    if not paths:
        yield refusal(ErrorCode.EMPTY_INPUT, "no path was given", "")
    count = 0
    for path in paths:
        for found in search.path(path):
            count += 1
            if count > bounds.max_files:
                yield refusal(ErrorCode.REQUEST_TOO_LARGE, f"more than {bounds.max_files} files", str(path))
                return
            yield found


class _Search:
    """One search: remembers what it has seen, so that overlapping paths give each file once."""

    def __init__(self, limits: DiscoveryLimits) -> None:
        self._limits = limits
        self._seen: set[str] = set()

    def path(self, path: Path) -> Found:
        """What one of the caller's paths holds."""
        if not path.exists():
            yield refusal(ErrorCode.INVALID_ARGUMENT, "no such file or folder", str(path))
        elif path.is_dir():
            yield from self._folder(path)
        else:
            yield from self._file(path, named=True)

    def _folder(self, folder: Path) -> Found:
        empty = True
        for found in self._walk(folder):
            empty = False
            if isinstance(found, Path):
                yield from self._file(found, named=False)
            else:
                yield found
        if empty:
            yield refusal(ErrorCode.EMPTY_INPUT, "the folder holds no files", str(folder))

    def _walk(self, folder: Path) -> Iterator[Path | StudyFailure]:
        """The visible files of a folder and those below, and the folders that cannot be read."""
        refused: list[StudyFailure] = []

        def refuse(error: OSError) -> None:
            text = f"the folder cannot be read: {error.strerror}"
            refused.append(refusal(ErrorCode.INVALID_ARGUMENT, text, str(error.filename)))

        entered: set[str] = set()
        for where, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
            # A link may lead back up: each real folder is entered once.
            real = os.path.realpath(where)
            folders[:] = [] if real in entered else sorted(name for name in folders if not is_hidden([name]))
            if real not in entered:
                yield from (Path(where, name) for name in sorted(names) if not is_hidden([name]))
            entered.add(real)
            yield from refused
            refused.clear()
        yield from refused

    def _file(self, path: Path, *, named: bool) -> Found:
        """What one file holds; `named`: the caller asked for just this file."""
        real = os.path.realpath(path)
        if real in self._seen:
            return
        self._seen.add(real)
        if not path.is_file():
            yield refusal(ErrorCode.INVALID_ARGUMENT, "not a regular file", str(path))
            return
        try:
            with _open_file(path) as stream:
                beginning = stream.read(512)
        except DicomError as error:
            yield refusal(error.code, error.client_message, str(path))
            return
        is_dicom = beginning[128:132] == b"DICM"
        if is_dicomdir(path.name, beginning):
            yield from self._dicomdir(path, with_files=named)
        elif not is_dicom and (path.suffix.lower() == ".zip" or beginning.startswith(ZIP_MAGIC)):
            yield from discover_archive(path, str(path), self._limits)
        else:
            yield FoundFile(str(path), partial(_open_file, path))

    def _dicomdir(self, path: Path, *, with_files: bool) -> Found:
        """The files that a DICOMDIR names, or only those of them that are not there."""
        try:
            files = referenced_files(path, self._limits.max_dicomdir_bytes)
        except DicomError as error:
            yield refusal(error.code, error.client_message, str(path))
            return
        if not files and with_files:
            yield refusal(ErrorCode.EMPTY_INPUT, "the DICOMDIR names no files", str(path))
            return
        folder = path.parent
        # File IDs are upper case (PS3.10 8.2); copies of media often are not.
        present = {
            _key(found.relative_to(folder).parts): found for found in self._walk(folder) if isinstance(found, Path)
        }
        for parts in files:
            reference = f"{path}!{'/'.join(parts)}"
            if not parts or any(part in ("", ".", "..") or "/" in part or "\\" in part for part in parts):
                yield refusal(ErrorCode.ARCHIVE_UNSAFE, "the DICOMDIR names a file outside its folder", reference)
            elif (found := present.get(_key(parts))) is None:
                yield refusal(ErrorCode.INVALID_ARGUMENT, "the DICOMDIR names a file that is not there", reference)
            elif with_files:
                yield from self._file(found, named=False)


def _key(parts: Sequence[str]) -> str:
    return "/".join(parts).casefold()


def _open_file(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise DicomError(ErrorCode.INVALID_ARGUMENT, f"the file cannot be read: {error.strerror}") from None
