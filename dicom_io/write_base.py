"""What all result objects have in common: their series, their UIDs, whose study they join, and how they are marked.

Same result, same bytes: UIDs are derived, Content Date and Time are those of the study (of 1 January 1970 where it has
none), other times of the run are left out. Every object says in words that it is an AI draft that no one has verified.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from radserve._checks import invalid
from radserve.dicom_io.derived import COPIED, source_dataset
from radserve.dicom_io.write_sr import FALLBACK_DATE, FALLBACK_TIME, MANUFACTURER, character_set
from radserve.errors import DicomError, ErrorCode
from radserve.findings import Finding
from radserve.image import Image
from radserve.references import SourceContext
from radserve.results import PackRef, StudyResult
from radserve.uids import derive_uid

DRAFT = "AI draft, not verified"
NEGATIVE = "No finding above threshold"
NEAREST = 3  # labels that a negative result names
CONTENT_LABEL = "AI_DRAFT"  # CS: upper case, no spaces
LONG_STRING = 64  # characters of VR LO
RUN_TIMES = ("InstanceCreationDate", "InstanceCreationTime", "ContributingEquipmentSequence")  # type 3, of the run


class OutputKind(StrEnum):
    """The DICOM objects that can be made from a result."""

    SR = "sr"
    SEG = "seg"
    PARAMETRIC_MAP = "pmap"
    PRESENTATION_STATE = "gsps"
    KEY_OBJECT = "ko"
    SECONDARY_CAPTURE = "sc"
    PDF = "pdf"


# Series numbers far from those of devices; 9901 is that of the SR. Each kind has a series of its own (PS3.3 A.1.3).
SERIES = {
    OutputKind.SEG: (9902, f"Segmentation: {DRAFT}"),
    OutputKind.PARAMETRIC_MAP: (9903, f"Heat map: {DRAFT}"),
    OutputKind.PRESENTATION_STATE: (9904, f"Outlines: {DRAFT}"),
    OutputKind.KEY_OBJECT: (9905, f"Key images: {DRAFT}"),
    OutputKind.SECONDARY_CAPTURE: (9906, f"Pictures: {DRAFT}"),
    OutputKind.PDF: (9907, f"Report: {DRAFT}"),
}


@dataclass(frozen=True, slots=True)
class Identity:
    """The UIDs of one object and its number in its series."""

    kind: OutputKind
    series_instance_uid: str
    sop_instance_uid: str
    instance_number: int

    @property
    def series_number(self) -> int:
        return SERIES[self.kind][0]

    @property
    def series_description(self) -> str:
        return SERIES[self.kind][1]


def origin_of(identity: Identity, pack: PackRef) -> dict[str, Any]:
    """The identity and the equipment of an object, as highdicom's classes take them."""
    return {
        "series_instance_uid": identity.series_instance_uid,
        "series_number": identity.series_number,
        "sop_instance_uid": identity.sop_instance_uid,
        "instance_number": identity.instance_number,
        "manufacturer": MANUFACTURER,
        "manufacturer_model_name": pack.name[:LONG_STRING],
        "software_versions": pack.version[:LONG_STRING],
        "device_serial_number": pack.digest[:LONG_STRING],
    }


def identify(result: StudyResult, kind: OutputKind, number: int = 1, *, of_series: str = "") -> Identity:
    """The identity of the `number`th object of a kind: of the study, the pack's digest, the sources and the revision.

    `of_series` is the source series whose frame of reference the object shares: it then has a series of its own, as
    all instances of a series share one frame of reference (PS3.3 A.1.2.5).
    """
    names = (result.study_instance_uid, result.pack.digest, of_series)
    series_uid = derive_uid(f"{kind} series", *names)
    return Identity(kind, series_uid, derive_uid(kind, *names, str(number), *result.uid_parts), number)


def sources_of(result: StudyResult) -> dict[str, Dataset]:
    """The clean headers (see derived.source_dataset) of the instances that findings stand on, by SOP Instance UID.

    Those alone: a series may have hundreds of others. Raises RadserveError INVALID_ARGUMENT where a finding points to
    an instance that is no source, DicomError INVALID_HEADER.
    """
    return {uid: source_dataset(source) for uid, source in source_contexts(result).items()}


