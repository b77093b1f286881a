"""Named segments on one grid: what a segmentation says, or what a reader drew."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from radserve._checks import invalid, read_only
from radserve.geometry import VolumeGeometry

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class SegmentedVolume:
    """Masks (slices, rows, columns), bool, on one grid, by the name of the structure; they may overlap.

    A structure that is named and has no voxel was looked for and is not there; one not named was not looked for.
    """

    geometry: VolumeGeometry
    masks: Mapping[str, BoolArray] = field(repr=False)

    def __post_init__(self) -> None:
        for name, mask in self.masks.items():
            if mask.dtype != np.bool_ or mask.shape != self.geometry.shape:
                raise invalid(f"mask {name!r}", f"{mask.dtype} {mask.shape}", f"bool {self.geometry.shape}")
        object.__setattr__(
            self, "masks", MappingProxyType({name: read_only(mask) for name, mask in self.masks.items()})
        )
