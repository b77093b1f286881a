"""The DICOM files of an archive as files, some at a time: for a worker (radserve.workers), as archives are hostile."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from radserve.dicom_io.archives import discover_archive
from radserve.dicom_io.durable import storage_error
from radserve.dicom_io.files import ZIP_MAGIC
from radserve.dicom_io.found import DiscoveryLimits, FoundFile
from radserve.errors import DicomError, ErrorCode, RadserveError

TURN_BYTES, TURN_FILES = 256 << 20, 200
CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Unpacked:
    """Members that were written to files, or why not, by their names; `after` is where the next turn begins, or None.

    A name is "" for the archive as a whole.
    """

    members: tuple[tuple[str, Path | RadserveError], ...]
    after: int | None


def is_archive(path: Path) -> bool:
    """Whether a file is a zip archive by its name or its beginning, and no DICOM file."""
    with path.open("rb") as file:
        beginning = file.read(132)
    return beginning[128:] != b"DICM" and (path.suffix.lower() == ".zip" or beginning.startswith(ZIP_MAGIC))


def unpack_some(path: Path, folder: Path, start: int, most_bytes: int, limits: DiscoveryLimits) -> Unpacked:
    """Write the members from number `start` on into `folder`, under names of ours, but for those that are refused.

    Refused is what `discover_archive` refuses, and a member of more than `most_bytes`. Raises StorageError.
    """
    members: list[tuple[str, Path | RadserveError]] = []
    size = 0
    for number, found in enumerate(discover_archive(path, "", limits)):
        if number < start:
            continue
        if size >= TURN_BYTES or len(members) >= TURN_FILES:
            return Unpacked(tuple(members), number)
        name = found.reference.removeprefix("!")
        if not isinstance(found, FoundFile):
            members.append((name, DicomError(found.code, found.message)))
            continue
        target = folder / f"{number}.dcm"
        try:
            size += _write(found, target, most_bytes)
            members.append((name, target))
        except DicomError as error:
            members.append((name, error))
        except OSError as error:
            raise storage_error(error) from None
    return Unpacked(tuple(members), None)


def _write(found: FoundFile, target: Path, most_bytes: int) -> int:
    size = 0
    with found.open() as member, target.open("wb") as file:
        while chunk := member.read(CHUNK_BYTES):
            size += len(chunk)
            if size > most_bytes:
                raise DicomError(ErrorCode.REQUEST_TOO_LARGE, f"the file has more than {most_bytes} bytes")
            file.write(chunk)
    return size
