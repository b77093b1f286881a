"""Single slices of one size, decoded straight into the places that they have in a volume.

`stack_of` and `decode_slices` run in workers: decoders of hostile files crash, hang and bloat.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from radserve.dicom_io.alike import differences
from radserve.dicom_io.decode import ImageDecoder
from radserve.dicom_io.parse import header_of
from radserve.dicom_io.part10 import DicomFile, open_dicom, quiet
from radserve.dicom_io.pixel_layout import DecodeLimits
from radserve.dicom_io.place import planes
from radserve.errors import RadserveError
from radserve.image import Image, PixelProperties, PlanePosition, Provenance
from radserve.references import AcquisitionContext, SourceContext

T = TypeVar("T")
FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Stack:
    """What the first and the last file of a series promise: slices of one size (count, rows, columns), float32.

    `descending`: the volume's first slice is that of the last file. `differing`: the tags of elements in which the two
    headers differ.
    """

    shape: tuple[int, int, int]
    descending: bool
    differing: frozenset[int]

    def turned(self, parts: Sequence[T]) -> Sequence[T]:
        """From the order of the files to that of the volume's slices, and back."""
        return parts[::-1] if self.descending else parts


@dataclass(frozen=True, slots=True)
class DecodedSlice:
    """What an Image is beside its array."""

    properties: PixelProperties
    provenance: Provenance
    context: AcquisitionContext
    source: SourceContext
    planes: tuple[PlanePosition, ...]


def stack_of(paths: Sequence[Path], limits: DecodeLimits) -> Stack | None:
    """Read the first and the last header; None where they do not look like the ends of a stack of single slices.

    Raises DicomError PIXEL_BUDGET_EXCEEDED for a stack above the limits.
    """
    if len(paths) < 2:
        return None
    try:
        files = [open_dicom(path) for path in (paths[0], paths[-1])]
        ends = [_end(file) for file in files]
    except RadserveError:  # told when it is decoded
        return None
    (size, first), (other_size, last) = ends
    if size is None or size != other_size or first is None or last is None:
        return None
    stack = Stack((len(paths), *size), last < first, differences(*files) or frozenset())
    limits.check_total(4 * int(np.prod(stack.shape)), f"{len(paths)} slices")
    return stack


def decode_slices(
    paths: Sequence[Path], limits: DecodeLimits, differing: frozenset[int], out: FloatArray
) -> list[DecodedSlice] | None:
    """Decode the instances into `out` (slices, rows, columns), all of it.

    `differing` is that of their Stack. None where one of them is no single slice of that size: then `out` is not to be
    used. Raises the error of the first
    that cannot be decoded, as `decode_image`.
    """
    slices: list[DecodedSlice] = []
    decoder = ImageDecoder(limits, differing)
    for path, place in zip(paths, out[:, np.newaxis], strict=True):
        image = decoder.decode(path, place)
        if image.array.shape != place.shape:
            return None
        if not np.may_share_memory(image.array, place):
            place[...] = image.array  # integers are values without a rescale
        slices.append(_without_array(image, slices[-1] if slices else None))
    return slices


def images_of(slices: Sequence[DecodedSlice], arrays: FloatArray) -> list[Image]:
    """The images of slices, with their arrays."""
    return [
        Image(array, each.properties, each.provenance, each.context, each.source, each.planes)
        for each, array in zip(slices, arrays[:, np.newaxis], strict=True)
    ]


def _end(file: DicomFile) -> tuple[tuple[int, int] | None, float | None]:
    """Rows and columns of a single slice, and its place along its normal in mm."""
    with quiet():
        header = header_of(file)
        if header.frames != 1:
            return None, None
        place = next(iter(planes(file.elements, 1)), None)
    if place is None:
        return (header.rows, header.columns), None
    row, column = np.array(place.image_orientation).reshape(2, 3)
    return (header.rows, header.columns), float(np.array(place.image_position_mm) @ np.cross(row, column))


def _without_array(image: Image, before: DecodedSlice | None) -> DecodedSlice:
    """Equal parts are the same objects as those of the slice before: they cross to another process once."""
    own = DecodedSlice(image.properties, image.provenance, image.context, image.source, image.planes)
    if before is None:
        return own
    return DecodedSlice(
        properties=before.properties if own.properties == before.properties else own.properties,
        provenance=before.provenance if own.provenance == before.provenance else own.provenance,
        context=before.context if own.context == before.context else own.context,
        source=own.source,
        planes=own.planes,
    )
