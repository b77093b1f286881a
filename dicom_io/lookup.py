"""Modality and VOI transforms as the header states them (PS3.3 C.11.1 and C.11.2), with those of functional groups."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from radserve._checks import read_only
from radserve.dicom_io import attributes
from radserve.dicom_io.plain import Elements
from radserve.errors import RadserveError
from radserve.voi import VoiFunction, VoiLut, VoiTransform, VoiWindow

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Rescale:
    """Modality value = stored value * slope + intercept."""

    slope: float = 1.0
    intercept: float = 0.0

    @property
    def is_identity(self) -> bool:
        return self.slope == 1 and self.intercept == 0

    def apply(self, stored: Array, out: Array) -> None:
        """Write the modality values of `stored` to `out`, of the same shape."""
        if self.is_identity:
            out[...] = stored
        elif stored.dtype.itemsize > 2 or stored.dtype.kind == "f":  # float32 does not hold these integers
            out[...] = stored.astype(np.float64) * self.slope + self.intercept
        elif self.slope == 1:  # most CT: one pass over the pixels instead of two
            np.add(stored, np.float32(self.intercept), out=out, dtype=np.float32)
        else:
            np.multiply(stored, np.float32(self.slope), out=out, dtype=np.float32)
            out += np.float32(self.intercept)

    def range_of(self, least: float, greatest: float) -> tuple[float, float]:
        """The modality values that stored values from `least` to `greatest` become."""
        ends = (least * self.slope + self.intercept, greatest * self.slope + self.intercept)
        return min(ends), max(ends)

    def __str__(self) -> str:
        return f"rescale with slope {self.slope:g}, intercept {self.intercept:g}"


@dataclass(frozen=True, slots=True, eq=False)
class ModalityLut:
    """A Modality LUT: `table` (entries,) float32, the first for the stored value `first_value`."""

    table: Array = field(repr=False)
    first_value: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "table", read_only(self.table.astype(np.float32)))

    is_identity = False

    def apply(self, stored: Array, out: Array) -> None:
        """Write the modality values of `stored` to `out`; values outside the table take its end entries."""
        index = np.clip(stored.astype(np.int64) - self.first_value, 0, self.table.size - 1)
        np.take(self.table, index, out=out)

    def range_of(self, least: float, greatest: float) -> tuple[float, float]:
        """The least and the greatest entry."""
        return float(self.table.min()), max(float(self.table.max()), float(self.table.min()) + 1)

    def __str__(self) -> str:
        return f"Modality LUT of {self.table.size} entries"


Modality = Rescale | ModalityLut


def modality_transforms(ds: Elements, frames: int, signed: bool) -> tuple[Modality, ...]:
    """The modality transform of all frames (one) or of each.

    A transform that cannot be read is refused with INVALID_HEADER: without it the values mean something else.
    """
    tables = attributes.items(ds, "ModalityLUTSequence")
    if tables:
        table, first, _ = _table(tables[0], signed)
        return (ModalityLut(table, first),)
    shared, per_frame = functional_groups(ds, "PixelValueTransformationSequence", frames)
    if any(per_frame):
        each = tuple(_rescale(item or shared or ds) for item in per_frame)
        return each if len(set(each)) > 1 else each[:1]
    return (_rescale(shared or ds),)


def functional_groups(ds: Elements, macro: str, frames: int) -> tuple[Dataset | None, list[Dataset | None]]:
    """The first item of a functional group macro: shared, and for each frame (PS3.3 C.7.6.16)."""
    shared = attributes.items(ds, "SharedFunctionalGroupsSequence")[:1]
    per_frame = attributes.items(ds, "PerFrameFunctionalGroupsSequence")
    if per_frame and len(per_frame) != frames:
        problem = f"has {len(per_frame)} items, NumberOfFrames is {frames}"
        raise attributes.invalid_header("PerFrameFunctionalGroupsSequence", problem)

    def first(group: Dataset) -> Dataset | None:
        found = attributes.items(group, macro)
        return found[0] if found else None

    return (first(shared[0]) if shared else None), [first(group) for group in per_frame]


def voi_transform(ds: Elements, frames: int, least: float) -> tuple[VoiTransform | None, str]:
    """The first window or else the first VOI LUT, and a warning where there is one that cannot be taken.

    None is taken where the frames of a multi-frame object have different ones. `least` is the least modality value: the
    first mapped value of a LUT over negative values is signed.
    """
    try:
        shared, per_frame = functional_groups(ds, "FrameVOILUTSequence", frames)
        sources = [item or shared or ds for item in per_frame] if any(per_frame) else [shared or ds]
        found = [_voi_of(source, least) for source in sources]
    except RadserveError:
        return None, "the header's window or VOI LUT makes no sense and is left out"
    different = sum(not same_voi(other, found[0]) for other in found)
    if different:
        return None, f"{different} of {frames} frames have another VOI transform than the first; none is taken"
    return found[0], ""


def same_voi(one: VoiTransform | None, other: VoiTransform | None) -> bool:
    """Whether two VOI transforms give the same values."""
    if isinstance(one, VoiLut) and isinstance(other, VoiLut):
        same_place = (one.first_value, one.bits) == (other.first_value, other.bits)
        return same_place and np.array_equal(one.table, other.table)
    return one == other


def _voi_of(source: Elements, least: float) -> VoiTransform | None:
    if attributes.value(source, "WindowCenter") is not None and attributes.value(source, "WindowWidth") is not None:
        return _window(source)
    tables = attributes.items(source, "VOILUTSequence")
    if not tables:
        return None
    table, first, bits = _table(tables[0], least < 0)
    return VoiLut(table, first, bits)


def _window(ds: Elements) -> VoiWindow:
    center, width = attributes.number(ds, "WindowCenter"), attributes.number(ds, "WindowWidth")
    stated = attributes.text(ds, "VOILUTFunction").upper() or "LINEAR"
    if center is None or width is None or stated not in tuple(VoiFunction):
        raise attributes.invalid_header("WindowCenter, WindowWidth or VOILUTFunction", "cannot be used")
    return VoiWindow(center, width, VoiFunction(stated))


def _rescale(ds: Elements) -> Rescale:
    slope, intercept = _optional(ds, "RescaleSlope", 1.0), _optional(ds, "RescaleIntercept", 0.0)
    if slope == 0:
        raise attributes.invalid_header("RescaleSlope", "is 0")
    return Rescale(slope, intercept)


def _optional(ds: Elements, keyword: str, default: float) -> float:
    if attributes.value(ds, keyword) is None:
        return default
    found = attributes.number(ds, keyword)
    if found is None or not math.isfinite(np.float32(found)):
        raise attributes.invalid_header(keyword, "is not a number")
    return found


def _table(item: Dataset, signed: bool) -> tuple[Array, int, int]:
    """Entries (unsigned), first mapped value and bits of a LUT (PS3.3 C.11.1.1.1); `signed`: it maps signed values."""
    descriptor = attributes.numbers(item, "LUTDescriptor", 3)
    data = attributes.value(item, "LUTData")
    if descriptor is None or data is None:
        raise attributes.invalid_header("LUTDescriptor or LUTData", "is missing or malformed")
    count, first, bits = (int(part) for part in descriptor)
    count = count if count > 0 else count + (1 << 16)  # 0 stands for 2^16; a signed reading of the count is undone
    if first > 0x7FFF and signed:
        first -= 1 << 16
    entries = _entries(item, data, count)
    if len(entries) != count:
        raise attributes.invalid_header("LUTData", f"has {len(entries)} entries, LUTDescriptor {count}")
    return np.array(entries, dtype=np.uint16), first, bits


def _entries(item: Dataset, data: Any, count: int) -> Sequence[int]:
    if isinstance(data, int):
        return [data & 0xFFFF]
    if not isinstance(data, bytes):
        return [int(entry) & 0xFFFF for entry in data]
    if len(data) in (count, count + 1):
        return data[:count]
    order = "<" if item.original_encoding[1] is not False else ">"
    return struct.unpack(f"{order}{len(data) // 2}H", data[: len(data) // 2 * 2])[:count]
