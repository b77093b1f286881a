"""Transforms against resampling by hand, volumes against the standard's equation."""

from __future__ import annotations

import numpy as np
import pytest

from radserve.errors import RadserveError
from radserve.geometry import SpatialTransform, VolumeGeometry


def test_an_identity_moves_nothing() -> None:
    points = [[0, 0], [3, 4]]
    assert SpatialTransform.identity((5, 6)).apply(points).tolist() == points


def test_a_crop_maps_its_first_pixel_to_its_start() -> None:
    source = np.arange(70).reshape(7, 10)
    transform = SpatialTransform.crop((7, 10), (2, 3), (4, 5))
    prepared = source[2:6, 3:8]
    for index in np.ndindex(prepared.shape):
        row, column = transform.apply(index).astype(int)
        assert prepared[index] == source[row, column]


@pytest.mark.parametrize("factor", [2, 3, 5])
def test_a_resize_aligns_the_edges(factor: int) -> None:
    """A pixel of the small image is the mean of a block: its centre is the block's centre."""
    transform = SpatialTransform.resize((12 * factor, 7 * factor), (12, 7))
    rows = np.arange(12 * factor).reshape(12, factor).mean(axis=1)
    found = transform.apply([[row, 0] for row in range(12)])
    np.testing.assert_allclose(found[:, 0], rows)
    np.testing.assert_allclose(found[:, 1], (factor - 1) / 2)


def test_a_resize_maps_corners_to_corners() -> None:
    transform = SpatialTransform.resize((100, 37), (28, 28))
    np.testing.assert_allclose(transform.apply([-0.5, -0.5]), [-0.5, -0.5], atol=1e-12)
    np.testing.assert_allclose(transform.apply([27.5, 27.5]), [99.5, 36.5], atol=1e-12)


def test_a_chain_is_the_maps_one_after_the_other() -> None:
    first = SpatialTransform.crop((50, 60), (5, -3), (40, 40))
    second = SpatialTransform.resize((40, 40), (16, 10))
    chain = first.then(second)
    points = np.random.default_rng(0).uniform(0, 9, (20, 2))
    np.testing.assert_allclose(chain.apply(points), first.apply(second.apply(points)))
    assert (chain.source_shape, chain.prepared_shape) == ((50, 60), (16, 10))


def test_a_chain_of_maps_that_do_not_meet_is_refused() -> None:
    with pytest.raises(RadserveError, match="then"):
        SpatialTransform.identity((4, 4)).then(SpatialTransform.identity((5, 5)))


def test_the_inverse_undoes_the_map() -> None:
    transform = SpatialTransform.resize((11, 12, 13), (5, 6, 7))
    points = np.random.default_rng(0).uniform(0, 5, (20, 3))
    np.testing.assert_allclose(transform.inverse().apply(transform.apply(points)), points)


@pytest.mark.parametrize(
    ("matrix", "source", "prepared"),
    [
        (np.zeros((3, 3)), (4, 4), (4, 4)),
        (np.full((3, 3), np.nan), (4, 4), (4, 4)),
        (np.eye(3)[:2], (4, 4), (4, 4)),
        (np.array([[1, 0, 0], [0, 1, 0], [0, 1, 1.0]]), (4, 4), (4, 4)),
        (np.eye(3), (4, 4, 4), (4, 4)),
        (np.eye(3), (4, 4), (4, 0)),
    ],
)
def test_a_matrix_or_shape_that_is_no_transform_is_refused(matrix, source, prepared) -> None:
    with pytest.raises(RadserveError, match="got"):
        SpatialTransform(matrix, source, prepared)


def test_a_transform_does_not_change_with_the_matrix_it_was_made_of() -> None:
    matrix = np.eye(3)
    transform = SpatialTransform(matrix, (4, 4), (4, 4))
    matrix[0, 2] = 9
    assert transform.apply([0, 0]).tolist() == [0, 0]
    with pytest.raises(ValueError, match="read-only"):
        transform.matrix[0, 2] = 9


def test_a_volume_maps_indices_to_the_patient() -> None:
    affine = np.array([[0, 0, 0.5, -10], [0, 0.8, 0, 20], [3, 0, 0, 100], [0, 0, 0, 1.0]])
    geometry = VolumeGeometry(affine, (10, 20, 30))
    assert geometry.to_patient((0, 0, 0)).tolist() == [-10, 20, 100]
    assert geometry.to_patient([[2, 1, 4]]).tolist() == [[-8, 20.8, 106]]
    assert geometry.spacing_mm == (3, 0.8, 0.5)


@pytest.mark.parametrize(
    ("affine", "shape"),
    [
        (np.eye(3), (1, 1, 1)),
        (np.zeros((4, 4)), (1, 1, 1)),
        (np.eye(4), (1, 1)),
        (np.eye(4), (0, 1, 1)),
    ],
)
def test_a_volume_without_a_grid_is_refused(affine, shape) -> None:
    with pytest.raises(RadserveError, match="got"):
        VolumeGeometry(affine, shape)
