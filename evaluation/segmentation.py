"""Agreement of two segmentations of one structure: overlap, distances of their surfaces, volumes.

Surfaces are the voxels of a mask that have a face neighbour outside of it; a distance is the Euclidean one between
centres of such voxels, in mm. Each surface voxel counts once. MONAI's metrics are the same where nothing is weighted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import binary_erosion, distance_transform_edt

from radserve._checks import read_only
from radserve.evaluation.tables import BoolArray, FloatArray, refusal
from radserve.geometry import VolumeGeometry
from radserve.segments import SegmentedVolume

PERCENTILE = 95.0
OFF_GRID = 0.05
"""Voxels by which two grids may be apart, at any voxel of them, and still be one."""


@dataclass(frozen=True)
class Agreement:
    """One structure in one case. What is undefined is NaN: distances where a mask is empty, Dice where both are.

    `dice` is 2 |A and B| / (|A| + |B|). `hd95_mm` is the greater of the two 95th percentiles of the distances from one
    surface to the other, `assd_mm` the mean of all of them, `surface_dice` the part of both surfaces that the other is
    within the tolerance of (Nikolov et al., J Med Internet Res 2021, with voxels for surface elements).
    """

    dice: float
    surface_dice: float
    hd95_mm: float
    assd_mm: float
    reference_ml: float
    predicted_ml: float


def agreement(
    reference: BoolArray, predicted: BoolArray, spacing_mm: tuple[float, float, float], tolerance_mm: float
) -> Agreement:
    """Compare two masks (slices, rows, columns) on one grid. Raises RadserveError INVALID_ARGUMENT for other shapes."""
    if reference.shape != predicted.shape:
        raise refusal(f"masks: got shapes {reference.shape} and {predicted.shape}, expected the same")
    sizes = int(reference.sum()), int(predicted.sum())
    voxel_ml = math.prod(spacing_mm) / 1000
    overlap = int((reference & predicted).sum())
    dice = 2 * overlap / sum(sizes) if sum(sizes) else math.nan
    volumes = sizes[0] * voxel_ml, sizes[1] * voxel_ml
    if not all(sizes):
        surface_dice = 0.0 if any(sizes) else math.nan  # a structure that was missed, or made up
        return Agreement(dice, surface_dice, math.nan, math.nan, *volumes)
    to_reference, to_predicted = _distances(reference, predicted, spacing_mm)
    both = np.concatenate([to_reference, to_predicted])
    greatest = max(float(np.percentile(each, PERCENTILE)) for each in (to_reference, to_predicted))
    return Agreement(dice, float((both <= tolerance_mm).mean()), greatest, float(both.mean()), *volumes)


def on_one_grid(reference: SegmentedVolume, predicted: SegmentedVolume) -> tuple[SegmentedVolume, SegmentedVolume]:
    """Both segmentations on the smallest grid that holds both: their voxels are the same, only the boxes differ.

    The axes may run in other orders and directions. Nothing is resampled: raises RadserveError INVALID_ARGUMENT where
    the voxels of one are not voxels of the other.
    """
    to_reference = np.linalg.inv(reference.geometry.affine_lps) @ predicted.geometry.affine_lps
    turn = np.rint(to_reference[:3, :3])
    if not np.array_equal(np.abs(turn).sum(axis=0), np.ones(3)) or not np.array_equal(
        np.abs(turn).sum(axis=1), np.ones(3)
    ):
        raise _other_grid(reference.geometry, predicted.geometry)
    last = np.array(predicted.geometry.shape) - 1
    corners = np.array(np.meshgrid(*((0, each) for each in last), indexing="ij")).reshape(3, -1)
    reached = to_reference[:3, :3] @ corners + to_reference[:3, 3:]
    shift = np.rint(reached[:, :1])
    if np.abs(reached - (turn @ corners + shift)).max() > OFF_GRID:
        raise _other_grid(reference.geometry, predicted.geometry)
    axes = np.abs(turn).argmax(axis=1)
    flips = tuple(slice(None, None, int(turn[row, axes[row]])) for row in range(3))
    start = np.rint(reached.min(axis=1)).astype(int)
    turned = {name: mask.transpose(axes)[flips] for name, mask in predicted.masks.items()}
    shape = np.array(predicted.geometry.shape)[axes]
    low = np.minimum(start, 0)
    high = np.maximum(start + shape, reference.geometry.shape)
    affine = reference.geometry.affine_lps.copy()
    affine[:3, 3] = reference.geometry.to_patient(low)
    grid = VolumeGeometry(affine, (int(high[0] - low[0]), int(high[1] - low[1]), int(high[2] - low[2])))
    return _placed(reference.masks, -low, grid), _placed(turned, start - low, grid)


def joined(parts: Sequence[SegmentedVolume]) -> SegmentedVolume:
    """Several segmentations of one case, as a SEG is written in parts, on one grid; what two parts have is united.

    Raises RadserveError INVALID_ARGUMENT as `on_one_grid`.
    """
    whole = parts[0]
    for part in parts[1:]:
        whole, other = on_one_grid(whole, part)
        both = {name: whole.masks[name] | other.masks[name] for name in whole.masks.keys() & other.masks.keys()}
        whole = SegmentedVolume(whole.geometry, {**whole.masks, **other.masks, **both})
    return whole


def _distances(
    reference: BoolArray, predicted: BoolArray, spacing_mm: tuple[float, float, float]
) -> tuple[FloatArray, FloatArray]:
    """From each surface voxel of the prediction to the reference's surface, and the other way round, in mm."""
    box = _box(reference | predicted)
    surfaces = [_surface(mask[box]) for mask in (reference, predicted)]
    away = [distance_transform_edt(~each, sampling=spacing_mm) for each in surfaces]
    return read_only(away[0][surfaces[1]]), read_only(away[1][surfaces[0]])


def _surface(mask: BoolArray) -> BoolArray:
    return np.asarray(mask & ~binary_erosion(mask))  # what lies beyond the array is outside


def _box(mask: BoolArray) -> tuple[slice, ...]:
    """The smallest box with all of a mask that is not empty."""
    found = []
    for axis in range(mask.ndim):
        along = np.flatnonzero(mask.any(axis=tuple(each for each in range(mask.ndim) if each != axis)))
        found.append(slice(int(along[0]), int(along[-1]) + 1))
    return tuple(found)


def _placed(masks: Mapping[str, BoolArray], start: FloatArray, grid: VolumeGeometry) -> SegmentedVolume:
    placed = {}
    for name, mask in masks.items():
        whole = np.zeros(grid.shape, np.bool_)
        whole[tuple(slice(int(at), int(at) + size) for at, size in zip(start, mask.shape, strict=True))] = mask
        placed[name] = whole
    return SegmentedVolume(grid, placed)


def _other_grid(reference: VolumeGeometry, predicted: VolumeGeometry) -> Exception:
    spacings = (" x ".join(f"{each:.3f}" for each in geometry.spacing_mm) for geometry in (reference, predicted))
    return refusal(
        "the two segmentations do not lie on the same voxels (spacing {} and {} mm, or another place or "
        "direction); nothing is resampled here".format(*spacings)
    )
