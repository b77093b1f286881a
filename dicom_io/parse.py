"""Headers of image instances as values: the only place where DICOM attributes become radserve's own types."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import UID, ExplicitVRLittleEndian

from radserve.dicom_io import attributes
from radserve.dicom_io.part10 import DicomFile, open_dicom, quiet
from radserve.errors import DicomError, ErrorCode
from radserve.references import AcquisitionContext, InstanceRef, SourceContext

# PS3.4 table B.5-1: single and multi-frame images that are a picture or a stack of slices.
IMAGE_STORAGE = frozenset(
    "1.2.840.10008.5.1.4.1.1." + tail
    for tail in (
        *("1", "1.1", "1.1.1", "1.2", "1.2.1", "1.3", "1.3.1"),  # CR, DX, mammography, intra-oral
        *("2", "2.1", "2.2", "4", "4.1", "4.3", "4.4"),  # CT, MR, enhanced and converted
        *("3.1", "6.1", "3", "6", "6.2"),  # ultrasound; 3 and 6 are retired
        *("7", "7.2", "7.3", "7.4"),  # secondary capture: single, grey byte, grey word, true colour
        *("12.1", "12.1.1", "12.2", "12.2.1", "12.3"),  # XA, RF
        *("13.1.1", "13.1.2", "13.1.3"),  # 3D X-ray, breast tomosynthesis
        *("20", "128", "128.1", "130"),  # NM, PET
    )
)
# PS3.5 chapter 10 and PS3.6 table A-1.
TRANSFER_SYNTAXES = frozenset(
    "1.2.840.10008.1.2" + tail
    for tail in ("", ".1", ".1.99", ".2", ".5", ".4.50", ".4.51", ".4.57", ".4.70", ".4.80", ".4.81", ".4.90", ".4.91")
)
PRIVATE_BULK_BYTES = 16 * 1024
ICON_IMAGE_SEQUENCE = 0x00880200
Element = DataElement | RawDataElement


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
    ds = file.dataset
    _check_sop_class(file)
    instance = instance_ref(ds)
    if file.transfer_syntax_uid not in TRANSFER_SYNTAXES:
        named = _named(file.transfer_syntax_uid)
        raise DicomError(ErrorCode.UNSUPPORTED_TRANSFER_SYNTAX, f"the transfer syntax {named} is not supported")
    if file.pixels is None:
        raise DicomError(ErrorCode.NO_PIXELS, "the instance has no pixel data")
    return InstanceHeader(
        instance=instance,
        transfer_syntax_uid=file.transfer_syntax_uid,
        context=attributes.acquisition_context(ds),
        rows=attributes.integer(ds, "Rows", least=1),
        columns=attributes.integer(ds, "Columns", least=1),
        frames=attributes.integer(ds, "NumberOfFrames", default=1, least=1),
        instance_number=attributes.optional_integer(ds, "InstanceNumber"),
    )


def instance_ref(ds: Dataset) -> InstanceRef:
    """The UIDs of an instance. Raises INVALID_HEADER with the keyword of the one that is missing or malformed."""
    return InstanceRef(
        study_instance_uid=attributes.uid(ds, "StudyInstanceUID"),
        series_instance_uid=attributes.uid(ds, "SeriesInstanceUID"),
        sop_instance_uid=attributes.uid(ds, "SOPInstanceUID"),
        sop_class_uid=attributes.uid(ds, "SOPClassUID"),
    )


def source_context(source: Path | Dataset) -> SourceContext:
    """The header without pixels, icon, overlays and bulky private data, as Part 10 bytes in explicit VR little endian.

    Raises DicomError as `parse_header` for a path, INVALID_HEADER for UIDs that are missing.
    """
    ds = source if isinstance(source, Dataset) else open_dicom(source).dataset
    with quiet():
        return SourceContext(instance_ref(ds), _part10(ds))


def _check_sop_class(file: DicomFile) -> None:
    """Refuse before anything else is asked of the object: an SR has no Rows, a DICOMDIR has no Study Instance UID."""
    in_meta = "SOPClassUID" not in file.dataset and "MediaStorageSOPClassUID" in file.meta
    keyword = "MediaStorageSOPClassUID" if in_meta else "SOPClassUID"
    found = attributes.uid(file.meta if in_meta else file.dataset, keyword)
    if found not in IMAGE_STORAGE:
        raise DicomError(ErrorCode.UNSUPPORTED_SOP_CLASS, f"the SOP class {_named(found)} is not an image we read")


def _named(uid: str) -> str:
    name = UID(uid).name
    return uid if name == uid else f"{uid} ({name})"


def _part10(ds: Dataset) -> bytes:
    header = _part_of(ds, [element for element in ds.values() if _is_kept(element)])
    try:
        return _encode(header)
    except MemoryError:
        raise
    except Exception:  # some value cannot be converted: do without it
        return _encode(_part_of(header, [one for one in header.values() if _is_convertible(_part_of(header, [one]))]))


def _is_kept(element: Element) -> bool:
    group = element.tag.group
    is_overlay_or_curve = group & 0xFF01 in (0x5000, 0x6000)
    if group < 8 or group >= 0x7FE0 or is_overlay_or_curve or element.tag == ICON_IMAGE_SEQUENCE:
        return False
    if not element.tag.is_private:
        return True
    return isinstance(element, RawDataElement) and element.length <= PRIVATE_BULK_BYTES


def _encode(header: Dataset) -> bytes:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = header.SOPClassUID
    meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.file_meta = meta
    buffer = io.BytesIO()
    dcmwrite(buffer, header, implicit_vr=False, little_endian=True, enforce_file_format=True)
    return buffer.getvalue()


def _is_convertible(alone: Dataset) -> bool:
    try:
        dcmwrite(io.BytesIO(), alone, implicit_vr=False, little_endian=True)
    except MemoryError:
        raise
    except Exception:  # pydicom has no common base
        return False
    return True


def _part_of(ds: Dataset, elements: list[Element]) -> Dataset:
    """A data set of some elements of `ds`, raw as they are: `Dataset.values` converts none, other access does."""
    part = Dataset({element.tag: element for element in elements})
    implicit, little = ds.original_encoding
    part.set_original_encoding(implicit, little, ds.original_character_set)
    return part
