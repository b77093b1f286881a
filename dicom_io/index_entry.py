"""What the index keeps of one instance, read from its file; and as a row of the table and back."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from radserve.dicom_io import attributes
from radserve.dicom_io.ends import check_whole, pixels_end
from radserve.dicom_io.index_schema import ACQUISITION_TEXTS, PATIENT_AND_STUDY
from radserve.dicom_io.parse import InstanceHeader, header_of
from radserve.dicom_io.part10 import DicomFile, open_dicom, quiet
from radserve.dicom_io.performed_steps import PerformedStep, steps_of
from radserve.dicom_io.plain import Elements
from radserve.references import AcquisitionContext, InstanceRef

ACQUISITION = (*ACQUISITION_TEXTS, "age_years", "series_number")
UIDS = tuple(each.name for each in fields(InstanceRef))


@dataclass(frozen=True, slots=True)
class PatientAndStudy:
    """Attributes that QIDO-RS answers with (PS3.18 10.6), as texts; "" where absent."""

    patient_id: str
    patient_name: str
    patient_birth_date: str
    accession_number: str
    study_id: str
    study_time: str
    referring_physician_name: str


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """An instance as the index knows it. `size` in bytes and `sha256` (hex) are those of the whole file.

    `pixel_sha256` is that of the value of its pixel element as it stands there, compressed or not; "" without one.
    `signed`: it carries digital signatures (PS3.3 C.12.1.1.3), which are not checked. `steps` are those of its series.
    """

    header: InstanceHeader
    patient_and_study: PatientAndStudy
    size: int
    sha256: str
    pixel_sha256: str = ""
    signed: bool = False
    steps: tuple[PerformedStep, ...] = ()


def read_entry(path: Path) -> IndexEntry:
    """Read an instance for the index. Raises as `parse_header`. Run it in a worker: files are hostile."""
    return _entry_of(open_dicom(path), path)


def read_received(path: Path) -> IndexEntry:
    """`read_entry` of an instance that is to be taken: one that does not end where an element does is refused.

    What is stored already is read without that condition: it stays known until its pixels are asked for.
    """
    file = open_dicom(path)
    check_whole(file)
    return _entry_of(file, path)


def _entry_of(file: DicomFile, path: Path) -> IndexEntry:
    with quiet():
        header = header_of(file)
        patient_and_study = patient_and_study_of(file.elements)
        steps = steps_of(file.elements)
    with path.open("rb") as data:
        digest = hashlib.file_digest(data, "sha256").hexdigest()
    signed = "MACParametersSequence" in file.elements  # 1C: there if there is a Digital Signatures Sequence
    return IndexEntry(header, patient_and_study, path.stat().st_size, digest, _pixel_sha256(file), signed, steps)


def patient_and_study_of(ds: Elements) -> PatientAndStudy:
    """What a data set says of its patient and its study."""
    return PatientAndStudy(
        patient_id=attributes.text(ds, "PatientID"),
        patient_name=_name(ds.get("PatientName")),
        patient_birth_date=attributes.text(ds, "PatientBirthDate"),
        accession_number=attributes.text(ds, "AccessionNumber"),
        study_id=attributes.text(ds, "StudyID"),
        study_time=attributes.text(ds, "StudyTime"),
        referring_physician_name=_name(ds.get("ReferringPhysicianName")),
    )


def row_of(entry: IndexEntry) -> dict[str, Any]:
    """The columns of an entry."""
    header = entry.header
    context = {name: getattr(header.context, name) for name in ACQUISITION}
    row = {
        **{name: getattr(header.instance, name) for name in UIDS},
        "transfer_syntax_uid": header.transfer_syntax_uid,
        **context,
        "instance_number": header.instance_number,
        "image_rows": header.rows,
        "image_columns": header.columns,
        "frames": header.frames,
        **{name: getattr(entry.patient_and_study, name) for name in PATIENT_AND_STUDY},
        "size": entry.size,
        "sha256": entry.sha256,
        "pixel_sha256": entry.pixel_sha256,
        "signed": int(entry.signed),
        "steps_read": 1,
    }
    return clean(row)


def step_rows(instance: InstanceRef, steps: Iterable[PerformedStep]) -> list[dict[str, Any]]:
    """The columns of the steps that an instance tells of its series."""
    uids = {name: getattr(instance, name) for name in ("study_instance_uid", "series_instance_uid")}
    return [clean({**uids, **asdict(step)}) for step in steps]


def clean(row: Mapping[str, Any]) -> dict[str, Any]:
    """Columns that every database takes: PostgreSQL takes neither NUL nor lone surrogates."""
    return {name: _clean(value) if isinstance(value, str) else value for name, value in row.items()}


def header_from(row: Mapping[str, Any]) -> InstanceHeader:
    """The header of a row."""
    return InstanceHeader(
        instance=InstanceRef(**{name: row[name] for name in UIDS}),
        transfer_syntax_uid=row["transfer_syntax_uid"],
        context=AcquisitionContext(**{name: row[name] for name in ACQUISITION}),
        rows=row["image_rows"],
        columns=row["image_columns"],
        frames=row["frames"],
        instance_number=row["instance_number"],
    )


def _pixel_sha256(file: DicomFile) -> str:
    if file.pixels is None:
        return ""
    with memoryview(file.data) as data, data[file.pixels.offset : pixels_end(file.data, file.pixels)] as pixels:
        return hashlib.sha256(pixels).hexdigest()


def _name(value: object) -> str:
    return "" if value is None else str(value).strip(" \0")[: attributes.TEXT_LENGTH]


def _clean(text: str) -> str:
    if text.isascii() and "\0" not in text:
        return text
    return text.replace("\0", " ").encode("utf-8", "replace").decode()
