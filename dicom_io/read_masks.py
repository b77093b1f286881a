"""Segmentations as named masks on a grid: of a DICOM SEG, or of a NIfTI label map.

The masks are voxels, not outlines (`annotations_seg` has those). For tools that measure; the service reads no NIfTI.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import Dataset, dcmread
from scipy.ndimage import find_objects

from radserve.dicom_io.annotations_seg import BACKGROUND, LABEL_MAP, SEGMENTATION
from radserve.dicom_io.part10 import quiet
from radserve.dicom_io.write_seg import LABEL_PREFIX
from radserve.errors import DicomError, ErrorCode, GeometryError, RadserveError
from radserve.geometry import VolumeGeometry
from radserve.segments import MaskBlock, SegmentedVolume, union

NIFTI_SUFFIXES = (".nii", ".nii.gz")
HALF = 0.5
MOST = 65535  # of the values of a label map
NOWHERE = MaskBlock((0, 0, 0), np.zeros((0, 0, 0), np.bool_))
Names = Mapping[str, str]  # of a segment's label or a voxel's value, to the name of the structure


def read_masks(path: Path, names: Names | None = None) -> SegmentedVolume:
    """Read a DICOM SEG (binary, fractional from one half on, label map) or a NIfTI label map (.nii, .nii.gz).

    `names` maps values of a label map to structures, what is not in it is left out; and labels of segments, which keep
    their own where it does not. Several may make one structure. Without it a label map is refused: its numbers mean
    nothing.

    Raises DicomError NOT_DICOM, UNSUPPORTED_SOP_CLASS, INVALID_HEADER; GeometryError GEOMETRY_MISSING for segments that
    do not lie on a regular grid in the patient; RadserveError INVALID_ARGUMENT for a file or `names` of no use.
    """
    if not path.is_file():
        raise _refusal(f"{path.name!r} is not a file")
    if path.name.lower().endswith(NIFTI_SUFFIXES):
        return _nifti(path, names)
    with quiet():
        return _seg(path, names)


def _seg(path: Path, names: Names | None) -> SegmentedVolume:
    from highdicom.seg import Segmentation

    try:
        document = dcmread(path)
    except Exception as error:  # pydicom has no common base; its texts may quote values
        message = f"{path.name!r} is neither DICOM nor .nii or .nii.gz ({type(error).__name__})"
        raise DicomError(ErrorCode.NOT_DICOM, message) from None
    if document.get("SOPClassUID") not in (SEGMENTATION, LABEL_MAP):
        raise DicomError(ErrorCode.UNSUPPORTED_SOP_CLASS, f"{path.name!r} is no segmentation")
    try:
        segmentation = Segmentation.from_dataset(document, copy=False)
        wanted = dict(_structures(document, names))
    except Exception as error:
        message = f"the segments of {path.name!r} cannot be read ({type(error).__name__})"
        raise DicomError(ErrorCode.INVALID_HEADER, message) from None
    masks: dict[str, MaskBlock] = {}
    geometry = None
    for number, structure in wanted.items():
        try:
            volume = segmentation.get_volume(segment_numbers=[number], allow_missing_positions=True)
        except Exception as error:
            message = f"the segments of {path.name!r} do not lie on a regular grid in the patient"
            detail = f"{message}: {type(error).__name__}"
            raise GeometryError(ErrorCode.GEOMETRY_MISSING, message, detail=detail) from None
        mask = MaskBlock.of(volume.array[..., 0] >= HALF)
        masks[structure] = union(masks[structure], mask) if structure in masks else mask
        geometry = _geometry(np.array(volume.affine), volume.array.shape)
    if geometry is None:
        raise _refusal(f"{path.name!r} has no segment")
    return SegmentedVolume(geometry, masks)


def _structures(document: Dataset, names: Names | None) -> Iterator[tuple[int, str]]:
    """The number and the structure of each segment."""
    for segment in document.SegmentSequence:
        if segment.SegmentNumber != BACKGROUND:  # a label map has it
            label = str(segment.SegmentLabel).removeprefix(LABEL_PREFIX)
            yield int(segment.SegmentNumber), (names or {}).get(label, label)


def _nifti(path: Path, names: Names | None) -> SegmentedVolume:
    if names is None:
        raise _refusal(f"{path.name!r} is a label map: its values need names")
    values, affine_ras = _label_map(path)
    masks: dict[str, MaskBlock] = {}
    boxes = find_objects(values)
    for text, structure in names.items():
        if not text.isascii() or not text.isdigit():
            continue  # the label of a segment, for other files
        value = int(text)
        box = boxes[value - 1] if 0 < value <= len(boxes) else None
        mask = _value(values, value, box) if box else NOWHERE
        masks[structure] = union(masks[structure], mask) if structure in masks else mask
    if not masks:
        raise _refusal(f"{path.name!r} is a label map, and no whole number was given a name")
    # NIfTI counts its world to the right, front and head; DICOM to the left, back and head.
    affine_lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine_ras
    return SegmentedVolume(_geometry(affine_lps, values.shape), masks)


def _value(values: npt.NDArray[Any], value: int, box: tuple[slice, ...]) -> MaskBlock:
    return MaskBlock((box[0].start, box[1].start, box[2].start), values[box] == value)


def _geometry(affine_lps: npt.NDArray[np.float64], shape: tuple[int, ...]) -> VolumeGeometry:
    return VolumeGeometry(affine_lps, (shape[0], shape[1], shape[2]))


def _label_map(path: Path) -> tuple[npt.NDArray[Any], npt.NDArray[np.float64]]:
    try:
        import nibabel
    except ImportError as error:
        raise _refusal("NIfTI needs the package nibabel: pip install 'radserve[train]'") from error
    try:
        image: Any = nibabel.load(path)
        values, affine = np.asarray(image.dataobj), np.array(image.affine, dtype=np.float64)
        header = image.header
    except Exception as error:  # zlib's, nibabel's and the system's
        raise _refusal(f"{path.name!r} cannot be read as NIfTI ({type(error).__name__})") from None
    if int(header["sform_code"]) == 0 and int(header["qform_code"]) == 0:
        message = f"{path.name!r} does not say where its voxels are in the patient (sform and qform code 0)"
        raise GeometryError(ErrorCode.GEOMETRY_MISSING, message)
    if values.ndim != 3:
        raise _refusal(f"{path.name!r} has {values.ndim} axes, expected 3")
    if not np.array_equal(values, np.rint(values)) or (values.size and not 0 <= values.min() <= values.max() <= MOST):
        raise _refusal(f"{path.name!r} has values that are no whole numbers from 0 to {MOST}: not a label map")
    return values.astype(np.int32), affine


def _refusal(message: str) -> RadserveError:
    return RadserveError(ErrorCode.INVALID_ARGUMENT, message)
