"""Findings as pictures for people: the frame as a reader sees it, the heat map over it, the outline and the label."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from radserve.findings import Finding, HeatMap
from radserve.image import Image
from radserve.presentation import present_frame

BANNER = "AI draft - not verified"
LONG_SIDE_PX = 1024  # of the whole picture, bands included
LEAST_LONG_SIDE_PX = 512  # small frames are enlarged, so that outline and text can be seen
LEAST_WIDTH_PX = 360  # what the texts need
BAND_PX = 28
FONT_PX = 17
HEAT_ALPHA = 0.45
OUTLINE_RGB = (0, 220, 255)
TEXT_RGB = (255, 255, 255)
BANNER_RGB = (150, 60, 0)
LABEL_RGB = (30, 30, 30)

FloatArray = npt.NDArray[np.floating[Any]]


def render_overlay(image: Image, findings: Sequence[Finding]) -> list[tuple[str, bytes]]:
    """Return (name, PNG bytes) for each finding whose region lies on this image, in their order.

    The long side has at most 1024 px; unequal pixel spacing is evened out. Names are overlay-HASH-LABEL.png, unique
    and the same on every run. No patient data is written; what is burned into the pixels stays. Same input, same
    bytes. Raises RadserveError INVALID_ARGUMENT for a frame that the image does not have. Runs in a worker.
    """
    own = [finding for finding in findings if finding.region.instance == image.instance]
    size = picture_size(image)
    frames = {number: _grey(image, number, size) for number in sorted({finding.region.frame for finding in own})}
    return [(overlay_name(finding), _png(_draw(image, finding, frames[finding.region.frame]))) for finding in own]


def overlay_name(finding: Finding) -> str:
    """The file name of a finding's overlay."""
    region = finding.region
    parts = region.instance.series_instance_uid, region.instance.sop_instance_uid, str(region.frame)
    digest = hashlib.sha256("|".join((*parts, finding.tracking_uid)).encode()).hexdigest()
    slug = re.sub(r"[^a-z0-9]+", "-", finding.label.lower()).strip("-")[:40]
    return f"overlay-{digest[:10]}-{slug or 'finding'}.png"


def picture_size(image: Image) -> tuple[int, int]:
    """The (width, height) in px at which a frame of the image is shown, without the bands."""
    _, rows, columns = image.array.shape
    row_mm, column_mm = image.properties.pixel_spacing_mm or (1.0, 1.0)
    finest = min(row_mm, column_mm)
    width, height = columns * column_mm / finest, rows * row_mm / finest
    largest = min(LONG_SIDE_PX / width, (LONG_SIDE_PX - 2 * BAND_PX) / height)
    scale = min(max(1.0, LEAST_LONG_SIDE_PX / max(width, height)), largest)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _grey(image: Image, frame: int, size: tuple[int, int]) -> FloatArray:
    """A frame as float32 grey values 0 to 255 of shape (height, width, 1)."""
    levels = present_frame(image, frame - 1)
    levels *= 255
    levels += 0.5
    picture = Pillow.fromarray(levels.astype(np.uint8)).resize(size, Pillow.Resampling.BILINEAR)
    return np.asarray(picture, dtype=np.float32)[..., None]


def _draw(image: Image, finding: Finding, grey: FloatArray) -> Pillow.Image:
    height, width, _ = grey.shape
    _, rows, columns = image.array.shape
    scale = np.array([width / columns, height / rows])
    heat = _heat(finding.region.heat_map, (height, width), scale)[..., None]
    colour = np.concatenate([np.full_like(heat, 255), 255 * (1 - heat), np.zeros_like(heat)], axis=2)  # yellow to red
    alpha = HEAT_ALPHA * heat
    blended = (grey * (1 - alpha) + colour * alpha + 0.5).astype(np.uint8)

    picture = Pillow.new("RGB", (max(width, LEAST_WIDTH_PX), height + 2 * BAND_PX))
    left = (picture.width - width) // 2
    picture.paste(Pillow.fromarray(blended), (left, BAND_PX))
    pen = ImageDraw.Draw(picture)
    if finding.region.outline is not None:
        corners = finding.region.outline * scale + (left, BAND_PX)
        pen.line([(float(x), float(y)) for x, y in corners], fill=OUTLINE_RGB, width=2, joint="curve")
    _band(pen, 0, picture.width, BANNER, BANNER_RGB)
    text = f"{finding.label}: {finding.verdict}, probability {finding.probability:.1%}"
    _band(pen, BAND_PX + height, picture.width, text, LABEL_RGB)
    return picture


def _band(pen: ImageDraw.ImageDraw, top: int, width: int, text: str, fill: tuple[int, int, int]) -> None:
    pen.rectangle((0, top, width, top + BAND_PX - 1), fill=fill)
    pen.text((8, top + BAND_PX // 2), text, fill=TEXT_RGB, font=ImageFont.load_default(FONT_PX), anchor="lm")


def _heat(heat_map: HeatMap | None, shape: tuple[int, int], scale: FloatArray) -> npt.NDArray[np.float32]:
    """What speaks for the finding, from 0 to 1 (the map's greatest value), at each point of the picture.

    Bilinear between the grid's points, constant up to half a cell beyond the outer ones, 0 outside; 0 without a map.
    """
    if heat_map is None:
        return np.zeros(shape, dtype=np.float32)
    grid = np.clip(heat_map.values, 0, None)
    greatest = float(grid.max())
    if not greatest > 0:
        return np.zeros(shape, dtype=np.float32)
    inverse = heat_map.grid_to_source.inverse().matrix.astype(np.float32)
    y = ((np.arange(shape[0]) + 0.5) / scale[1] - 0.5).astype(np.float32)[:, None]
    x = ((np.arange(shape[1]) + 0.5) / scale[0] - 0.5).astype(np.float32)[None, :]
    row = inverse[0, 0] * y + inverse[0, 1] * x + inverse[0, 2]
    column = inverse[1, 0] * y + inverse[1, 1] * x + inverse[1, 2]
    last_row, last_column = grid.shape[0] - 1, grid.shape[1] - 1
    inside = (row >= -0.5) & (row <= last_row + 0.5) & (column >= -0.5) & (column <= last_column + 0.5)
    row, column = np.clip(row, 0, last_row), np.clip(column, 0, last_column)
    top, left = row.astype(np.intp), column.astype(np.intp)
    bottom, right = np.minimum(top + 1, last_row), np.minimum(left + 1, last_column)
    down, along = row - top.astype(np.float32), column - left.astype(np.float32)
    upper = grid[top, left] * (1 - along) + grid[top, right] * along
    lower = grid[bottom, left] * (1 - along) + grid[bottom, right] * along
    return np.asarray((upper * (1 - down) + lower * down) * inside / np.float32(greatest), dtype=np.float32)


def _png(picture: Pillow.Image) -> bytes:
    out = io.BytesIO()
    picture.save(out, "PNG", compress_level=4)
    return out.getvalue()
