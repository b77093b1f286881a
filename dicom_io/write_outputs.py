"""Which objects can be made from a result, of which modalities, and who gets them by default; and making them.

Defaults follow what was seen: viewers draw SR, SEG and Parametric Map, and go blank on a SEG of a radiograph; other
PACS workstations read presentation states, key objects, pictures and documents.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from pydicom.uid import (
    ColorSoftcopyPresentationStateStorage,
    ComprehensiveSRStorage,
    EncapsulatedPDFStorage,
    GrayscaleSoftcopyPresentationStateStorage,
    KeyObjectSelectionDocumentStorage,
    ParametricMapStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)

from radserve.dicom_io.write_base import OutputKind, image_of, positives
from radserve.dicom_io.write_gsps import write_gsps
from radserve.dicom_io.write_key_object import write_key_object
from radserve.dicom_io.write_parametric_map import has_map, write_parametric_map
from radserve.dicom_io.write_pdf import write_pdf
from radserve.dicom_io.write_planes import PLANE_MODALITIES, has_place
from radserve.dicom_io.write_secondary_capture import write_secondary_capture
from radserve.dicom_io.write_seg import has_segment, write_seg
from radserve.dicom_io.write_sr import write_sr
from radserve.findings import Finding
from radserve.image import Image
from radserve.results import Artifact, StudyResult

Writer = Callable[[StudyResult, Sequence[Image]], tuple[bytes, ...]]
MEDIA_TYPE = "application/dicom"


class DestinationRole(StrEnum):
    """What a destination is, for its default objects; a site may name others for each destination."""

    VIEWER = "viewer"
    PACS = "pacs"


@dataclass(frozen=True, slots=True)
class OutputType:
    """One kind of object. `modalities` are those of the source series that take it, None for all.

    `shows` says whether a positive finding has what the object is made of.
    """

    title: str
    sop_class_uids: tuple[str, ...]
    write: Writer
    modalities: frozenset[str] | None
    default_for: frozenset[DestinationRole]
    shows: Callable[[Finding], bool] = lambda finding: True


def _sr(result: StudyResult, images: Sequence[Image]) -> tuple[bytes, ...]:
    del images
    return (write_sr(result),)


_EVERYONE = frozenset(DestinationRole)
_PACS = frozenset((DestinationRole.PACS,))
OBJECTS = MappingProxyType(
    {
        OutputKind.SR: OutputType("Comprehensive SR (TID 1500)", (ComprehensiveSRStorage,), _sr, None, _EVERYONE),
        OutputKind.SEG: OutputType(
            "Segmentation (binary)", (SegmentationStorage,), write_seg, PLANE_MODALITIES, _EVERYONE, has_segment
        ),
        OutputKind.PARAMETRIC_MAP: OutputType(
            "Parametric Map",
            (ParametricMapStorage,),
            write_parametric_map,
            PLANE_MODALITIES,
            frozenset((DestinationRole.VIEWER,)),
            has_map,
        ),
        OutputKind.PRESENTATION_STATE: OutputType(
            "Softcopy Presentation State",
            (GrayscaleSoftcopyPresentationStateStorage, ColorSoftcopyPresentationStateStorage),
            write_gsps,
            None,
            _PACS,
        ),
        OutputKind.KEY_OBJECT: OutputType(
            "Key Object Selection", (KeyObjectSelectionDocumentStorage,), write_key_object, None, _PACS
        ),
        OutputKind.SECONDARY_CAPTURE: OutputType(
            "Secondary Capture", (SecondaryCaptureImageStorage,), write_secondary_capture, None, _EVERYONE
        ),
        OutputKind.PDF: OutputType("Encapsulated PDF", (EncapsulatedPDFStorage,), write_pdf, None, _PACS),
    }
)


def applicable(result: StudyResult, images: Sequence[Image], kinds: Iterable[OutputKind]) -> tuple[OutputKind, ...]:
    """Those of the kinds that fit the result, in the order of OBJECTS.

    For settings that name kinds for all studies. A kind that only some modalities take is left out unless a positive
    finding stands on one of them, and where such a finding's image has no place in the patient: a radiograph gets no
    SEG instead of an error.
    """
    wanted = set(kinds)
    on = [(finding, image_of(finding, images)) for finding in positives(result)]
    return tuple(kind for kind, each in OBJECTS.items() if kind in wanted and _fits(each, on))


def _fits(each: OutputType, found: Sequence[tuple[Finding, Image]]) -> bool:
    if each.modalities is None:
        return True
    shown = [image for finding, image in found if each.shows(finding)]
    taken = [image for image in shown if image.context.modality in each.modalities]
    return bool(taken) and all(has_place(image) for image in taken)


def default_kinds(role: DestinationRole) -> tuple[OutputKind, ...]:
    """The kinds that a destination of this role gets unless it says otherwise."""
    return tuple(kind for kind, each in OBJECTS.items() if role in each.default_for)


def write_outputs(result: StudyResult, images: Sequence[Image], kinds: Iterable[OutputKind]) -> tuple[Artifact, ...]:
    """Return the objects of the kinds, in the order of OBJECTS: sr.dcm, seg.dcm, seg-2.dcm ...

    Strict: a kind that the result's modalities do not take is refused (see `applicable`). `images` holds those that the
    findings stand on; others are not looked at. Same input, same bytes. Raises what the writers raise. It reads foreign
    headers: run it in a worker.
    """
    wanted = set(kinds)
    return tuple(
        Artifact(_file_name(kind, number), MEDIA_TYPE, data)
        for kind, each in OBJECTS.items()
        if kind in wanted
        for number, data in enumerate(each.write(result, images), start=1)
    )


def _file_name(kind: OutputKind, number: int) -> str:
    return f"{kind}.dcm" if number == 1 else f"{kind}-{number}.dcm"
