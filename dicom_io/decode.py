"""One instance as an Image: decode, reduce colour to luminance, apply the modality transform.

Run it in a worker (radserve.workers): decoders of hostile files crash, hang and bloat.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.uid import UID, ExplicitVRBigEndian

from radserve.dicom_io import attributes
from radserve.dicom_io.codecs import DecodedFrame, decode_frame, native_values
from radserve.dicom_io.encapsulated import frame_codestreams
from radserve.dicom_io.grey import ToGrey, to_grey
from radserve.dicom_io.lookup import Modality, functional_groups, modality_transforms, voi_transform
from radserve.dicom_io.parse import InstanceHeader, header_of, source_context
from radserve.dicom_io.part10 import DicomFile, PixelElement, open_dicom, quiet
from radserve.dicom_io.pixel_layout import DecodeLimits, PixelLayout, expected_total
from radserve.errors import DicomError, ErrorCode
from radserve.image import Image, PixelProperties, PlanePosition, Provenance

__all__ = ["DecodeLimits", "decode_image", "pixel_sha256"]

Array = npt.NDArray[Any]
PIXEL_DATA = 0x7FE00010


def decode_image(path: Path, limits: DecodeLimits | None = None) -> Image:
    """Decode all frames of an instance to modality values (frames, rows, columns).

    Colour becomes luminance (Y of YBR_FULL, PS3.3 C.7.6.3.1.2), rounded to the stored integer type. Pixel padding stays
    as it is. Raises DicomError as `parse_header`, and UNSUPPORTED_PIXELS, PIXEL_BUDGET_EXCEEDED, PIXELS_INCONSISTENT,
    TRUNCATED or DECODE_FAILED.
    """
    file = open_dicom(path)
    with quiet():
        return _decode(file, header_of(file), limits or DecodeLimits())


def _decode(file: DicomFile, header: InstanceHeader, limits: DecodeLimits) -> Image:
    ds = file.dataset
    layout = PixelLayout.of(ds)
    limits.check(layout, 1)  # before the header's own tables are read
    grey, grey_type, bits = to_grey(ds, layout)
    stored_range = layout.stored_range if layout.photometric.startswith("MONO") else (0, (1 << bits) - 1)
    modality = modality_transforms(ds, layout.frames, layout.signed)
    dtype = grey_type if all(transform.is_identity for transform in modality) else np.dtype(np.float32)
    limits.check(layout, dtype.itemsize)
    warnings: list[str] = []
    array = _modality_values(
        file, layout, grey, modality, np.empty((layout.frames, layout.rows, layout.columns), dtype)
    )
    ranges = [transform.range_of(*stored_range) for transform in modality]
    least, greatest = min(low for low, _ in ranges), max(high for _, high in ranges)
    voi, warning = voi_transform(ds, layout.frames, least)
    if warning:
        warnings.append(warning)
    photometric = layout.photometric if layout.photometric.startswith("MONO") else "MONOCHROME2"
    return Image(
        array=array,
        properties=PixelProperties(
            photometric_interpretation=photometric,
            bits_stored=bits,
            value_range=(float(least), float(greatest)),
            voi=voi,
            pixel_spacing_mm=_pixel_spacing(ds, layout.frames),
            units=_units(ds, header.context.modality),
        ),
        provenance=Provenance(
            transfer_syntax_uid=file.transfer_syntax_uid,
            pixel_sha256=pixel_sha256(array),
            steps=_steps(file, layout, modality),
            warnings=tuple(warnings),
        ),
        context=header.context,
        source=source_context(ds),
        planes=_planes(ds, layout.frames),
    )


def pixel_sha256(array: Array) -> str:
    """SHA-256, hex, of dtype, shape and bytes (C order) of an array: equal for equal pixels in any transfer syntax."""
    digest = hashlib.sha256(f"{array.dtype.str} {array.shape} ".encode())
    digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _modality_values(
    file: DicomFile, layout: PixelLayout, grey: ToGrey, modality: tuple[Modality, ...], out: Array
) -> Array:
    for index, frame in enumerate(_frames(file, layout)):
        modality[index if len(modality) > 1 else 0].apply(grey(frame), out[index])
    return out


def _frames(file: DicomFile, layout: PixelLayout) -> Iterator[DecodedFrame]:
    pixels = file.pixels
    if pixels is None or pixels.tag != PIXEL_DATA:
        raise DicomError(ErrorCode.UNSUPPORTED_PIXELS, "floating point pixel data is not supported")
    if not UID(file.transfer_syntax_uid).is_encapsulated:
        yield from _native_frames(file, pixels, layout)
        return
    for data in frame_codestreams(file.data, pixels, file.dataset, layout.frames):
        yield decode_frame(data, file.transfer_syntax_uid, layout)


def _native_frames(file: DicomFile, pixels: PixelElement, layout: PixelLayout) -> Iterator[DecodedFrame]:
    """Cut uncompressed pixel data into frames, without a copy."""
    expected = expected_total(layout)
    if pixels.length is None:
        raise layout.inconsistent("length", "undefined", f"{expected} bytes without compression")
    available = min(pixels.length, len(file.data) - pixels.offset)
    if available < expected:
        raise DicomError(ErrorCode.TRUNCATED, f"the pixel data has {available} bytes, the header needs {expected}")
    if pixels.length - expected >= max(layout.frame_bytes, 2):
        raise layout.inconsistent("length", f"{pixels.length} bytes", f"{expected} bytes")
    big = file.transfer_syntax_uid == ExplicitVRBigEndian
    cell = np.dtype(f"{'>' if big else '<'}u{layout.bits_allocated // 8}")
    swapped = big and pixels.vr == "OW" and layout.bits_allocated == 8
    for index in range(layout.frames):
        at = index * layout.frame_bytes
        cells = _swapped_bytes(file, pixels, at, layout) if swapped else _cells(file, pixels.offset + at, cell, layout)
        yield DecodedFrame(native_values(_arranged(cells, layout), layout), layout.photometric)


def _cells(file: DicomFile, offset: int, cell: np.dtype[Any], layout: PixelLayout) -> Array:
    return np.frombuffer(file.data, cell, count=layout.frame_bytes // cell.itemsize, offset=offset)


def _swapped_bytes(file: DicomFile, pixels: PixelElement, start: int, layout: PixelLayout) -> Array:
    """Bytes of 8-bit pixels sent as big-endian words (PS3.5 annex B): each pair is swapped."""
    first = start - start % 2
    stop = start + layout.frame_bytes
    raw = np.frombuffer(
        file.data, np.uint8, count=min(stop + stop % 2, pixels.length or 0) - first, offset=pixels.offset + first
    )
    pairs = raw[: raw.size // 2 * 2].reshape(-1, 2)[:, ::-1].reshape(-1)
    return pairs[start - first :][: layout.frame_bytes]


def _arranged(cells: Array, layout: PixelLayout) -> Array:
    if layout.is_subsampled:  # Y1 Y2 Cb Cr (PS3.3 C.7.6.3.1.2): the luminance alone
        return cells.reshape(-1, 4)[:, :2].reshape(layout.rows, layout.columns)
    if layout.planar and layout.samples > 1:
        return cells.reshape(layout.samples, layout.rows, layout.columns).transpose(1, 2, 0)
    return cells.reshape(layout.shape_of_frame())


def _steps(file: DicomFile, layout: PixelLayout, modality: tuple[Modality, ...]) -> tuple[str, ...]:
    steps = [f"decoded from {UID(file.transfer_syntax_uid).name}"]
    if not layout.photometric.startswith("MONO"):
        steps.append(f"luminance of {layout.photometric} (PS3.3 C.7.6.3.1.2)")
    if len(modality) > 1:
        steps.append(f"rescale of each of {len(modality)} frames by its own slope and intercept")
    elif not modality[0].is_identity:
        steps.append(str(modality[0]))
    padding = attributes.optional_integer(file.dataset, "PixelPaddingValue")
    if padding is not None:
        steps.append(f"pixel padding value {padding} (stored) left as it is")
    return tuple(steps)


def _pixel_spacing(ds: Dataset, frames: int) -> tuple[float, float] | None:
    shared, per_frame = functional_groups(ds, "PixelMeasuresSequence", frames)
    measures = shared or (per_frame[0] if per_frame else None)
    for source, keyword in ((measures, "PixelSpacing"), (ds, "PixelSpacing"), (ds, "ImagerPixelSpacing")):
        found = attributes.numbers(source, keyword, 2) if source is not None else None
        if found and min(found) > 0:
            return found[0], found[1]
    return None


def _units(ds: Dataset, modality: str) -> str:
    stated = attributes.text(ds, "RescaleType") or attributes.text(ds, "Units")
    return stated or ("HU" if modality == "CT" else "")  # PS3.3 C.8.2.1.1.2: Hounsfield unless stated


def _planes(ds: Dataset, frames: int) -> tuple[PlanePosition, ...]:
    """The place of each frame; nothing unless all are known."""
    shared_orientation, orientations = functional_groups(ds, "PlaneOrientationSequence", frames)
    shared_position, positions = functional_groups(ds, "PlanePositionSequence", frames)
    reference = attributes.text(ds, "FrameOfReferenceUID")
    planes = []
    for index in range(frames if frames == 1 or positions else 0):
        own_orientation = orientations[index] if orientations else None
        own_position = positions[index] if positions else None
        orientation = attributes.numbers(own_orientation or shared_orientation or ds, "ImageOrientationPatient", 6)
        position = attributes.numbers(own_position or shared_position or ds, "ImagePositionPatient", 3)
        if orientation is None or position is None:
            return ()
        a, b, c, d, e, f = orientation
        x, y, z = position
        planes.append(PlanePosition((a, b, c, d, e, f), (x, y, z), reference))
    return tuple(planes)
