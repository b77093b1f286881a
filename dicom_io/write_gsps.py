"""Findings as softcopy presentation states: outlines and labels over the source image, which stays as it is.

One state for each frame: the outlines of its positive findings with their labels or, where all findings of the frame
are negative, a line that says so. A state stands for the whole way to the screen (PS3.4 N.2): what it lacks is the
identity, so that modality LUT, VOI and polarity of the source are written too, as radserve itself shows the image.
Colour sources take a Color Softcopy Presentation State, grey ones a Grayscale one. Coordinates are those of Region:
(0, 0) is the corner of the first pixel (PS3.3 C.10.5.1.2).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from highdicom.color import CIELabColor
from PIL import ImageCms
from pydicom import Dataset
from pydicom.uid import ColorSoftcopyPresentationStateStorage, GrayscaleSoftcopyPresentationStateStorage
from pydicom.valuerep import format_number_as_ds

from radserve._checks import invalid
from radserve.dicom_io.overlay import OUTLINE_RGB
from radserve.dicom_io.part10 import quiet
from radserve.dicom_io.write_base import (
    CONTENT_LABEL,
    DRAFT,
    Identity,
    OutputKind,
    content_date,
    full_header,
    identify,
    image_of,
    join_study,
    negative_text,
    new_object,
    on_image,
    reference,
    source_contexts,
    sources_of,
    to_bytes,
)
from radserve.dicom_io.write_sr import texts_of
from radserve.findings import Finding
from radserve.image import Image
from radserve.presentation import default_window
from radserve.results import StudyResult
from radserve.voi import VoiLut

LAYER = "AI"
COLOUR = ("RGB", "PALETTE COLOR", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
SHORT_TEXT = 1024  # characters of VR ST
ICC_DATE = slice(24, 36)  # of the profile's header: when it was made (ICC.1 7.2)


def write_gsps(result: StudyResult, images: Sequence[Image]) -> tuple[bytes, ...]:
    """Return a presentation state as Part 10 bytes for each frame that a finding stands on.

    `images` holds the images of all findings. Raises RadserveError INVALID_ARGUMENT for an image, a frame or a source
    that is missing, DicomError INVALID_HEADER.
    """
    with quiet():
        sources = sources_of(result)
        headers = {uid: full_header(source) for uid, source in source_contexts(result).items()}
        frames: dict[tuple[str, int], list[Finding]] = {}
        for finding in result.findings:
            key = finding.region.instance.sop_instance_uid, finding.region.frame
            frames.setdefault(key, []).append(finding)
        return tuple(
            to_bytes(_state(result, found, image_of(found[0], images), sources[uid], headers[uid], number))
            for number, ((uid, _), found) in enumerate(frames.items(), start=1)
        )


def _state(
    result: StudyResult, found: Sequence[Finding], image: Image, source: Dataset, header: Dataset, number: int
) -> Dataset:
    frame = found[0].region.frame
    if frame > image.frames:
        raise invalid("Region.frame", frame, f"1 to {image.frames}")
    identity = identify(result, OutputKind.PRESENTATION_STATE, number)
    referenced = reference(source, frame)
    colour = header.get("PhotometricInterpretation") in COLOUR
    ds = _identified(identity, source, colour=colour)
    series = Dataset()
    series.SeriesInstanceUID, series.ReferencedImageSequence = source.SeriesInstanceUID, [referenced]
    ds.ReferencedSeriesSequence = [series]
    ds.GraphicLayerSequence = [_layer()]
    ds.GraphicAnnotationSequence = [_annotation(found, referenced)]
    ds.DisplayedAreaSelectionSequence = [_displayed_area(image, referenced)]
    if colour:
        ds.ICCProfile = _srgb_profile()
    else:
        _add_grey_pipeline(ds, image, header, frame)
    return join_study(ds, source, result.pack, identity.series_description, texts_of(result))


def _identified(identity: Identity, source: Dataset, *, colour: bool) -> Dataset:
    sop_class = ColorSoftcopyPresentationStateStorage if colour else GrayscaleSoftcopyPresentationStateStorage
    ds = new_object(sop_class, "PR", identity)
    ds.ContentLabel, ds.ContentDescription, ds.ContentCreatorName = CONTENT_LABEL, f"Findings: {DRAFT}", ""
    ds.Laterality = ""  # type 2C of General Series: not known here
    ds.PresentationCreationDate, ds.PresentationCreationTime = content_date(source)
    return ds


def _layer() -> Dataset:
    layer = Dataset()
    layer.GraphicLayer, layer.GraphicLayerOrder, layer.GraphicLayerDescription = LAYER, 1, DRAFT
    layer.GraphicLayerRecommendedDisplayCIELabValue = list(CIELabColor.from_rgb(*OUTLINE_RGB).value)
    return layer


def _annotation(found: Sequence[Finding], referenced: Dataset) -> Dataset:
    positive = [finding for finding in found if finding.positive]
    item = Dataset()
    item.ReferencedImageSequence, item.GraphicLayer = [referenced], LAYER
    outlined = [(finding, finding.region.outline) for finding in positive if finding.region.outline is not None]
    texts = [_anchored(f"AI draft: {on_image(finding)}", outline) for finding, outline in outlined]
    without = [finding for finding in positive if finding.region.outline is None]
    if without or not positive:
        words = ", ".join(map(on_image, without)) or negative_text(found)
        texts.append(_boxed(f"{DRAFT}: {words}"))
    item.TextObjectSequence = texts
    if outlined:
        item.GraphicObjectSequence = [_outline(finding, outline) for finding, outline in outlined]
    return item


def _outline(finding: Finding, points: npt.NDArray[np.float64]) -> Dataset:
    item = Dataset()
    item.GraphicAnnotationUnits, item.GraphicDimensions, item.NumberOfGraphicPoints = "PIXEL", 2, len(points)
    item.GraphicData = [float(value) for value in points.ravel()]
    item.GraphicType, item.GraphicFilled = "POLYLINE", "N"
    item.TrackingID, item.TrackingUID = finding.tracking_identifier, finding.tracking_uid
    return item


def _anchored(text: str, outline: npt.NDArray[np.float64]) -> Dataset:
    """A text beside the top of the outline."""
    top = outline[outline[:, 1].argmin()]
    item = Dataset()
    item.UnformattedTextValue = text[:SHORT_TEXT]
    item.AnchorPointAnnotationUnits, item.AnchorPoint = "PIXEL", [float(top[0]), float(top[1])]
    item.AnchorPointVisibility = "N"
    return item


def _boxed(text: str) -> Dataset:
    """A text at the top of the displayed area."""
    item = Dataset()
    item.UnformattedTextValue = text[:SHORT_TEXT]
    item.BoundingBoxAnnotationUnits = "DISPLAY"
    item.BoundingBoxTopLeftHandCorner, item.BoundingBoxBottomRightHandCorner = [0.0, 0.0], [1.0, 0.08]
    item.BoundingBoxTextHorizontalJustification = "LEFT"
    return item


def _displayed_area(image: Image, referenced: Dataset) -> Dataset:
    rows, columns = image.array.shape[1:]
    item = Dataset()
    item.ReferencedImageSequence = [referenced]
    item.DisplayedAreaTopLeftHandCorner, item.DisplayedAreaBottomRightHandCorner = [1, 1], [columns, rows]
    item.PresentationSizeMode = "SCALE TO FIT"
    if spacing := image.properties.pixel_spacing_mm:
        item.PresentationPixelSpacing = [_decimal(value) for value in spacing]
    else:
        item.PresentationPixelAspectRatio = [1, 1]
    return item


def _add_grey_pipeline(ds: Dataset, image: Image, header: Dataset, frame: int) -> None:
    rescale = _rescale_of(header, frame)
    if "ModalityLUTSequence" in rescale:
        ds.ModalityLUTSequence = rescale.ModalityLUTSequence
    elif "RescaleSlope" in rescale and "RescaleIntercept" in rescale:
        ds.RescaleIntercept, ds.RescaleSlope = rescale.RescaleIntercept, rescale.RescaleSlope
        ds.RescaleType = rescale.get("RescaleType") or "US"  # US: unspecified
    ds.SoftcopyVOILUTSequence = [_voi(image, frame)]
    inverted = image.properties.photometric_interpretation == "MONOCHROME1"
    ds.PresentationLUTShape = "INVERSE" if inverted else "IDENTITY"


def _rescale_of(header: Dataset, frame: int) -> Dataset:
    """What holds the modality LUT of a frame: its functional group in an enhanced object, else the header itself."""
    groups: list[Any] = list(header.get("PerFrameFunctionalGroupsSequence") or [])[frame - 1 : frame]
    for group in (*groups, *(header.get("SharedFunctionalGroupsSequence") or ())):
        if values := group.get("PixelValueTransformationSequence"):
            return Dataset(values[0])
    return header


def _voi(image: Image, frame: int) -> Dataset:
    voi = image.properties.voi or default_window(image.array[frame - 1], image.properties)
    item = Dataset()
    if isinstance(voi, VoiLut):
        lut = Dataset()
        count, signed = len(voi.table) % (1 << 16), voi.first_value < 0  # 2**16 entries are written as 0
        count -= (1 << 16) if signed and count >= 1 << 15 else 0  # as a signed value it has the same bits
        lut.add_new("LUTDescriptor", "SS" if signed else "US", [count, voi.first_value, 16])
        levels = np.rint(np.minimum(voi.table / ((1 << voi.bits) - 1), 1.0) * 0xFFFF)  # 8 or 16 bits are allowed here
        lut.add_new("LUTData", "OW", levels.astype("<u2").tobytes())
        item.VOILUTSequence = [lut]
        return item
    item.WindowCenter, item.WindowWidth = _decimal(voi.center), _decimal(voi.width)
    item.VOILUTFunction = str(voi.function)
    return item


def _decimal(value: float) -> str:
    return format_number_as_ds(float(value))


def _srgb_profile() -> bytes:
    """The sRGB profile without the time at which it was made."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    profile[ICC_DATE] = bytes(ICC_DATE.stop - ICC_DATE.start)
    return bytes(profile + b"\0" * (len(profile) % 2))
