"""Outlines of heat maps, against shapes whose place is known."""

from __future__ import annotations

import numpy as np
import pytest

from radserve.findings import HeatMap
from radserve.geometry import SpatialTransform
from radserve.pipelines.regions import outline_region
from radserve.references import InstanceRef

INSTANCE = InstanceRef("1.2", "1.2.3", "1.2.3.4", "1.2.840.10008.5.1.4.1.1.1")


def heat_map(values: np.ndarray, rows: int, columns: int) -> HeatMap:
    return HeatMap(values.astype(np.float32), SpatialTransform.resize((rows, columns), values.shape))


def area(outline: np.ndarray) -> float:
    x, y = outline[:-1].T
    return abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2


def test_a_hot_cell_is_outlined_at_its_place_in_the_source() -> None:
    values = np.zeros((7, 7))
    values[2, 5] = 1.0
    outline = outline_region(INSTANCE, 1, heat_map(values, 700, 1400)).outline
    columns, rows = outline.T
    assert columns.mean() == pytest.approx(1100, abs=20)
    assert rows.mean() == pytest.approx(250, abs=10)
    # The bilinear peak (1 - |x|)(1 - |y|) is above one half on 2 - 2 ln 2 of a cell.
    assert area(outline) == pytest.approx(100 * 200 * (2 - 2 * np.log(2)), rel=0.05)


def test_the_outline_is_closed_and_inside_the_image_even_for_a_peak_in_the_corner() -> None:
    values = np.zeros((7, 7))
    values[0, 0] = 1.0
    outline = outline_region(INSTANCE, 1, heat_map(values, 140, 70)).outline
    assert (outline[0] == outline[-1]).all()
    assert outline.min() >= 0
    assert outline[:, 0].max() <= 70
    assert outline[:, 1].max() <= 140
    assert outline.min(axis=0).tolist() == [0, 0]


def test_of_two_hot_places_the_hotter_is_outlined() -> None:
    values = np.zeros((7, 7))
    values[1, 1], values[5, 5] = 0.9, 1.0
    outline = outline_region(INSTANCE, 1, heat_map(values, 70, 70)).outline
    assert outline[:, 0].min() > 40
    assert outline[:, 1].min() > 40


def test_a_flat_map_gives_the_whole_image() -> None:
    outline = outline_region(INSTANCE, 1, heat_map(np.full((7, 7), 0.3), 50, 80)).outline
    assert outline.min(axis=0).tolist() == [0, 0]
    assert outline.max(axis=0).tolist() == [80, 50]


def test_a_crop_moves_the_outline_into_the_source_frame() -> None:
    values = np.zeros((7, 7))
    values[3, 3] = 1.0
    cropped = SpatialTransform.crop((100, 200), (0, 50), (100, 100)).then(SpatialTransform.resize((100, 100), (7, 7)))
    outline = outline_region(INSTANCE, 1, HeatMap(values.astype(np.float32), cropped)).outline
    assert outline[:-1].mean(axis=0) == pytest.approx([100, 50], abs=1)


@pytest.mark.parametrize("seed", range(20))
def test_any_map_gives_a_closed_polygon_around_its_peak(seed: int) -> None:
    values = np.random.default_rng(seed).normal(size=(7, 7))
    outline = outline_region(INSTANCE, 1, heat_map(values, 70, 70)).outline
    row, column = np.unravel_index(values.argmax(), values.shape)
    low, high = outline.min(axis=0), outline.max(axis=0)
    assert low[0] <= column * 10 + 5 <= high[0]
    assert low[1] <= row * 10 + 5 <= high[1]
