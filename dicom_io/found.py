"""What a search for input files gives, and its bounds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import BinaryIO

from radserve._checks import invalid
from radserve.errors import ErrorCode
from radserve.results import StudyFailure


@dataclass(frozen=True, slots=True)
class DiscoveryLimits:
    """Bounds of one search.

    `max_files` counts files and archive members. An archive may inflate to `max_archive_bytes`, and, once it does so to
    more than `free_inflation_bytes`, by no more than `max_ratio` times.
    """

    max_files: int = 200_000
    max_archive_bytes: int = 64 << 30
    free_inflation_bytes: int = 256 << 20
    max_ratio: float = 100.0
    max_dicomdir_bytes: int = 32 << 20

    def __post_init__(self) -> None:
        for name in ("max_files", "max_archive_bytes", "free_inflation_bytes", "max_ratio", "max_dicomdir_bytes"):
            if not getattr(self, name) > 0:
                raise invalid(f"DiscoveryLimits.{name}", getattr(self, name), "above 0")


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file that may be DICOM. `reference` is the caller's own name: "folder/a.dcm" or "x.zip!inner/a.dcm".

    `open` gives a new binary stream, to be closed by the caller. It and the stream raise DicomError where the file or
    the archive cannot be read.
    """

    reference: str
    open: Callable[[], BinaryIO] = field(repr=False)


def refusal(code: ErrorCode, message: str, reference: str) -> StudyFailure:
    """The failure of an input that cannot be taken."""
    return StudyFailure(code=code, message=message, reference=reference)
