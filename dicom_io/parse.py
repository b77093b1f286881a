"""Headers of image instances as values: the only place where DICOM attributes become radserve's own types."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydicom.uid import UID

from radserve.dicom_io import attributes
from radserve.dicom_io.header_bytes import header_bytes
from radserve.dicom_io.part10 import DicomFile, PixelElement, open_dicom, quiet
from radserve.dicom_io.plain import Elements
from radserve.errors import DicomError, ErrorCode
from radserve.references import AcquisitionContext, InstanceRef, SourceContext

# PS3.4 table B.5-1: single and multi-frame images that are a picture or a stack of slices.
IMAGE_STORAGE = frozenset(
    "1.2.840.10008.5.1.4.1.1." + tail
    for tail in (
        *("1", "1.1", "1.1.1", "1.2", "1.2.1", "1.3", "1.3.1"),  # CR, DX, mammography, intra-oral
        *("2", "2.1", "2.2", "4", "4.1", "4.3", "4.4"),  # CT, MR, enhanced and converted
        *("3.1", "6.1", "3", "6", "6.2"),  # ultrasound; 3 and 6 are retired
        *("7", "7.1", "7.2", "7.3", "7.4"),  # secondary capture: single, bit, grey byte, grey word, true colour
        *("12.1", "12.1.1", "12.2", "12.2.1", "12.3"),  # XA, RF
        *("13.1.1", "13.1.2", "13.1.3"),  # 3D X-ray, breast tomosynthesis
        *("20", "128", "128.1", "130", "30"),  # NM, PET, parametric map
        *("77.1.1", "77.1.2", "77.1.3", "77.1.4", "77.1.6"),  # endoscopy, microscopy, photographs, whole slides
        *("77.1.5.1", "77.1.5.2", "77.1.5.4"),  # ophthalmology
    )
)
# PS3.5 chapter 10 and PS3.6 table A-1: uncompressed and RLE; JPEG, JPEG-LS, JPEG 2000 and High-Throughput JPEG 2000.
TRANSFER_SYNTAXES = frozenset(
    "1.2.840.10008.1.2" + tail
    for tail in (
        *("", ".1", ".1.99", ".2", ".5"),
        *(".4.50", ".4.51", ".4.57", ".4.70", ".4.80", ".4.81", ".4.90", ".4.91", ".4.201", ".4.202", ".4.203"),
    )
)


@dataclass(frozen=True, slots=True)
class InstanceHeader:
    """What receiving and routing need to know of an instance. `frames` is at least 1."""

    instance: InstanceRef
    transfer_syntax_uid: str
    context: AcquisitionContext
    rows: int
    columns: int
    frames: int
    instance_number: int | None


def parse_header(path: Path) -> InstanceHeader:
    """Read the header of an image instance; the pixels are not looked at.

    Raises DicomError NOT_DICOM, TRUNCATED, INVALID_HEADER, UNSUPPORTED_SOP_CLASS, UNSUPPORTED_TRANSFER_SYNTAX,
    NO_PIXELS, PIXEL_BUDGET_EXCEEDED.
    """
    file = open_dicom(path)
    with quiet():
        return header_of(file)


def header_of(file: DicomFile) -> InstanceHeader:
    """The header of an opened file; see `parse_header`."""
    ds = file.elements
    _check_sop_class(file)
    instance = instance_ref(ds)
    pixel_element(file)
    return InstanceHeader(
        instance=instance,
        transfer_syntax_uid=file.transfer_syntax_uid,
        context=attributes.acquisition_context(ds),
        rows=attributes.integer(ds, "Rows", least=1),
        columns=attributes.integer(ds, "Columns", least=1),
        frames=attributes.integer(ds, "NumberOfFrames", default=1, least=1),
        instance_number=attributes.optional_integer(ds, "InstanceNumber"),
    )


def pixel_element(file: DicomFile) -> PixelElement:
    """The pixels of a file. Raises DicomError UNSUPPORTED_TRANSFER_SYNTAX, NO_PIXELS."""
    if file.transfer_syntax_uid not in TRANSFER_SYNTAXES:
        named = _named(file.transfer_syntax_uid)
        raise DicomError(ErrorCode.UNSUPPORTED_TRANSFER_SYNTAX, f"the transfer syntax {named} is not supported")
    if file.pixels is None:
        raise DicomError(ErrorCode.NO_PIXELS, "the instance has no pixel data")
    return file.pixels


def instance_ref(ds: Elements) -> InstanceRef:
    """The UIDs of an instance. Raises INVALID_HEADER with the keyword of the one that is missing or malformed."""
    return InstanceRef(
        study_instance_uid=attributes.uid(ds, "StudyInstanceUID"),
        series_instance_uid=attributes.uid(ds, "SeriesInstanceUID"),
        sop_instance_uid=attributes.uid(ds, "SOPInstanceUID"),
        sop_class_uid=attributes.uid(ds, "SOPClassUID"),
    )


def patient_key(path: Path) -> tuple[str, str, str]:
    """Patient ID, its issuer and the birth date, which together tell patients apart. Raises DicomError."""
    file = open_dicom(path)
    with quiet():
        known = [attributes.text(file.dataset, name) for name in ("PatientID", "IssuerOfPatientID", "PatientBirthDate")]
    return known[0], known[1], known[2]


def source_context(path: Path) -> SourceContext:
    """The header without pixels, icon, overlays and bulky private data, as Part 10 bytes in explicit VR little endian.

    Raises DicomError NOT_DICOM, TRUNCATED, PIXEL_BUDGET_EXCEEDED, INVALID_HEADER.
    """
    file = open_dicom(path)
    with quiet():
        return SourceContext(instance_ref(file.elements), header_bytes(file))


def _check_sop_class(file: DicomFile) -> None:
    """Refuse before anything else is asked of the object: an SR has no Rows, a DICOMDIR has no Study Instance UID."""
    in_meta = "SOPClassUID" not in file.elements and "MediaStorageSOPClassUID" in file.meta_elements
    keyword = "MediaStorageSOPClassUID" if in_meta else "SOPClassUID"
    found = attributes.uid(file.meta_elements if in_meta else file.elements, keyword)
    if found not in IMAGE_STORAGE:
        raise DicomError(ErrorCode.UNSUPPORTED_SOP_CLASS, f"the SOP class {_named(found)} is not an image we read")


def _named(uid: str) -> str:
    name = UID(uid).name
    return uid if name == uid else f"{uid} ({name})"
