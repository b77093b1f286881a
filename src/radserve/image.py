"""Pixels with what is needed to understand them: properties, geometry, provenance. They never travel alone."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from radserve._checks import check_one_of, invalid, read_only
from radserve.geometry import VolumeGeometry
from radserve.references import AcquisitionContext, InstanceRef, SourceContext
from radserve.voi import VoiTransform

GREY = ("MONOCHROME1", "MONOCHROME2")


@dataclass(frozen=True, slots=True)
class PixelProperties:
    """How the values of an image are to be read.

    `photometric_interpretation` is MONOCHROME1 or MONOCHROME2: colour is reduced to luminance on decoding.
    `bits_stored` is that of the stored values, before the modality LUT. `value_range` is the least and greatest
    modality value that the stored bits can express. `voi` is the header's first VOI transform, if any.
    `pixel_spacing_mm` is (row, column): Pixel Spacing, else Imager Pixel Spacing; None when neither is there.
    """

    photometric_interpretation: str
    bits_stored: int
    value_range: tuple[float, float]
    voi: VoiTransform | None = None
    pixel_spacing_mm: tuple[float, float] | None = None
    units: str = ""

    def __post_init__(self) -> None:
        check_one_of("photometric_interpretation", self.photometric_interpretation, GREY)
        if not 1 <= self.bits_stored <= 64:
            raise invalid("bits_stored", self.bits_stored, "1 to 64")
        if not self.value_range[0] < self.value_range[1]:
            raise invalid("value_range", self.value_range, "(least, greatest) with least < greatest")
        if self.pixel_spacing_mm is not None and not min(self.pixel_spacing_mm) > 0:
            raise invalid("pixel_spacing_mm", self.pixel_spacing_mm, "two positive lengths (row, column)")


@dataclass(frozen=True, slots=True)
class PlanePosition:
    """Where a frame lies in the patient (PS3.3 C.7.6.2.1.1), LPS, mm.

    `image_orientation` holds the direction cosines of a row and of a column, in the header's order;
    `image_position_mm` is the centre of the first pixel.
    """

    image_orientation: tuple[float, float, float, float, float, float]
    image_position_mm: tuple[float, float, float]
    frame_of_reference_uid: str = ""

    def __post_init__(self) -> None:
        for name, count in (("image_orientation", 6), ("image_position_mm", 3)):
            value = getattr(self, name)
            if len(value) != count or not all(map(math.isfinite, value)):
                raise invalid(f"PlanePosition.{name}", value, f"{count} finite numbers")


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where an array came from and what was done to it, in order. Plain words without patient data."""

    transfer_syntax_uid: str
    steps: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Image:
    """One instance: `array` (frames, rows, columns) of modality values (after rescale, before VOI), read-only.

    The dtype is the stored integer dtype where the modality LUT is the identity, else float32. `planes` holds the place
    of each frame in the patient, or is empty where the header does not say.
    """

    array: npt.NDArray[Any] = field(repr=False)
    properties: PixelProperties
    provenance: Provenance
    context: AcquisitionContext
    source: SourceContext
    planes: tuple[PlanePosition, ...] = ()

    def __post_init__(self) -> None:
        if self.array.ndim != 3 or self.array.size == 0 or self.array.dtype.kind not in "uif":
            got = (self.array.shape, str(self.array.dtype))
            raise invalid("Image.array", got, "a non-empty (frames, rows, columns) array of real numbers")
        if len(self.planes) not in (0, len(self.array)):
            raise invalid("Image.planes", len(self.planes), f"{len(self.array)}, one for each frame, or none")
        object.__setattr__(self, "array", read_only(self.array))

    @property
    def instance(self) -> InstanceRef:
        return self.source.instance

    @property
    def frames(self) -> int:
        return int(self.array.shape[0])


@dataclass(frozen=True, slots=True, eq=False)
class Volume:
    """A regular stack of slices of a series: `array` (slices, rows, columns) of float32 modality values, read-only.

    `slices` names the source frame of each slice as (instance, frame counted from 1), where that is known.
    """

    array: npt.NDArray[np.float32] = field(repr=False)
    geometry: VolumeGeometry
    properties: PixelProperties
    provenance: Provenance
    context: AcquisitionContext
    sources: tuple[SourceContext, ...]
    slices: tuple[tuple[InstanceRef, int], ...] = ()

    def __post_init__(self) -> None:
        if self.array.shape != self.geometry.shape or self.array.dtype != np.float32:
            got = (self.array.shape, str(self.array.dtype))
            raise invalid("Volume.array", got, f"float32 {self.geometry.shape} (slices, rows, columns)")
        if len(self.slices) not in (0, len(self.array)):
            raise invalid("Volume.slices", len(self.slices), f"{len(self.array)}, one for each slice, or none")
        object.__setattr__(self, "array", read_only(self.array))
