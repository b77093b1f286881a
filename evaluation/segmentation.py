"""Agreement of two segmentations of one structure: overlap, distances of their surfaces, volumes.

Surfaces are the voxels of a mask that have a face neighbour outside of it; a distance is the Euclidean one between
centres of such voxels, in mm. Each surface voxel counts once. MONAI's metrics are the same where nothing is weighted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import binary_erosion, distance_transform_edt

from radserve.errors import RadserveError
from radserve.evaluation.tables import BoolArray, FloatArray, refusal
from radserve.geometry import VolumeGeometry
from radserve.segments import MaskBlock, SegmentedVolume, box_of, union

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
    reference: MaskBlock, predicted: MaskBlock, spacing_mm: tuple[float, float, float], tolerance_mm: float
) -> Agreement:
    """Compare two masks on one grid of voxels of `spacing_mm` (slices, rows, columns)."""
    sizes = reference.voxels, predicted.voxels
    voxel_ml = math.prod(spacing_mm) / 1000
    volumes = sizes[0] * voxel_ml, sizes[1] * voxel_ml
    if not all(sizes):  # a structure that was missed, or made up, or neither is there
        overlap = 0.0 if any(sizes) else math.nan
        return Agreement(overlap, overlap, math.nan, math.nan, *volumes)
    start, stop = box_of(reference, predicted)
    truth, found = reference.within(start, stop), predicted.within(start, stop)
    to_truth, to_found = _distances(truth, found, spacing_mm)
    both = np.concatenate([to_truth, to_found])
    return Agreement(
        dice=2 * int((truth & found).sum()) / sum(sizes),
        surface_dice=float((both <= tolerance_mm).mean()),
        hd95_mm=max(float(np.percentile(each, PERCENTILE)) for each in (to_truth, to_found)),
        assd_mm=float(both.mean()),
        reference_ml=volumes[0],
        predicted_ml=volumes[1],
    )


def on_grid_of(reference: SegmentedVolume, other: SegmentedVolume) -> SegmentedVolume:
    """The other segmentation by the indices of the reference's grid; it may reach beyond it.

    The axes may run in other orders and directions. Nothing is resampled: raises RadserveError INVALID_ARGUMENT where
    the voxels of one are not voxels of the other.
    """
    to_reference = np.linalg.inv(reference.geometry.affine_lps) @ other.geometry.affine_lps
    turn = np.rint(to_reference[:3, :3])
    if not all((np.abs(turn).sum(axis=axis) == 1).all() for axis in (0, 1)):
        raise _other_grid(reference.geometry, other.geometry)
    last = np.array(other.geometry.shape) - 1
    corners = np.array(np.meshgrid(*((0, each) for each in last), indexing="ij")).reshape(3, -1)
    reached = to_reference[:3, :3] @ corners + to_reference[:3, 3:]
    shift = np.rint(reached[:, 0]).astype(int)
    if np.abs(reached - (turn @ corners + shift[:, np.newaxis])).max() > OFF_GRID:
        raise _other_grid(reference.geometry, other.geometry)
    turned = {name: _turned(block, turn.astype(int), shift) for name, block in other.masks.items()}
    return SegmentedVolume(reference.geometry, turned)


def joined(parts: Sequence[SegmentedVolume]) -> SegmentedVolume:
    """Several segmentations of one case, as a SEG is written in parts, on one grid; what two parts have is united.

    Raises RadserveError INVALID_ARGUMENT as `on_grid_of`.
    """
    masks = dict(parts[0].masks)
    for part in parts[1:]:
        for name, block in on_grid_of(parts[0], part).masks.items():
            masks[name] = union(masks[name], block) if name in masks else block
    return SegmentedVolume(parts[0].geometry, masks)


def _turned(block: MaskBlock, turn: npt.NDArray[np.int_], shift: npt.NDArray[np.int_]) -> MaskBlock:
    """A block by other indices: turn x index + shift, `turn` having one 1 or -1 in each row and column."""
    if not block.inside.size:
        return block
    axes = np.abs(turn).argmax(axis=1)
    flips = tuple(slice(None, None, int(turn[row, axes[row]])) for row in range(3))
    ends = np.array([block.start, np.array(block.stop) - 1]) @ turn.T + shift
    start = ends.min(axis=0).tolist()
    return MaskBlock((start[0], start[1], start[2]), block.inside.transpose(axes)[flips])


def _distances(
    reference: BoolArray, predicted: BoolArray, spacing_mm: tuple[float, float, float]
) -> tuple[FloatArray, FloatArray]:
    """From each surface voxel of the prediction to the reference's surface, and the other way round, in mm."""
    surfaces = [mask & ~binary_erosion(mask) for mask in (reference, predicted)]  # what is beyond the box is outside
    away = [distance_transform_edt(~each, sampling=spacing_mm) for each in surfaces]
    return away[0][surfaces[1]], away[1][surfaces[0]]


def _other_grid(reference: VolumeGeometry, other: VolumeGeometry) -> RadserveError:
    spacings = [" x ".join(f"{each:.3f}" for each in geometry.spacing_mm) for geometry in (reference, other)]
    return refusal(
        f"the two segmentations do not lie on the same voxels (spacing {spacings[0]} and {spacings[1]} mm, or another "
        "place or direction); nothing is resampled here"
    )
