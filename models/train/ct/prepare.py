"""From the scan to the grid of the network: by the pack's own preprocessing chain, so that both see the same."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from radserve.geometry import FloatArray
from radserve.image import PixelProperties
from radserve.models.train.ct.data import GUARD, ChestCt, held_out
from radserve.models.train.ct.structures import IGNORED, classes_of
from radserve.pipelines.preprocess.chain import chain_of
from radserve.pipelines.preprocess.transforms import run_chain

SPACING_MM, GRID = 4.0, 96
LEAST_HU, MOST_HU = -1000.0, 600.0
CHAIN: Final[tuple[tuple[str, dict[str, Any]], ...]] = (
    # First the range, so that the padding of the scanner (-2048 here) is air before anything is interpolated.
    ("ScaleIntensityRange", {"a_min": LEAST_HU, "a_max": MOST_HU, "b_min": 0.0, "b_max": 1.0, "clip": True}),
    ("Orientation", {"axcodes": "RAS"}),
    ("Spacing", {"pixdim": [SPACING_MM] * 3, "mode": "bilinear", "padding_mode": "border"}),
    ("ResizeWithPadOrCrop", {"spatial_size": [GRID] * 3}),
)
"""Air is 0, and so is what is padded: a cube of 384 mm around the middle of the scan."""


@dataclass(frozen=True, slots=True)
class PreparedCt:
    """`values` float32 and `classes` uint8 on the grid (x, y, z); held-out slices and their guards are IGNORED.

    `to_source` maps indices of the grid to (slice, row, column).
    """

    values: npt.NDArray[np.float32] = field(repr=False)
    classes: npt.NDArray[np.uint8] = field(repr=False)
    to_source: FloatArray


def run_chain_on(
    values: npt.NDArray[np.floating[Any]], affine_lps: FloatArray
) -> tuple[npt.NDArray[np.float32], FloatArray]:
    """The chain on HU (slices, rows, columns): the values (x, y, z) and the map of their indices to the source."""
    affine_ras = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine_lps
    properties = PixelProperties("MONOCHROME2", 16, (-32768.0, 32767.0))  # for windows; this chain has none
    tensor, affine = run_chain(chain_of(CHAIN), values, properties, affine_ras)
    return tensor[0], np.linalg.inv(affine_ras) @ affine


def prepare(ct: ChestCt) -> PreparedCt:
    """The scan and the classes to learn on the network's grid; each voxel has the class of the nearest of the scan."""
    values, to_source = run_chain_on(ct.hu.astype(np.float32), ct.affine_lps)
    wanted = classes_of(ct.labels)
    wanted[held_out(len(wanted), GUARD)] = IGNORED
    grid = np.stack(np.meshgrid(*(np.arange(size) for size in values.shape), indexing="ij"), axis=-1)
    nearest = np.rint(grid @ to_source[:3, :3].T + to_source[:3, 3]).astype(int)
    inside = ((nearest >= 0) & (nearest < wanted.shape)).all(axis=-1)
    classes = np.zeros(values.shape, np.uint8)
    classes[inside] = wanted[tuple(nearest[inside].T)]
    return PreparedCt(values, classes, to_source)
