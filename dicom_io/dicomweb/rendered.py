"""A frame as a picture for a screen (PS3.18 section 10.4.1.1.3): PNG or JPEG, grey or colour. Run it in a worker."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image as Picture
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_color_lut

from radserve._checks import invalid
from radserve.dicom_io import attributes
from radserve.dicom_io.codecs import DecodedFrame
from radserve.dicom_io.dicomweb.frames import NoSuchPartError, frame_of
from radserve.dicom_io.lookup import functional_groups, modality_transforms, voi_transform
from radserve.dicom_io.parse import pixel_element
from radserve.dicom_io.part10 import open_dicom, quiet
from radserve.dicom_io.pixel_layout import DecodeLimits, PixelLayout
from radserve.errors import RadserveError
from radserve.image import PixelProperties
from radserve.presentation import present_values
from radserve.voi import VoiFunction, VoiTransform, VoiWindow

Array = npt.NDArray[Any]
JPEG, PNG = "image/jpeg", "image/png"
OFFERED = (JPEG, PNG)  # the first is the default (PS3.18 table 8.7.4-1)
PARAMETERS = ("window", "viewport", "quality")
MOST_PIXELS = 8192
NUMBER = r"[+-]?\d{1,10}(?:\.\d{1,10})?"
CHROMA_ZERO = np.array((0, 128, 128), np.float32)
PARTIAL_OFFSET = np.array((16, 128, 128), np.float32)  # YBR_PARTIAL to YBR_FULL
PARTIAL_SCALE = np.array((255 / 219, 255 / 224, 255 / 224), np.float32)
# BT.601, the matrix of YBR_FULL (PS3.3 C.7.6.3.1.2)
YBR_TO_RGB = np.array(((1.0, 1.0, 1.0), (0.0, -0.344136, 1.772), (1.402, -0.714136, 0.0)), np.float32)


@dataclass(frozen=True, slots=True)
class Rendering:
    """What a picture is to be: `window` in modality values; `viewport` (columns, rows) that it has to fit into.

    `region` (left, top, columns, rows) of the source in pixels, None for all of it. `quality` 1 to 100, for JPEG.
    """

    media_type: str = JPEG
    window: VoiWindow | None = None
    viewport: tuple[int, int] | None = None
    region: tuple[int, int, int, int] | None = None
    quality: int = 90


def rendering(media_type: str, given: Mapping[str, str]) -> Rendering:
    """Read the query parameters of a rendered resource (PS3.18 section 8.3.5). Raises INVALID_ARGUMENT."""
    viewport, region = _viewport(given["viewport"]) if "viewport" in given else (None, None)
    quality = given.get("quality", "90")
    if not re.fullmatch(r"\d{1,3}", quality) or not 1 <= int(quality) <= 100:
        raise invalid("quality", quality[:16], "1 to 100")
    window = _window(given["window"]) if "window" in given else None
    return Rendering(media_type, window, viewport, region, int(quality))


def _window(text: str) -> VoiWindow:
    match = re.fullmatch(rf"({NUMBER}),({NUMBER})(?:,([A-Za-z_-]{{1,16}}))?", text)
    function = (match[3] or "LINEAR").upper().replace("-", "_") if match else ""
    if match is None or function not in tuple(VoiFunction):
        raise invalid("window", text[:64], "CENTER,WIDTH or CENTER,WIDTH,FUNCTION of linear, linear-exact or sigmoid")
    return VoiWindow(float(match[1]), float(match[2]), VoiFunction(function))


def _viewport(text: str) -> tuple[tuple[int, int], tuple[int, int, int, int] | None]:
    parts = text.split(",")
    if len(parts) not in (2, 6) or not all(re.fullmatch(r"\d{1,5}(\.0{1,3})?", part) for part in parts):
        raise invalid("viewport", text[:64], "COLUMNS,ROWS or COLUMNS,ROWS,LEFT,TOP,COLUMNS,ROWS of whole numbers")
    columns, rows, *region = (int(float(part)) for part in parts)
    if not (0 < columns <= MOST_PIXELS and 0 < rows <= MOST_PIXELS) or (region and min(region[2:]) < 1):
        raise invalid("viewport", text[:64], f"1 to {MOST_PIXELS} columns and rows")
    return (columns, rows), (region[0], region[1], region[2], region[3]) if region else None


def render(path: Path, number: int, how: Rendering) -> bytes:
    """The picture of a frame (counted from 1), with the window of the header unless another is asked for.

    Raises NoSuchPartError, DicomError as decoding does, RadserveError INVALID_ARGUMENT for a region outside.
    """
    file = open_dicom(path)
    with quiet():
        if file.pixels is None:
            raise NoSuchPartError("the instance has no frames")
        layout = PixelLayout.of(file.elements, pixel_element(file).tag)
        if not 1 <= number <= layout.frames:
            raise NoSuchPartError(f"there is no frame {number}: the instance has {layout.frames}")
        DecodeLimits().check(layout, 4)
        frame = frame_of(file, layout, number)
        values = _grey(file.dataset, layout, frame, number, how.window) if layout.is_monochrome else None
        picture = Picture.fromarray(_colour(file.dataset, layout, frame) if values is None else values)
    return _encoded(_placed(picture, how), how)


def _grey(ds: Dataset, layout: PixelLayout, frame: DecodedFrame, number: int, window: VoiWindow | None) -> Array:
    """uint8 (rows, columns)."""
    transforms = modality_transforms(ds, layout.frames, layout.signed)
    modality = transforms[number - 1 if len(transforms) > 1 else 0]
    dtype = frame.values.dtype if modality.is_identity and not layout.floating else np.dtype(np.float32)
    values = np.empty(frame.values.shape, dtype)
    modality.apply(frame.values, values)
    if layout.floating:
        values = np.nan_to_num(values, copy=False, posinf=0, neginf=0)
        least, greatest = float(values.min()), float(values.max())
    else:
        least, greatest = (float(end) for end in modality.range_of(*layout.stored_range))
    properties = PixelProperties(
        photometric_interpretation=layout.photometric,
        bits_stored=layout.bits_stored,
        value_range=(least, greatest if greatest > least else math.nextafter(least, math.inf)),
        voi=window or _voi(ds, layout.frames, number, least),
    )
    return _bytes(present_values(values, properties) * 255)


def _voi(ds: Dataset, frames: int, number: int, least: float) -> VoiTransform | None:
    """The VOI transform of one frame: of its own functional group, the shared one, or the header."""
    try:
        shared, per_frame = functional_groups(ds, "FrameVOILUTSequence", frames)
    except RadserveError:
        return None
    own = per_frame[number - 1] if per_frame else None
    found, _ = voi_transform(own or shared or ds, 1, least)
    return found


def _colour(ds: Dataset, layout: PixelLayout, frame: DecodedFrame) -> Array:
    """uint8 (rows, columns, 3), RGB."""
    if layout.photometric == "PALETTE COLOR":
        try:
            entries = apply_color_lut(frame.values, ds)
        except MemoryError:
            raise
        except Exception as error:  # pydicom has no common base
            raise attributes.invalid_header("the palette", f"cannot be read ({type(error).__name__})") from None
        bits = 8 * entries.dtype.itemsize
        return np.asarray(entries >> (bits - 8)).astype(np.uint8)
    values = frame.values.astype(np.float32) * np.float32(255 / ((1 << layout.bits_stored) - 1))
    if frame.photometric.startswith("YBR_PARTIAL"):
        values = (values - PARTIAL_OFFSET) * PARTIAL_SCALE + CHROMA_ZERO
    if frame.photometric.startswith("YBR"):
        values = (values - CHROMA_ZERO) @ YBR_TO_RGB
    return _bytes(values.clip(0, 255))


def _bytes(values: Array) -> Array:
    return np.asarray(np.rint(values), np.uint8)


def _placed(picture: Picture.Image, how: Rendering) -> Picture.Image:
    if how.region:
        left, top, columns, rows = how.region
        if left + columns > picture.width or top + rows > picture.height:
            raise invalid("viewport", how.region, f"a region within {picture.width} x {picture.height}")
        picture = picture.crop((left, top, left + columns, top + rows))
    if how.viewport:  # the picture keeps its shape and fits into the viewport
        scale = min(how.viewport[0] / picture.width, how.viewport[1] / picture.height)
        size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
        picture = picture.resize(size, Picture.Resampling.LANCZOS)
    return picture


def _encoded(picture: Picture.Image, how: Rendering) -> bytes:
    out = io.BytesIO()
    if how.media_type == PNG:
        picture.save(out, "PNG", compress_level=3)
    else:
        picture.save(out, "JPEG", quality=how.quality)
    return out.getvalue()