def source_contexts(result: StudyResult) -> dict[str, SourceContext]:
    """The sources that findings stand on, by SOP Instance UID. Raises as `sources_of` where one is missing."""
    wanted = {finding.region.instance.sop_instance_uid for finding in result.findings}
    found = {source.instance.sop_instance_uid: source for source in result.sources}
    if missing := wanted - set(found):
        raise invalid("StudyResult.sources", f"none for {sorted(missing)}", "the instance of every region")
    return {uid: source for uid, source in found.items() if uid in wanted}


def full_header(source: SourceContext) -> Dataset:
    """The whole kept header of a source. Raises DicomError INVALID_HEADER."""
    try:
        return dcmread(io.BytesIO(source.header))
    except Exception as error:  # pydicom has no common base
        problem = f"the kept header of a source cannot be read ({type(error).__name__})"
        raise DicomError(ErrorCode.INVALID_HEADER, problem) from None


def image_of(finding: Finding, images: Sequence[Image]) -> Image:
    """The image that a finding stands on. Raises RadserveError INVALID_ARGUMENT where it was not handed in."""
    for image in images:
        if image.instance == finding.region.instance:
            return image
    raise invalid("images", f"none of instance {finding.region.instance.sop_instance_uid}", "one for every finding")


def positives(result: StudyResult) -> tuple[Finding, ...]:
    """The findings at or above their threshold."""
    return tuple(finding for finding in result.findings if finding.positive)


def on_image(finding: Finding) -> str:
    """A finding in a few words, for people: its label and probability."""
    return f"{finding.label} {finding.probability:.0%}"


def negative_text(findings: Sequence[Finding]) -> str:
    """The words of a negative result, with the labels that came nearest."""
    nearest = sorted(findings, key=lambda finding: (-finding.probability, finding.label))[:NEAREST]
    return f"{NEGATIVE} ({', '.join(map(on_image, nearest))})"


def new_object(sop_class_uid: str, modality: str, identity: Identity) -> Dataset:
    """An empty object of a series of ours; `join_study` completes it."""
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = sop_class_uid, identity.sop_instance_uid
    ds.Modality, ds.SeriesInstanceUID = modality, identity.series_instance_uid
    ds.SeriesNumber, ds.InstanceNumber = identity.series_number, identity.instance_number
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return ds


def join_study(ds: Dataset, source: Dataset, pack: PackRef, description: str, texts: Sequence[str]) -> Dataset:
    """Give `ds` the patient and study of a clean source header, our equipment, the study's date; return it.

    The source's character set is kept where the `texts` that the object quotes allow it, else it is UTF-8.
    """
    for keyword in COPIED:
        if keyword in source:
            ds[keyword] = source[keyword]
        elif keyword in ds:
            del ds[keyword]
    ds.StudyInstanceUID = source.StudyInstanceUID
    ds.Manufacturer, ds.ManufacturerModelName = MANUFACTURER, pack.name[:LONG_STRING]
    ds.SoftwareVersions = pack.version[:LONG_STRING]
    ds.DeviceSerialNumber = pack.digest[:LONG_STRING]  # type 1 of Enhanced General Equipment: what made it, exactly
    ds.SeriesDescription = description
    if "ContentDate" in ds:  # presentation states have a creation date instead
        ds.ContentDate, ds.ContentTime = content_date(source)
    for keyword in RUN_TIMES:
        if keyword in ds:
            del ds[keyword]
    if kept := character_set(source, texts):
        ds.SpecificCharacterSet = kept
    elif "SpecificCharacterSet" in ds:
        del ds.SpecificCharacterSet
    return ds


def content_date(source: Dataset) -> tuple[Any, Any]:
    """Date and time of the study, which stand for those of the content."""
    return source.StudyDate or FALLBACK_DATE, (source.StudyTime or FALLBACK_TIME) if source.StudyDate else FALLBACK_TIME


def reference(source: Dataset, frame: int | None = None) -> Dataset:
    """A reference to an instance; with its frame number only where it has several (PS3.3 10.3)."""
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = source.SOPClassUID, source.SOPInstanceUID
    if frame is not None and int(source.get("NumberOfFrames") or 1) > 1:
        item.ReferencedFrameNumber = frame
    return item


def to_bytes(ds: Dataset) -> bytes:
    """The object as Part 10 bytes, Explicit VR Little Endian."""
    out = io.BytesIO()
    ds.save_as(out, enforce_file_format=True, implicit_vr=False, little_endian=True)
    return out.getvalue()
