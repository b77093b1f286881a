"""What routing rules ask of files: the values of any attributes, by keyword, as texts. Run it in a worker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset

from radserve._checks import invalid
from radserve.dicom_io import attributes
from radserve.dicom_io.parse import InstanceHeader, header_of
from radserve.dicom_io.part10 import open_dicom, quiet
from radserve.errors import RadserveError

MOST_VALUES = 64


@dataclass(frozen=True, slots=True)
class FileFacts:
    """The header of a file and the values of the attributes that were asked for; those that it lacks are left out."""

    header: InstanceHeader
    tags: Mapping[str, tuple[str, ...]]


def check_keywords(keywords: Sequence[str]) -> None:
    """Raise RadserveError INVALID_ARGUMENT for a keyword that the DICOM dictionary (PS3.6) does not have."""
    for keyword in keywords:
        if tag_for_keyword(keyword) is None:
            raise invalid("tag", keyword, "a keyword of the DICOM data dictionary (PS3.6)")


def read_facts(paths: Sequence[Path], keywords: Sequence[str]) -> list[FileFacts | RadserveError]:
    """Read the facts of files, errors as values. A sequence or bulk value counts as absent."""
    return [_read(path, keywords) for path in paths]


def _read(path: Path, keywords: Sequence[str]) -> FileFacts | RadserveError:
    try:
        file = open_dicom(path)
        with quiet():
            found = {keyword: _texts(file.dataset, keyword) for keyword in keywords}
            return FileFacts(header_of(file), {keyword: values for keyword, values in found.items() if values})
    except RadserveError as error:
        return error


def _texts(ds: Dataset, keyword: str) -> tuple[str, ...]:
    try:
        found = attributes.value(ds, keyword)
    except RadserveError:
        return ()
    values = found[:MOST_VALUES] if isinstance(found, list) else [found]
    if any(each is None or isinstance(each, bytes | Dataset) for each in values):
        return ()
    return tuple(str(each).strip(" \0")[: attributes.TEXT_LENGTH] for each in values)
