"""What of a volume a model did not see is said, in millimetres."""

from __future__ import annotations

import numpy as np
import pytest

from radserve.geometry import SpatialTransform, VolumeGeometry
from radserve.models.catalogue import PackCatalogue
from radserve.pipelines.preprocess.adapter import prepare_volume_now
from radserve.pipelines.preprocess.chain import chain_of
from radserve.pipelines.volumes import cut_warnings
from radserve.results import WarningCode
from tests.pipelines.preprocess.builders import volume_of


def told(shape: tuple[int, int, int], spacing_mm: tuple[float, float, float]) -> list[str]:
    """The warnings of a volume that goes through the chain of the CT pack, a cube of 384 mm."""
    (use,) = PackCatalogue().get("ct-chest-mini").inputs
    volume = volume_of(np.zeros(shape, np.float32), spacing_mm)
    chain = chain_of((step.transform, step.arguments) for step in use.preprocess)
    warnings = cut_warnings(volume.geometry, prepare_volume_now(chain, volume).transform)
    assert {each.code for each in warnings} <= {WarningCode.VOLUME_CUT}
    return [each.message for each in warnings]


def test_a_volume_that_is_longer_than_the_cube_is_warned_of_with_both_sizes() -> None:
    (message,) = told((66, 45, 40), (8.0, 8.0, 8.0))
    assert message.startswith("Of the 528 x 360 x 320 mm of a volume (slices, rows, columns) the model reads 38")
    assert " x 360 x 320 mm; what lies outside was not analysed." in message


@pytest.mark.parametrize("shape", [(48, 48, 48), (20, 45, 10)])
def test_a_volume_that_fits_is_not_warned_of(shape: tuple[int, int, int]) -> None:
    assert told(shape, (8.0, 8.0, 8.0)) == []


@pytest.mark.parametrize(("start", "warned"), [(0.9, False), (1.1, True), (-3.0, False)])
def test_less_than_a_prepared_voxel_is_no_cut(start: float, warned: bool) -> None:
    matrix = np.diag([1.0, 1.0, 1.0, 1.0])
    matrix[0, 3] = start
    transform = SpatialTransform(matrix, (20, 20, 20), (26, 20, 20))
    geometry = VolumeGeometry(np.diag([1.0, 1.0, 3.0, 1.0])[:, [2, 1, 0, 3]], (20, 20, 20))
    assert [each.code for each in cut_warnings(geometry, transform)] == [WarningCode.VOLUME_CUT] * warned
