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
Index = tuple[int, int, int]


@dataclass(frozen=True, slots=True, eq=False)
class MaskBlock:
    """The part of a mask that holds all its voxels: `inside` (slices, rows, columns), bool, from the index `start` on.

    A mask without voxels has an `inside` without voxels. An index may be negative where the grid is another mask's.
    """

    start: Index
    inside: BoolArray = field(repr=False)

    def __post_init__(self) -> None:
        if self.inside.dtype != np.bool_ or self.inside.ndim != 3:
            raise invalid("MaskBlock.inside", f"{self.inside.dtype} {self.inside.shape}", "bool, 3 axes")
        object.__setattr__(self, "inside", read_only(self.inside))

    @classmethod
    def of(cls, mask: BoolArray) -> MaskBlock:
        """The smallest block of a whole mask."""
        spans = []
        for axis in range(3):
            along = np.flatnonzero(mask.any(axis=tuple(each for each in range(3) if each != axis)))
            if not len(along):
                return cls((0, 0, 0), np.zeros((0, 0, 0), np.bool_))
            spans.append(slice(int(along[0]), int(along[-1]) + 1))
        return cls((spans[0].start, spans[1].start, spans[2].start), mask[tuple(spans)].copy())

    @property
    def voxels(self) -> int:
        return int(self.inside.sum())

    @property
    def stop(self) -> Index:
        """The index behind the last one, along each axis."""
        first, shape = self.start, self.inside.shape
        return first[0] + shape[0], first[1] + shape[1], first[2] + shape[2]

    def within(self, start: Index, stop: Index) -> BoolArray:
        """The mask on the grid from `start` to `stop`, in which all of it has to lie."""
        whole = np.zeros([end - begin for begin, end in zip(start, stop, strict=True)], np.bool_)
        if self.inside.size:
            spans = zip(self.start, self.stop, start, strict=True)
            whole[tuple(slice(first - begin, last - begin) for first, last, begin in spans)] = self.inside
        return whole


@dataclass(frozen=True, slots=True, eq=False)
class SegmentedVolume:
    """Masks on one grid by the name of the structure; they may overlap.

    A structure that is named and has no voxel was looked for and is not there; one not named was not looked for.
    """

    geometry: VolumeGeometry
    masks: Mapping[str, MaskBlock]

    def __post_init__(self) -> None:
        object.__setattr__(self, "masks", MappingProxyType(dict(self.masks)))


def box_of(first: MaskBlock, second: MaskBlock) -> tuple[Index, Index]:
    """The smallest box, from its first index to the one behind its last, with all voxels of two masks."""
    boxes = [(each.start, each.stop) for each in (first, second) if each.inside.size]
    if not boxes:
        return (0, 0, 0), (0, 0, 0)
    low = np.min([start for start, _ in boxes], axis=0).tolist()
    high = np.max([stop for _, stop in boxes], axis=0).tolist()
    return (low[0], low[1], low[2]), (high[0], high[1], high[2])


def union(first: MaskBlock, second: MaskBlock) -> MaskBlock:
    """The mask of what is in either."""
    start, stop = box_of(first, second)
    return MaskBlock(start, first.within(start, stop) | second.within(start, stop))
