"""Findings as arrays on the pixels of their frame, and the frame as a plane in the patient: for SEG and Parametric Map.

highdicom is given each frame as if it were a single-frame image of its own: the place comes from the decoded image, so
that enhanced multi-frame sources need no other way than single slices. Frame numbers are added to the references after.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from pydicom import Dataset
from pydicom.uid import CTImageStorage
from scipy.ndimage import map_coordinates

from radserve._checks import invalid
from radserve.dicom_io.place import pixel_spacing, planes
from radserve.dicom_io.write_base import reference
from radserve.errors import ErrorCode, GeometryError
from radserve.findings import HeatMap
from radserve.image import Image, PlanePosition
from radserve.uids import derive_uid

# Cross-sectional images with a place in the patient. A SEG of a radiograph makes a common viewer go blank.
PLANE_MODALITIES = frozenset(("CT", "MR"))
SAME_PLACE_MM = 1e-4
DERIVATION = "DerivationImageSequence"


def require_planes(what: str, sources: Sequence[Dataset]) -> None:
    """Raise RadserveError INVALID_ARGUMENT unless one source at least is of a modality that takes the object."""
    found = sorted({str(source.get("Modality") or "(none)") for source in sources})
    if not PLANE_MODALITIES.intersection(found):
        raise invalid(f"modality of a {what}", found, f"one of {sorted(PLANE_MODALITIES)}")


def lies_in_plane(source: Dataset) -> bool:
    """Whether a source is of a modality that takes SEG and Parametric Map."""
    return source.get("Modality") in PLANE_MODALITIES


def has_place(image: Image) -> bool:
    """Whether the frames of an image have a place in the patient and their pixels a size."""
    named = image.planes and all(plane.frame_of_reference_uid for plane in image.planes)
    return bool(named) and image.properties.pixel_spacing_mm is not None


@dataclass(frozen=True, slots=True)
class FramePlace:
    """Where a frame lies in the patient, how large its pixels are (row, column), how many (rows, columns)."""

    plane: PlanePosition
    spacing_mm: tuple[float, float]
    shape: tuple[int, int]


def image_place(image: Image, frame: int) -> FramePlace:
    """The place of a frame (counted from 1) of a decoded image.

    Raises GeometryError GEOMETRY_MISSING where position, orientation, pixel spacing or frame of reference is unknown;
    RadserveError INVALID_ARGUMENT for a frame that the image does not have.
    """
    if frame > image.frames:
        raise invalid("Region.frame", frame, f"1 to {image.frames}")
    plane = image.planes[frame - 1] if image.planes else None
    return _placed(plane, image.properties.pixel_spacing_mm, (image.array.shape[1], image.array.shape[2]))


def header_place(header: Dataset, frame: int) -> FramePlace:
    """The place of a frame by the whole kept header of its instance. Raises as `image_place`."""
    frames = int(header.get("NumberOfFrames") or 1)
    if frame > frames:
        raise invalid("SegmentMask.frames", frame, f"1 to {frames}")
    found = planes(header, frames)
    shape = int(header.get("Rows") or 0), int(header.get("Columns") or 0)
    return _placed(found[frame - 1] if found else None, pixel_spacing(header, frames), shape)


def _placed(plane: PlanePosition | None, spacing: tuple[float, float] | None, shape: tuple[int, int]) -> FramePlace:
    if plane is None or spacing is None or not plane.frame_of_reference_uid:
        problem = "the source has no ImagePositionPatient, ImageOrientationPatient, PixelSpacing or FrameOfReferenceUID"
        raise GeometryError(ErrorCode.GEOMETRY_MISSING, f"a finding cannot be placed in the patient: {problem}")
    return FramePlace(plane, spacing, shape)


def plane_of(source: Dataset, place: FramePlace, others: Sequence[PlanePosition]) -> Dataset:
    """A frame of a source as the header of a single-frame image at its place.

    `others`: planes of the same series, which tell the distance of slices.
    """
    plane, alone = place.plane, copy.deepcopy(source)
    alone.SOPClassUID = CTImageStorage  # highdicom looks up what a class has; `settle_frames` names the true one
    if "NumberOfFrames" in alone:
        del alone.NumberOfFrames
    alone.Rows, alone.Columns = place.shape
    alone.FrameOfReferenceUID = plane.frame_of_reference_uid
    alone.ImagePositionPatient = [_decimal(value) for value in plane.image_position_mm]
    alone.ImageOrientationPatient = [_decimal(value) for value in plane.image_orientation]
    alone.PixelSpacing = [_decimal(value) for value in place.spacing_mm]
    alone.PositionReferenceIndicator = ""
    if "SliceThickness" not in alone:
        alone.SliceThickness = _decimal(_thickness_mm(place, others))
    return alone


def planes_of_series(image: Image, images: Sequence[Image]) -> list[PlanePosition]:
    """The planes of all `images` of the series of one of them."""
    return [plane for each in images if each.instance.series == image.instance.series for plane in each.planes]


def _thickness_mm(place: FramePlace, others: Sequence[PlanePosition]) -> float:
    """What stands for a thickness that the source does not give, which SEG must (PS3.3 C.7.6.16.2.1).

    The distance to the nearest other plane; of a plane alone, the height of its pixels.
    """
    places = np.array([plane.image_position_mm for plane in others]).reshape(-1, 3)
    distances = np.linalg.norm(places - place.plane.image_position_mm, axis=1)
    apart = distances[distances > SAME_PLACE_MM]
    return float(apart.min()) if apart.size else place.spacing_mm[0]


def _decimal(value: float) -> str:
    """A number as a DS of at most 16 characters (PS3.5 6.2)."""
    return f"{value:.10g}" if len(f"{value:.10g}") <= 16 else f"{value:.8e}"


def settle_frames(
    ds: Dataset, sources: Mapping[str, Dataset], frames: Mapping[str, Sequence[tuple[int, PlanePosition]]]
) -> None:
    """Make the references of `ds` whole and its dimension UIDs the same on every run.

    References to multi-frame sources get their frame number; each instance is listed once. `frames` holds, by SOP
    Instance UID, the (frame number, plane) pairs that the object was made from.
    """
    dimensions = derive_uid("dimensions", ds.SOPInstanceUID)
    for item in (*ds.DimensionOrganizationSequence, *ds.DimensionIndexSequence):
        item.DimensionOrganizationUID = dimensions
    shared = ds.SharedFunctionalGroupsSequence[0]
    if len(ds.PerFrameFunctionalGroupsSequence) == 1:  # highdicom then invents a step of 1 mm
        shared.PixelMeasuresSequence[0].pop("SpacingBetweenSlices", None)
    for own in ds.PerFrameFunctionalGroupsSequence:
        placed, derived = (own if name in own else shared for name in ("PlanePositionSequence", DERIVATION))
        place = np.array(placed.PlanePositionSequence[0].ImagePositionPatient, dtype=float)
        for derivation in derived.get(DERIVATION, ()):
            for referenced in derivation.SourceImageSequence:
                uid = referenced.ReferencedSOPInstanceUID
                referenced.update(reference(sources[uid], _frame_at(place, frames[uid])))
    for series in ds.ReferencedSeriesSequence:
        once = {item.ReferencedSOPInstanceUID: item for item in series.ReferencedInstanceSequence}
        for uid, item in once.items():
            item.ReferencedSOPClassUID = sources[uid].SOPClassUID
        series.ReferencedInstanceSequence = list(once.values())


def _frame_at(place: npt.NDArray[np.float64], frames: Sequence[tuple[int, PlanePosition]]) -> int:
    for number, plane in frames:
        if np.abs(place - plane.image_position_mm).max() < SAME_PLACE_MM:
            return number
    raise GeometryError(ErrorCode.GEOMETRY_MISSING, f"no source frame lies at {place.tolist()} mm")


def mask_of(outline: npt.NDArray[np.float64], rows: int, columns: int) -> npt.NDArray[np.bool_]:
    """The pixels (rows, columns) whose centres lie within a closed outline of (column, row) corner coordinates.

    Even-odd rule. An outline that encloses no centre gives the one pixel that its middle lies in.
    """
    crossings = np.zeros((rows, columns + 1), dtype=np.int32)
    for (x0, y0), (x1, y1) in pairwise(outline):
        first, last = (int(np.clip(np.ceil(y - 0.5), 0, rows)) for y in sorted((y0, y1)))
        at = np.arange(first, last)
        if at.size:
            x = x0 + (at + 0.5 - y0) / (y1 - y0) * (x1 - x0)
            np.add.at(crossings, (at, np.clip(np.ceil(x - 0.5), 0, columns).astype(np.intp)), 1)
    mask = np.asarray(np.cumsum(crossings, axis=1)[:, :columns] % 2 == 1)
    if not mask.any():
        column, row = outline[:-1].mean(axis=0)
        mask[int(np.clip(row, 0, rows - 1)), int(np.clip(column, 0, columns - 1))] = True
    return mask


def heat_on_source(heat_map: HeatMap) -> npt.NDArray[np.float32]:
    """The heat map's own values on the pixels (rows, columns) of its source frame.

    Bilinear between the grid's points, constant up to half a cell beyond the outer ones, 0 outside.
    """
    rows, columns = heat_map.grid_to_source.source_shape
    pixels = np.moveaxis(np.indices((rows, columns)), 0, -1)
    grid = np.moveaxis(heat_map.grid_to_source.inverse().apply(pixels), -1, 0)
    values = map_coordinates(heat_map.values, grid, order=1, mode="nearest", output=np.float32)
    last = np.array(heat_map.values.shape)[:, None, None] - 0.5
    inside = ((grid >= -0.5 - 1e-9) & (grid <= last + 1e-9)).all(axis=0)
    return np.asarray(np.where(inside, values, np.float32(0)), dtype=np.float32)


def check_shape(heat_map: HeatMap, image: Image) -> None:
    """Raise RadserveError INVALID_ARGUMENT unless the heat map is of a frame as large as the image's."""
    expected, found = image.array.shape[1:], heat_map.grid_to_source.source_shape
    if tuple(found) != tuple(expected):
        raise invalid("HeatMap.grid_to_source.source_shape", found, f"{expected}, that of the image")
