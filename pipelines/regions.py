"""From a coarse heat map to a place in the source image: the outline of where the model looked most."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from contourpy import contour_generator

from radserve.findings import HeatMap, Region
from radserve.references import InstanceRef

HALF_MAXIMUM = 0.5
UPSAMPLING = 9  # cells are cut this fine before contouring; odd, so that cell centres are among the points


def outline_region(instance: InstanceRef, frame: int, heat_map: HeatMap) -> Region:
    """The region around the peak of `heat_map` in `frame` (counted from 1) of `instance`.

    The outline is the closed level line, at half of the way from the map's median to its maximum, that encloses the
    peak; pixel coordinates as Region says. A flat map gives the outline of the whole analysed area.
    """
    fine, scale = _upsample(heat_map.values)
    corners = _level_line(fine)
    # Fine cell centres back to grid indices, grid to source indices, indices to coordinates of the corner origin.
    grid = (corners + 0.5) / scale - 0.5
    source = heat_map.grid_to_source.apply(grid) + 0.5
    rows, columns = heat_map.grid_to_source.source_shape
    clipped = np.clip(source, 0.0, (rows, columns))
    return Region(instance, frame, np.round(clipped[:, ::-1], 3), heat_map)


def _upsample(values: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float64], int]:
    """Bilinear interpolation of (rows, columns) onto a grid `UPSAMPLING` times as fine, edges held."""
    out = values.astype(np.float64)
    for axis in (0, 1):
        size = out.shape[axis]
        at = np.clip((np.arange(size * UPSAMPLING) + 0.5) / UPSAMPLING - 0.5, 0, size - 1)
        low = np.floor(at).astype(int)
        high = np.minimum(low + 1, size - 1)
        part = np.expand_dims(at - low, 1 - axis)
        out = np.take(out, low, axis) * (1 - part) + np.take(out, high, axis) * part
    return out, UPSAMPLING


def _level_line(fine: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The closed level line (points, 2) of (row, column) indices around the maximum of `fine`."""
    base, top = float(np.median(fine)), float(fine.max())
    if not top > base:
        bottom, right = fine.shape[0] - 0.5, fine.shape[1] - 0.5
        return np.array([[-0.5, -0.5], [-0.5, right], [bottom, right], [bottom, -0.5], [-0.5, -0.5]])
    level = base + HALF_MAXIMUM * (top - base)
    # The edge goes on for a cell and then falls: lines close outside the image and are clipped to its border later.
    padded = np.pad(np.pad(fine, 1, mode="edge"), 1, constant_values=base - (top - base))
    peak = np.unravel_index(int(np.argmax(padded)), padded.shape)
    lines = contour_generator(z=padded).lines(level)
    around = [np.asarray(line)[:, ::-1] for line in lines if _encloses(np.asarray(line)[:, ::-1], peak)]
    line = min(around, key=_area) if around else max((np.asarray(each)[:, ::-1] for each in lines), key=_area)
    return np.asarray(np.vstack([line[:-1], line[:1]]) - 2.0)


def _area(line: npt.NDArray[np.float64]) -> float:
    row, column = line[:-1].T
    return abs(float(np.dot(row, np.roll(column, -1)) - np.dot(column, np.roll(row, -1)))) / 2


def _encloses(line: npt.NDArray[np.float64], point: tuple[np.intp, ...]) -> bool:
    """Even-odd rule: whether the closed `line` encloses `point` (row, column)."""
    row, column = float(point[0]), float(point[1])
    (r0, c0), (r1, c1) = line[:-1].T, line[1:].T
    crosses = (r0 > row) != (r1 > row)
    with np.errstate(divide="ignore", invalid="ignore"):
        at = c0 + (row - r0) / (r1 - r0) * (c1 - c0)
    return bool(np.count_nonzero(crosses & (column < at)) % 2)
