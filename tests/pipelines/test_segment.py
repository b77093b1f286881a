"""Masks on the source grid: sampled axis by axis, they are those of a general affine interpolation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import affine_transform, gaussian_filter

from radserve.geometry import SpatialTransform
from radserve.pipelines.segment import INSIDE, probabilities_on_source, segment_volume
from radserve.references import InstanceRef

GRID, SOURCE = (12, 9, 10), (17, 40, 30)
SLICES = tuple((InstanceRef("1.2", "1.3", f"1.4.{at}", "1.5"), 1) for at in range(SOURCE[0]))


def blob() -> np.ndarray:
    values = gaussian_filter(np.random.default_rng(3).standard_normal(GRID), 1.2)
    return (0.5 + 0.5 * values / np.abs(values).max()).astype(np.float32)


def turned(matrix: np.ndarray) -> SpatialTransform:
    """Grid axes x, y, z to slices, rows, columns, one of them the other way round; padded on one side."""
    return SpatialTransform(matrix, SOURCE, GRID)


AXES = np.array([[0, 0, 1.7, -1.2], [0, -4.6, 0, 38.9], [-2.4, 0, 0, 27.5], [0, 0, 0, 1.0]])


def oblique() -> np.ndarray:
    angle = np.radians(11)
    turn = np.eye(4)
    turn[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return turn @ AXES


@pytest.mark.parametrize("matrix", [AXES, oblique()], ids=["axes", "oblique"])
def test_probabilities_on_the_source_are_a_linear_interpolation_that_falls_to_nothing(matrix: np.ndarray) -> None:
    probabilities, transform = blob(), turned(matrix)
    back = np.linalg.inv(matrix)
    expected = affine_transform(
        probabilities, back[:3, :3], back[:3, 3], output_shape=SOURCE, order=1, mode="grid-constant"
    )
    found = probabilities_on_source(probabilities, transform)
    assert found.shape == SOURCE and found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert found.max() > 0.6 and (found == 0).any()


@pytest.mark.parametrize("matrix", [AXES, oblique()], ids=["axes", "oblique"])
def test_the_mask_is_where_the_probability_on_the_source_is_above_half(matrix: np.ndarray) -> None:
    probabilities, transform = blob(), turned(matrix)
    mask = segment_volume(probabilities, transform, SLICES)
    assert mask is not None
    found = np.zeros(SOURCE, bool)
    for at, (instance, _) in enumerate(mask.frames):
        found[int(instance.sop_instance_uid.rpartition(".")[2])] = mask.frame(at)
    away = np.abs(probabilities_on_source(probabilities, transform) - INSIDE) > 1e-5  # not on the very edge
    np.testing.assert_array_equal(found[away], (probabilities_on_source(probabilities, transform) > INSIDE)[away])
    assert 100 < found.sum() < found.size
