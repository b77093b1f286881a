"""One instance as an Image: decode, reduce colour to luminance, apply the modality transform.

Run it in a worker (radserve.workers): decoders of hostile files crash, hang and bloat.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.uid import UID

from radserve.dicom_io import attributes
from radserve.dicom_io.alike import HeaderForm, differences, form_of
from radserve.dicom_io.element_table import ElementTable
from radserve.dicom_io.grey import ToGrey, to_grey
from radserve.dicom_io.header_bytes import header_bytes
from radserve.dicom_io.lookup import Modality, modality_transforms, voi_transform
from radserve.dicom_io.parse import header_of, instance_ref, pixel_element
from radserve.dicom_io.part10 import DicomFile, bytes_of, opened, quiet
from radserve.dicom_io.pixel_layout import DecodeLimits, PixelLayout
from radserve.dicom_io.place import pixel_spacing, planes
from radserve.dicom_io.plain import Elements, known, tags_of
from radserve.dicom_io.repairs import Repair
from radserve.dicom_io.stored import stored_frames
from radserve.errors import DicomError, ErrorCode, RadserveError
from radserve.image import Image, PixelProperties, Provenance
from radserve.references import AcquisitionContext, SourceContext

__all__ = ["DecodeLimits", "ImageDecoder", "decode_image", "decode_images"]

Array = npt.NDArray[Any]
MOST_FORMS = 8  # of headers of one series: where more than that are not alike, none will be
# Read from each slice: see `instance_ref` and `planes`.
OF_EACH_SLICE = frozenset(
    known(keyword)[0]
    for keyword in (
        *("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "InstanceNumber"),
        *("ImagePositionPatient", "ImageOrientationPatient", "FrameOfReferenceUID"),
    )
)


def decode_image(path: Path, limits: DecodeLimits | None = None, *, out: Array | None = None) -> Image:
    """Decode all frames of an instance to modality values (frames, rows, columns).

    Colour becomes luminance (Y of YBR_FULL, PS3.3 C.7.6.3.1.2), rounded to the stored integer type. Floating point
    pixels become float32. Pixel padding stays as it is; overlays are not applied. Provenance.warnings lists what was
    left out and every repair. `out` is where the values go if it has their shape and dtype. Raises DicomError as
    `parse_header`, and UNSUPPORTED_PIXELS, PIXEL_BUDGET_EXCEEDED, PIXELS_INCONSISTENT, TRUNCATED or DECODE_FAILED.
    """
    return ImageDecoder(limits or DecodeLimits()).decode(path, out)


def decode_images(paths: Sequence[Path], limits: DecodeLimits | None = None) -> list[Image | RadserveError]:
    """`decode_image` of many instances in one task of a worker, errors as values.

    `limits.max_total_bytes` bounds all arrays together: the instances beyond it are PIXEL_BUDGET_EXCEEDED. For small
    slices the exchange with a worker takes longer than decoding; a caller sends it 16 to 64 of them at once, and one by
    one again where the worker was lost (WorkerError).
    """
    left = limits or DecodeLimits()
    results: list[Image | RadserveError] = []
    for path in paths:
        try:
            image = decode_image(path, left)
        except RadserveError as error:
            results.append(error)
            continue
        results.append(image)
        left = replace(left, max_total_bytes=max(left.max_total_bytes - image.array.nbytes, 1))
    return results


@dataclass(frozen=True, slots=True, eq=False)
class _Description:
    """What the header says, but for what differs from slice to slice of a series: names, places and times.

    Value range and VOI transform of floating point pixels depend on the pixels, so `properties` has none.
    """

    layout: PixelLayout
    grey: ToGrey
    modality: tuple[Modality, ...]
    dtype: np.dtype[Any]
    properties: PixelProperties
    provenance: Provenance
    context: AcquisitionContext
    voi_warning: str


class ImageDecoder:
    """`decode_image` of one instance after the other; where headers are alike, they are read once."""

    def __init__(self, limits: DecodeLimits, differing: frozenset[int] = frozenset()) -> None:
        """Make it for instances of which some are known to have other values of the elements `differing`."""
        self._limits = limits
        self._differing = differing
        self._before: DicomFile | None = None
        self._forms = 0
        self._known: tuple[HeaderForm, _Description] | None = None

    def decode(self, path: Path, out: Array | None = None) -> Image:
        """As `decode_image`."""
        data = bytes_of(path)
        with quiet():
            file = self._known[0].read(data) if self._known else None
            if file is not None and self._known is not None:
                instance, description = instance_ref(file.elements), self._known[1]
            else:
                file = opened(data)
                header = header_of(file)
                instance, description = header.instance, _describe(file, header.context, self._limits)
                self._learn(file, description)
            return _decode(file, SourceContext(instance, header_bytes(file)), description, out)

    def _learn(self, file: DicomFile, description: _Description) -> None:
        """The next file may be like this one in all that the description was made from."""
        if self._forms == MOST_FORMS or description.layout.floating:
            return
        tables = [table for table in (file.meta_elements, file.elements) if isinstance(table, ElementTable)]
        described = frozenset[int]().union(*(table.asked for table in tables)) - OF_EACH_SLICE
        if self._before:
            self._differing |= differences(self._before, file) or frozenset()
        form = form_of(file, self._differing - described)
        self._known = (form, description) if form else None
        self._before = file
        self._forms += 1


class _Notes:
    """The warnings that are collected while the frames are decoded, each once."""

    def __init__(self, first: Sequence[str]) -> None:
        self.warnings = dict.fromkeys(first)

    def add(self, *found: Repair | str) -> None:
        self.warnings.update(dict.fromkeys(map(str, found)))


def _describe(file: DicomFile, context: AcquisitionContext, limits: DecodeLimits) -> _Description:
    ds = file.elements
    layout = PixelLayout.of(ds, pixel_element(file).tag)
    limits.check(layout, 1)  # before the header's own tables are read
    grey, grey_type, bits = to_grey(ds, layout)
    modality = modality_transforms(ds, layout.frames, layout.signed)
    is_stored = not layout.floating and all(transform.is_identity for transform in modality)
    dtype = grey_type if is_stored else np.dtype(np.float32)
    limits.check(layout, dtype.itemsize)
    warnings = dict.fromkeys(map(str, (*file.repairs, *_overlays(ds), *_burned_in(ds))))
    value_range = (-np.inf, np.inf) if layout.floating else _value_range(layout, modality, bits)
    voi, voi_warning = (None, "") if layout.floating else voi_transform(ds, layout.frames, value_range[0])
    return _Description(
        layout=layout,
        grey=grey,
        modality=modality,
        dtype=dtype,
        properties=PixelProperties(
            photometric_interpretation=layout.photometric if layout.is_monochrome else "MONOCHROME2",
            bits_stored=bits,
            value_range=value_range,
            voi=voi,
            pixel_spacing_mm=pixel_spacing(ds, layout.frames),
            units=_units(ds, context.modality),
        ),
        provenance=Provenance(
            transfer_syntax_uid=file.transfer_syntax_uid,
            steps=_steps(file, layout, modality),
            warnings=tuple(warnings),
        ),
        context=context,
        voi_warning=voi_warning,
    )


def _decode(file: DicomFile, source: SourceContext, description: _Description, out: Array | None) -> Image:
    layout, properties, dtype = description.layout, description.properties, description.dtype
    notes = _Notes(description.provenance.warnings)
    shape = (layout.frames, layout.rows, layout.columns)
    if out is None or (out.shape, out.dtype) != (shape, dtype):
        out = None if dtype.kind != "f" and layout.frames == 1 else np.empty(shape, dtype)
    array = _modality_values(_grey_frames(file, layout, description.grey, notes), description.modality, out)
    voi_warning = description.voi_warning
    if layout.floating:
        least, greatest = _range_of_floats(array, notes)
        voi, voi_warning = voi_transform(file.elements, layout.frames, least)
        properties = replace(properties, value_range=(least, greatest), voi=voi)
    if voi_warning:
        notes.add(voi_warning)
    provenance, warnings = description.provenance, tuple(notes.warnings)
    return Image(
        array=array,
        properties=properties,
        provenance=provenance if warnings == provenance.warnings else replace(provenance, warnings=warnings),
        context=description.context,
        source=source,
        planes=planes(file.elements, layout.frames),
    )


def _modality_values(frames: Iterator[Array], modality: tuple[Modality, ...], out: Array | None) -> Array:
    if out is None:  # one frame as it is stored: the decoder's own array, without a copy unless it is the file's
        frame = np.ascontiguousarray(next(frames))
        return (frame if frame.flags.writeable else frame.copy())[np.newaxis]
    for index, frame in enumerate(frames):
        modality[index if len(modality) > 1 else 0].apply(frame, out[index])
    return out


def _grey_frames(file: DicomFile, layout: PixelLayout, grey: ToGrey, notes: _Notes) -> Iterator[Array]:
    for frame in stored_frames(file, layout):
        notes.add(*frame.repairs)
        yield grey(frame)


def _value_range(layout: PixelLayout, modality: tuple[Modality, ...], bits: int) -> tuple[float, float]:
    """What the stored bits can express."""
    stored = layout.stored_range if layout.is_monochrome else (0, (1 << bits) - 1)
    ranges = [transform.range_of(*stored) for transform in modality]
    return float(min(low for low, _ in ranges)), float(max(high for _, high in ranges))


def _range_of_floats(array: Array, notes: _Notes) -> tuple[float, float]:
    """What is there."""
    finite = array[np.isfinite(array)]
    if not finite.size:
        raise DicomError(ErrorCode.PIXELS_INCONSISTENT, "none of the floating point pixels is a finite number")
    if finite.size < array.size:
        notes.add(f"{array.size - finite.size} of {array.size} floating point pixels are no finite numbers")
    least, greatest = float(finite.min()), float(finite.max())
    return least, greatest if greatest > least else float(np.nextafter(np.float32(least), np.float32(np.inf)))


def _overlays(ds: Elements) -> Iterator[str]:
    """Overlay planes are graphics or regions of interest beside the pixels (PS3.3 C.9.2), never part of them."""
    groups = [tag >> 16 for tag in tags_of(ds) if tag & 0xFF01FFFF == 0x60000010]
    if groups:
        yield f"overlay planes (PS3.3 C.9.2) that are not applied: {len(groups)}"


def _burned_in(ds: Elements) -> Iterator[str]:
    if attributes.text(ds, "BurnedInAnnotation").upper() == "YES":  # PS3.3 C.7.6.1.1.5
        yield "the header says that text is burned into the pixels"


def _steps(file: DicomFile, layout: PixelLayout, modality: tuple[Modality, ...]) -> tuple[str, ...]:
    steps = [f"decoded from {_name_of(file.transfer_syntax_uid)}"]
    if layout.floating and layout.bits_stored > 32:
        steps.append("64-bit floating point rounded to 32 bits")
    if not layout.is_monochrome:
        steps.append(f"luminance of {layout.photometric} (PS3.3 C.7.6.3.1.2)")
    if len(modality) > 1:
        steps.append(f"rescale of each of {len(modality)} frames by its own slope and intercept")
    elif not modality[0].is_identity:
        steps.append(str(modality[0]))
    padding = attributes.optional_integer(file.elements, "PixelPaddingValue")
    if padding is not None:
        steps.append(f"pixel padding value {padding} (stored) left as it is")
    return tuple(steps)


@lru_cache(maxsize=64)
def _name_of(uid: str) -> str:
    return UID(uid).name


def _units(ds: Elements, modality: str) -> str:
    stated = attributes.text(ds, "RescaleType") or attributes.text(ds, "Units")
    return stated or ("HU" if modality == "CT" else "")  # PS3.3 C.8.2.1.1.2: Hounsfield unless stated
