"""DICOM files in a zip archive, read member by member and never written to disk."""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast

from radserve.dicom_io.found import DiscoveryLimits, FoundFile, refusal
from radserve.errors import DicomError, ErrorCode
from radserve.results import StudyFailure

# Not LZMA and not bzip2: an LZMA header alone can ask for gigabytes of memory.
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
ENCRYPTED_BIT = 0x1
_DRIVE = re.compile(r"[A-Za-z]:")


def discover_archive(path: Path, reference: str, limits: DiscoveryLimits) -> Iterator[FoundFile | StudyFailure]:
    """Yield the members of a zip in the order of their names, or why the archive or a member is refused.

    The whole archive is refused (ARCHIVE_UNSAFE) by its directory, before anything is inflated, when it holds too many
    members or inflates too far; zipfile never reads more of a member than the directory says. Members with names that
    lead out of the archive, encrypted ones and archives inside are refused one by one. Damaged: TRUNCATED. Hidden
    members and a DICOMDIR (its files are members too) are passed over.
    """
    try:
        archive = zipfile.ZipFile(path)
        members = sorted((member for member in archive.infolist() if not member.is_dir()), key=lambda m: m.filename)
    except OSError as error:
        yield refusal(ErrorCode.INVALID_ARGUMENT, f"the archive cannot be read: {error.strerror}", reference)
        return
    except Exception as error:  # zipfile lets struct, unicode and index errors through
        yield refusal(ErrorCode.TRUNCATED, f"the archive is damaged or cut off ({type(error).__name__})", reference)
        return
    if problem := _bomb(members, limits):
        yield refusal(ErrorCode.ARCHIVE_UNSAFE, problem, reference)
        return
    visible = [member for member in members if not is_hidden(PurePosixPath(member.filename).parts)]
    if not visible:
        yield refusal(ErrorCode.EMPTY_INPUT, "the archive holds no files", reference)
    for member in visible:
        name = f"{reference}!{member.filename}"
        if problem := _unsafe(member):
            yield refusal(ErrorCode.ARCHIVE_UNSAFE, problem, name)
        elif PurePosixPath(member.filename).name.upper() != "DICOMDIR":
            yield FoundFile(name, partial(_open_member, archive, member))


def is_hidden(parts: Sequence[str]) -> bool:
    """Whether a path holds a hidden file or folder, or the one in which macOS keeps its own things."""
    return any((part.startswith(".") and part not in (".", "..")) or part == "__MACOSX" for part in parts)


def _bomb(members: Sequence[zipfile.ZipInfo], limits: DiscoveryLimits) -> str:
    if len(members) > limits.max_files:
        return f"the archive holds {len(members)} files, more than the {limits.max_files} allowed"
    inflated = sum(member.file_size for member in members)
    if inflated > limits.max_archive_bytes:
        return f"the archive inflates to {inflated} bytes, more than the {limits.max_archive_bytes} allowed"
    packed = sum(member.compress_size for member in members)
    if inflated > limits.free_inflation_bytes and inflated > limits.max_ratio * packed:
        return f"the archive inflates {inflated / max(packed, 1):.0f} times, more than the {limits.max_ratio:g} allowed"
    return ""


def _unsafe(member: zipfile.ZipInfo) -> str:
    name = member.filename
    if name.startswith(("/", "\\")) or _DRIVE.match(name) or ".." in re.split(r"[/\\]", name):
        return "the member's name leads out of the archive"
    if member.flag_bits & ENCRYPTED_BIT:
        return "the member is encrypted"
    if name.lower().endswith(".zip"):
        return "an archive inside an archive is not opened"
    if member.compress_type not in METHODS:
        return f"the member is compressed by method {member.compress_type}, expected stored or deflate"
    return ""


def _open_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> BinaryIO:
    try:
        return cast(BinaryIO, io.BufferedReader(_Member(archive.open(member))))
    except Exception as error:
        raise _damaged(error) from None


def _damaged(error: Exception) -> DicomError:
    return DicomError(ErrorCode.TRUNCATED, f"the archive's member is damaged or cut off ({type(error).__name__})")


class _Member(io.RawIOBase):
    """A member's stream whose errors are ours."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            return int(self._stream.readinto(buffer))
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError) as error:
            raise _damaged(error) from None

    def close(self) -> None:
        self._stream.close()
        super().close()
