"""From the probabilities of a segmentation to pixels of the source: masks, outlines, volumes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from contourpy import contour_generator
from scipy.ndimage import affine_transform
from scipy.ndimage import label as connected

from radserve.findings import CodedConcept, Measurement, SegmentMask
from radserve.geometry import SpatialTransform
from radserve.models.pack_types import MaskScoring
from radserve.pipelines.scoring import EncodedFrame, mask_probabilities
from radserve.references import InstanceRef

INSIDE = 0.5
"""A pixel belongs to the segment where its probability is above this."""

VOLUME = CodedConcept("118565006", "SCT", "Volume")
MILLILITRE = CodedConcept("ml", "UCUM", "Milliliter")
FloatArray = npt.NDArray[np.float32]
FloatMatrix = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class _Block:
    """A part of the source grid: its first indices and whether each of its pixels is inside, bool."""

    start: tuple[int, ...]
    inside: npt.NDArray[np.bool_]


def segment_frame(
    scoring: MaskScoring, frame: EncodedFrame
) -> tuple[npt.NDArray[np.float64] | None, SegmentMask | None]:
    """The outline of the largest part and the mask of a segmented frame; None and None where no pixel is inside."""
    probabilities = mask_probabilities(scoring, frame.outputs)
    block = _on_source(probabilities, frame.transform)
    if block is None:
        return None, None
    shape = (frame.transform.source_shape[0], frame.transform.source_shape[1])
    frames = ((frame.instance, frame.frame),)
    mask = SegmentMask(frames, block.inside[np.newaxis], block.start[0], block.start[1], shape)
    return outline_of(mask.frame(0)), mask


def segment_volume(
    probabilities: FloatArray, transform: SpatialTransform, slices: Sequence[tuple[InstanceRef, int]]
) -> SegmentMask | None:
    """The mask of a segmented volume (slices, rows, columns) on its source slices; None where no voxel is inside.

    `slices` names the source frame of each slice of the volume.
    """
    block = _on_source(probabilities, transform)
    if block is None:
        return None
    first, top, left = block.start
    used = np.flatnonzero(block.inside.any(axis=(1, 2)))
    frames = tuple(slices[first + index] for index in used.tolist())
    shape = (transform.source_shape[1], transform.source_shape[2])
    mask = SegmentMask(frames, block.inside[used], top, left, shape)
    return replace(mask, key_probabilities=_of_slice(probabilities, transform, first + int(used[mask.key_frame])))


def probabilities_on_source(probabilities: FloatArray, transform: SpatialTransform) -> FloatArray:
    """The probabilities of a segmentation at every pixel or voxel of its source, 0 beyond its grid."""
    to_source = _grid_to_source(probabilities, transform)
    start = np.zeros(len(to_source.source_shape), int)
    return _sampled(probabilities, to_source.inverse().matrix, start, to_source.source_shape)


def _of_slice(probabilities: FloatArray, transform: SpatialTransform, at: int) -> FloatArray:
    to_source = _grid_to_source(probabilities, transform)
    start, shape = np.array([at, 0, 0]), (1, *to_source.source_shape[1:])
    return np.asarray(_sampled(probabilities, to_source.inverse().matrix, start, shape)[0])


def _grid_to_source(probabilities: FloatArray, transform: SpatialTransform) -> SpatialTransform:
    """A segmentation may be coarser than the prepared array: its grid then spans the same place."""
    return transform.then(SpatialTransform.resize(transform.prepared_shape, probabilities.shape))


def volume_of(mask: SegmentMask, voxel_mm3: float) -> Measurement:
    """The volume of a mask in ml, its voxels counted."""
    return Measurement(VOLUME, float(np.count_nonzero(mask.array)) * voxel_mm3 / 1000, MILLILITRE)


def outline_of(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64] | None:
    """The closed outline (points, 2) of the largest connected part of `mask` (rows, columns), as Region has it.

    It runs half-way between the centres of pixels inside and outside. None for an empty mask.
    """
    parts, count = connected(mask)
    if not count:
        return None
    largest = 1 + int(np.bincount(parts.ravel())[1:].argmax())
    padded = np.pad((parts == largest).astype(np.float64), 1)
    lines = contour_generator(z=padded).lines(INSIDE)
    line = max((np.asarray(each) for each in lines), key=_area)  # holes have smaller outlines of their own
    # Back from the padding, then from pixel centres to the corner origin.
    return np.asarray(np.round(np.vstack([line[:-1], line[:1]]) - 1 + 0.5, 3))


def _on_source(probabilities: FloatArray, transform: SpatialTransform) -> _Block | None:
    """Sample the probabilities, linearly, at the source pixels near what is inside; beyond the grid all is outside."""
    to_source = _grid_to_source(probabilities, transform)
    there = np.argwhere(probabilities > INSIDE)
    if not len(there):
        return None
    low, high = there.min(axis=0) - 1, there.max(axis=0) + 1
    corners = np.stack(np.meshgrid(*zip(low, high, strict=True), indexing="ij"), axis=-1).reshape(-1, len(low))
    reach = to_source.apply(corners)
    start = np.clip(np.floor(reach.min(axis=0)), 0, None).astype(int)
    stop = np.minimum(np.ceil(reach.max(axis=0)).astype(int) + 1, to_source.source_shape)
    if (stop <= start).any():
        return None
    inside = _sampled(probabilities, to_source.inverse().matrix, start, tuple(stop - start)) > INSIDE
    if not inside.any():
        return None
    return _cropped(tuple(start.tolist()), inside)


def _sampled(
    probabilities: FloatArray, matrix: FloatMatrix, start: npt.NDArray[np.int_], shape: tuple[int, ...]
) -> FloatArray:
    """The probabilities at the source pixels from `start` on; `matrix` maps source indices to those of the grid.

    Between the last grid point and nothing they fall to 0: a segment ends half a cell beyond it.
    """
    linear, offset = matrix[:-1, :-1], matrix[:-1, -1] + matrix[:-1, :-1] @ start
    if (np.count_nonzero(linear, axis=0) != 1).any():  # turned, not only permuted, flipped and scaled
        return np.asarray(
            affine_transform(probabilities, linear, offset, shape, order=1, mode="grid-constant", output=np.float32)
        )
    # Linear interpolation of a product grid is one of each axis after the other: many times as fast.
    source_axes = np.abs(linear).argmax(axis=1)
    sampled = np.transpose(probabilities, np.argsort(source_axes))
    for axis, size in enumerate(shape):
        grid_axis = int(np.flatnonzero(source_axes == axis)[0])
        places = linear[grid_axis, axis] * np.arange(size) + offset[grid_axis]
        away = np.abs(places[:, None] - np.arange(probabilities.shape[grid_axis]))
        weights = np.clip(1 - away, 0, None).astype(np.float32)
        sampled = np.moveaxis(np.tensordot(weights, sampled, axes=(1, axis)), 0, axis)
    return sampled


def _cropped(start: tuple[int, ...], inside: npt.NDArray[np.bool_]) -> _Block:
    axes = range(inside.ndim)
    used = [np.flatnonzero(inside.any(axis=tuple(other for other in axes if other != axis))) for axis in axes]
    part = tuple(slice(int(each[0]), int(each[-1]) + 1) for each in used)
    first = tuple(at + int(each[0]) for at, each in zip(start, used, strict=True))
    return _Block(first, np.ascontiguousarray(inside[part]))


def _area(line: npt.NDArray[np.float64]) -> float:
    x, y = line[:-1].T
    return abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))) / 2
