"""Slices of a series as one volume in the patient, or a refusal that says what is wrong with them.

Tolerances. Direction cosines: 1e-3 in any component, which moves the far corner of a 500 mm image by half a millimetre;
headers carry about six decimals. Steps and tilt: 0.02 mm, twice what steps between positions rounded to 0.01 mm can
differ by, or 1 % of the step where that is more. Slices closer than 0.01 mm lie in one plane.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from radserve.dicom_io.decode import decode_images
from radserve.dicom_io.lookup import same_voi
from radserve.dicom_io.pixel_layout import DecodeLimits
from radserve.dicom_io.slices import decode_slices, images_of, stack_of
from radserve.errors import DicomError, ErrorCode, GeometryError, RadserveError
from radserve.geometry import FloatArray, VolumeGeometry
from radserve.image import Image, PixelProperties, PlanePosition, Provenance, Volume
from radserve.references import InstanceRef

ORIENTATION_TOLERANCE = 1e-3
SAME_PLANE_MM = 0.01
POSITION_TOLERANCE_MM = 0.02
STEP_TOLERANCE = 0.01


@dataclass(frozen=True, slots=True, eq=False)
class _Slice:
    """One frame with its place; `projection_mm` is that of its position on the normal, `frame` its source."""

    frame: tuple[InstanceRef, int]
    pixels: npt.NDArray[Any]
    plane: PlanePosition
    position_mm: FloatArray
    projection_mm: float


def decode_volume(paths: Sequence[Path], limits: DecodeLimits | None = None) -> Volume:
    """Decode the instances of one series and stack them. radserve.dicom_io.volume_reading does so in several workers.

    Slices that come in the order of their positions, or the other way round, are decoded straight into the volume.
    Half of `limits.max_total_bytes` is for the slices, half for the volume. Raises the error of the first slice that
    cannot be decoded (see `decode_image`), else GeometryError and DicomError as `assemble_volume`.
    """
    left = half_of(limits)
    if stack := stack_of(paths, left):
        block = np.empty(stack.shape, np.float32)
        if slices := decode_slices(stack.turned(paths), left, stack.differing, block):
            return assemble_volume(stack.turned(images_of(slices, block)), block)
    return assemble_volume(_only_images(decode_images(paths, left)))


def half_of(limits: DecodeLimits | None) -> DecodeLimits:
    """The limits of the slices of a volume: it takes as much again to stack them."""
    whole = limits or DecodeLimits()
    return replace(whole, max_total_bytes=max(whole.max_total_bytes // 2, 1))


def _only_images(found: Sequence[Image | RadserveError]) -> list[Image]:
    images: list[Image] = []
    for one in found:
        if isinstance(one, RadserveError):
            raise one
        images.append(one)
    return images


def assemble_volume(images: Sequence[Image], block: npt.NDArray[np.float32] | None = None) -> Volume:
    """Stack the frames of the images of one series, in any order, along the normal of their planes.

    Where they lie in `block` in the order of the volume already, that is the array; else it is a new one.

    The volume's slices follow the normal (row cosine x column cosine), so its affine is right-handed in the order
    (column, row, slice). Values are float32.

    Raises GeometryError GEOMETRY_MISSING (no position, orientation or pixel spacing, or fewer than two slices),
    GEOMETRY_MIXED_SIZE (rows, columns or spacing), GEOMETRY_MIXED_ORIENTATION (or frame of reference),
    GEOMETRY_DUPLICATE, GEOMETRY_TILT, GEOMETRY_GAP, and DicomError PIXELS_INCONSISTENT where the values of the images
    mean different things (MONOCHROME1 and MONOCHROME2, or two units).
    """
    spacing = _common_spacing(images)
    slices = _sorted_slices(images)
    step = _step(slices)
    first = slices[0]
    rows, columns = first.pixels.shape
    array = _stacked([part.pixels for part in slices], block)
    properties, warnings = _common_properties(images)
    geometry = VolumeGeometry(
        affine_lps=_affine(first, step, spacing),
        shape=(len(slices), rows, columns),
        frame_of_reference_uid=first.plane.frame_of_reference_uid,
    )
    return Volume(
        array=array,
        geometry=geometry,
        properties=properties,
        provenance=_provenance(images, len(slices), warnings),
        context=images[0].context,
        sources=tuple(image.source for image in images),
        slices=tuple(part.frame for part in slices),
    )


def _stacked(frames: Sequence[npt.NDArray[Any]], block: npt.NDArray[np.float32] | None) -> npt.NDArray[np.float32]:
    if block is not None and list(map(_address, frames)) == list(map(_address, block)):
        return block
    array = np.empty((len(frames), *frames[0].shape), np.float32)
    for place, frame in zip(array, frames, strict=True):
        place[...] = frame
    return array


def _address(array: npt.NDArray[Any]) -> int:
    return int(array.__array_interface__["data"][0])


def _refuse(code: ErrorCode, problem: str) -> GeometryError:
    return GeometryError(code, f"the slices do not form a volume: {problem}")


def _common_spacing(images: Sequence[Image]) -> tuple[float, float]:
    if not images or any(not image.planes for image in images):
        without = sum(not image.planes for image in images)
        problem = f"{without} of {len(images)} images have no ImageOrientationPatient or ImagePositionPatient"
        raise _refuse(ErrorCode.GEOMETRY_MISSING, problem)
    spacing = images[0].properties.pixel_spacing_mm
    if spacing is None:
        raise _refuse(ErrorCode.GEOMETRY_MISSING, "there is no PixelSpacing")
    shape = images[0].array.shape[1:]
    for image in images:
        if image.array.shape[1:] != shape:
            problem = f"one has {image.array.shape[1:]} rows and columns, another {shape}"
            raise _refuse(ErrorCode.GEOMETRY_MIXED_SIZE, problem)
        own = image.properties.pixel_spacing_mm
        if own != spacing and (own is None or not np.allclose(own, spacing, rtol=1e-4, atol=0)):
            raise _refuse(ErrorCode.GEOMETRY_MIXED_SIZE, f"one has the pixel spacing {own} mm, another {spacing} mm")
    return spacing


def _sorted_slices(images: Sequence[Image]) -> list[_Slice]:
    reference = images[0].planes[0]
    normal = _normal(reference)
    positions = np.array([plane.image_position_mm for image in images for plane in image.planes])
    places = zip(positions, (positions @ normal).tolist(), strict=True)
    slices = []
    for image in images:
        for number, (pixels, plane) in enumerate(zip(image.array, image.planes, strict=True), start=1):
            position, projection = next(places)
            if plane.frame_of_reference_uid != reference.frame_of_reference_uid:
                raise _refuse(ErrorCode.GEOMETRY_MIXED_ORIENTATION, "they have more than one frame of reference")
            if (difference := _difference(plane, reference)) > ORIENTATION_TOLERANCE:
                problem = f"their orientations differ by {difference:.4g} in a direction cosine"
                raise _refuse(ErrorCode.GEOMETRY_MIXED_ORIENTATION, problem)
            slices.append(_Slice((image.instance, number), pixels, plane, position, projection))
    if len(slices) < 2:
        raise _refuse(ErrorCode.GEOMETRY_MISSING, "there is one slice only, so the step between slices is unknown")
    return sorted(slices, key=lambda part: part.projection_mm)


def _difference(one: PlanePosition, other: PlanePosition) -> float:
    """The greatest difference in a direction cosine."""
    if one.image_orientation == other.image_orientation:
        return 0.0
    return float(np.abs(np.subtract(one.image_orientation, other.image_orientation)).max())


def _normal(plane: PlanePosition) -> FloatArray:
    row, column = np.array(plane.image_orientation).reshape(2, 3)
    lengths = np.linalg.norm(row), np.linalg.norm(column)
    if max(abs(lengths[0] - 1), abs(lengths[1] - 1), abs(row @ column)) > 10 * ORIENTATION_TOLERANCE:
        problem = "ImageOrientationPatient is not a pair of perpendicular unit vectors"
        raise _refuse(ErrorCode.GEOMETRY_MISSING, problem)
    normal = np.cross(row, column)
    return np.asarray(normal / np.linalg.norm(normal))


def _step(slices: Sequence[_Slice]) -> FloatArray:
    """The vector from a slice to the next, after all checks of the positions."""
    places = np.array([part.projection_mm for part in slices])
    steps = np.diff(places)
    if steps.min() < SAME_PLANE_MM:
        at = int(steps.argmin())
        shift = float(np.linalg.norm(slices[at + 1].position_mm - slices[at].position_mm))
        problem = f"slices {at + 1} and {at + 2} lie in one plane, at {places[at]:.2f} mm ({shift:.2f} mm apart in it)"
        raise _refuse(ErrorCode.GEOMETRY_DUPLICATE, problem)
    normal = _normal(slices[0].plane)
    vectors = np.array([part.position_mm for part in slices]) - slices[0].position_mm
    beside = np.linalg.norm(vectors - np.outer(vectors @ normal, normal), axis=1)
    usual = float(np.median(steps))
    tolerance = max(POSITION_TOLERANCE_MM, STEP_TOLERANCE * usual)
    if beside.max() > tolerance:
        degrees = np.degrees(np.arctan2(beside[-1], places[-1] - places[0]))
        problem = f"their positions leave the normal by {beside.max():.2f} mm (tilt {degrees:.2f} degrees)"
        raise _refuse(ErrorCode.GEOMETRY_TILT, problem)
    worst = int(np.abs(steps - usual).argmax())
    if abs(steps[worst] - usual) > tolerance:
        problem = (
            f"between slices {worst + 1} and {worst + 2}, at {places[worst]:.2f} mm, "
            f"the step is {steps[worst]:.2f} mm, elsewhere {usual:.2f} mm"
        )
        raise _refuse(ErrorCode.GEOMETRY_GAP, problem)
    return np.asarray((slices[-1].position_mm - slices[0].position_mm) / (len(slices) - 1))


def _affine(first: _Slice, step: FloatArray, spacing: tuple[float, float]) -> FloatArray:
    """PS3.3 C.7.6.2.1.1, equation C.7.6.2.1-1: the row index moves along the column cosine, and the other way round."""
    along_row, along_column = np.array(first.plane.image_orientation).reshape(2, 3)
    affine = np.eye(4)
    affine[:3, 0] = step
    affine[:3, 1] = along_column * spacing[0]
    affine[:3, 2] = along_row * spacing[1]
    affine[:3, 3] = first.position_mm
    return affine


def _common_properties(images: Sequence[Image]) -> tuple[PixelProperties, tuple[str, ...]]:
    """What holds for all slices, and a warning where their VOI transforms differ: then none is taken."""
    first = images[0].properties
    for name in ("photometric_interpretation", "units"):
        found = {getattr(image.properties, name) for image in images}
        if len(found) > 1:
            text = f"the slices have {len(found)} different values of {name.replace('_', ' ')}"
            raise DicomError(ErrorCode.PIXELS_INCONSISTENT, text)
    ranges = [image.properties.value_range for image in images]
    different = sum(not same_voi(image.properties.voi, first.voi) for image in images)
    common = replace(
        first,
        bits_stored=max(image.properties.bits_stored for image in images),
        value_range=(min(low for low, _ in ranges), max(high for _, high in ranges)),
        voi=None if different else first.voi,
    )
    text = f"{different} of {len(images)} slices have another VOI transform than the first; none is taken"
    return common, (text,) if different else ()


def _provenance(images: Sequence[Image], slices: int, warnings: tuple[str, ...]) -> Provenance:
    return Provenance(
        transfer_syntax_uid=images[0].provenance.transfer_syntax_uid,
        steps=(*images[0].provenance.steps, f"stacked {slices} slices along the normal"),
        warnings=tuple(dict.fromkeys((*(text for image in images for text in image.provenance.warnings), *warnings))),
    )
