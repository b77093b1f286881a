"""Volumes: spacing and orientation in MONAI's RAS, places mapped back to source voxels."""

from __future__ import annotations

import numpy as np
import pytest

from radserve.pipelines.preprocess.adapter import prepare_volume_now
from tests.pipelines.preprocess.builders import chain, volume_of

SPACING_MM = (3.0, 0.8, 0.5)
SHAPE = (20, 60, 80)
TO_ISOTROPIC = chain(
    "Orientation", "Spacing", "Resize",
    Orientation={"axcodes": "RAS"}, Spacing={"pixdim": [1, 1, 1]},
    Resize={"spatial_size": [30, 36, 45], "mode": "trilinear"},
)  # fmt: skip


def test_a_cube_maps_back_to_its_voxels() -> None:
    array = np.zeros(SHAPE, np.float32)
    first, last = np.array([6, 20, 30]), np.array([11, 39, 61])
    array[tuple(slice(low, high + 1) for low, high in zip(first, last, strict=True))] = 4095

    prepared = prepare_volume_now((*chain("VoiWindow"), *TO_ISOTROPIC), volume_of(array, SPACING_MM))

    assert prepared.tensor.shape == (1, 30, 36, 45)
    places = prepared.transform.apply(np.argwhere(prepared.tensor[0] > 0.5))
    assert np.abs(places.min(axis=0) - first).max() <= 1
    assert np.abs(places.max(axis=0) - last).max() <= 1


@pytest.mark.parametrize(
    "steps",
    [
        chain("Orientation", Orientation={"axcodes": "RAS"}),
        chain("Orientation", "Rotate90", Orientation={"axcodes": "LIP"}, Rotate90={"spatial_axes": [0, 2]}),
        chain("Spacing", Spacing={"pixdim": [2.0, 1.0, 1.0]}),
        chain("ResizeAntialias", ResizeAntialias={"spatial_size": [20, 20]}),
        chain("CropToSquare", "Resize", Resize={"spatial_size": [15, 30, 30], "mode": "trilinear"}),
        TO_ISOTROPIC,
    ],
    ids=lambda steps: "+".join(spec.name for spec in steps),
)
def test_a_prepared_voxel_lies_where_its_transform_says(steps) -> None:  # type: ignore[no-untyped-def]
    coordinates = np.indices(SHAPE).astype(np.float32)

    prepared = [prepare_volume_now(steps, volume_of(axis, SPACING_MM)) for axis in coordinates]

    seen = np.stack([one.tensor[0] for one in prepared], axis=-1)
    transform = prepared[0].transform
    expected = transform.apply(np.moveaxis(np.indices(transform.prepared_shape), 0, -1))
    margin = 2 * np.abs(transform.matrix[:-1, :-1]).sum(axis=1).clip(min=1)
    inside = ((expected >= margin) & (expected <= np.array(SHAPE) - 1 - margin)).all(axis=-1)
    assert inside.sum() > 100
    assert np.abs(seen - expected)[inside].max() <= 0.05  # of a source voxel


def test_orientation_reads_the_patient_axes_of_the_volume() -> None:
    array = np.zeros(SHAPE, np.float32)
    array[-1, 0, 0] = 1  # most cranial slice, most anterior row, rightmost column of the patient

    prepared = prepare_volume_now(chain("Orientation", Orientation={"axcodes": "RAS"}), volume_of(array, SPACING_MM))

    # RAS: the first axis grows to the right, the second to the front, the third to the head.
    assert prepared.tensor.shape == (1, 80, 60, 20)
    assert np.argwhere(prepared.tensor[0]).tolist() == [[79, 59, 19]]


def test_a_volume_is_windowed_as_a_whole() -> None:
    array = np.linspace(-100, 5000, int(np.prod(SHAPE)), dtype=np.float32).reshape(SHAPE)

    prepared = prepare_volume_now(chain("VoiWindow"), volume_of(array, SPACING_MM))

    assert np.abs(prepared.tensor[0] - np.clip(array / 4095, 0, 1)).max() <= 1e-5
