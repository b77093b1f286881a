"""Series as volumes: the affine against formulas made elsewhere, and every refusal."""

from __future__ import annotations

import io
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from highdicom import get_volume_from_series
from pydicom import Dataset, dcmread

from radserve.dicom_io.decode import decode_image
from radserve.dicom_io.volume import assemble_volume
from radserve.errors import ErrorCode, GeometryError
from radserve.image import Image, PlanePosition
from tests.support.dicoms import cr, ct, ct_series, part10, save

RNG = np.random.default_rng(0)
VOXELS = RNG.integers(-1000, 2000, (7, 10, 12)).astype("i2")


def rotation(degrees: Sequence[float]) -> np.ndarray:
    result = np.eye(3)
    for axis, angle in enumerate(np.radians(degrees)):
        turn = np.eye(3)
        first, second = (index for index in range(3) if index != axis)
        turn[first, first] = turn[second, second] = np.cos(angle)
        turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
        result = turn @ result
    return result


def oblique(volume: np.ndarray = VOXELS, **attributes: Any) -> list[Dataset]:
    turned = rotation((20, -35, 50))
    orientation = [*turned[:, 0], *turned[:, 1]]
    return ct_series(
        volume,
        origin=(-12.5, 40.0, 300.25),
        orientation=[round(float(part), 8) for part in orientation],
        step_mm=2.5,
        **{"spacing": (0.8, 0.6), **attributes},
    )


def decoded(series: Sequence[Dataset], folder: Path, seed: int = 3) -> list[Image]:
    images = [decode_image(save(ds, folder / f"{index}.dcm")) for index, ds in enumerate(series)]
    random.Random(seed).shuffle(images)
    return images


def refusal(images: Sequence[Image]) -> GeometryError:
    with pytest.raises(GeometryError) as caught:
        assemble_volume(images)
    return caught.value


def test_an_oblique_series_in_any_order_is_one_volume_with_the_affine_highdicom_finds(tmp_path: Path) -> None:
    series = oblique(RescaleIntercept=-24)
    volume = assemble_volume(decoded(series, tmp_path))
    reference = get_volume_from_series([dcmread(io.BytesIO(part10(ds))) for ds in series])
    # highdicom stacks along the opposite normal: compare voxels by their place in the patient.
    np.testing.assert_allclose(volume.array, VOXELS - 24.0)
    inverse = np.linalg.inv(reference.affine)
    for index in ((0, 0, 0), (6, 0, 0), (0, 9, 0), (0, 0, 11), (3, 4, 5), (6, 9, 11)):
        place = np.append(volume.geometry.to_patient(index), 1)
        own = tuple(np.rint(inverse @ place).astype(int)[:3])
        np.testing.assert_allclose((inverse @ place)[:3], own, atol=1e-4)
        assert reference.array[own] == volume.array[index]


def test_the_affine_is_that_of_the_standards_equation_worked_by_hand(tmp_path: Path) -> None:
    series = oblique()
    geometry = assemble_volume(decoded(series, tmp_path)).geometry
    for slice_index in (0, 4, 6):
        ds = series[slice_index]
        row_cosine, column_cosine = np.array(ds.ImageOrientationPatient, float).reshape(2, 3)
        between_rows, between_columns = map(float, ds.PixelSpacing)
        for row, column in ((0, 0), (9, 0), (0, 11), (5, 7)):
            expected = (
                np.array(ds.ImagePositionPatient, float)
                + column_cosine * between_rows * row
                + row_cosine * between_columns * column
            )
            np.testing.assert_allclose(geometry.to_patient((slice_index, row, column)), expected, atol=1e-5)
    assert geometry.spacing_mm == pytest.approx((2.5, 0.8, 0.6), abs=1e-5)
    assert geometry.shape == (7, 10, 12)
    assert geometry.frame_of_reference_uid == series[0].FrameOfReferenceUID


def test_the_order_of_the_images_changes_nothing(tmp_path: Path) -> None:
    images = decoded(oblique(), tmp_path)
    first, second = assemble_volume(images), assemble_volume(images[::-1])
    assert np.array_equal(first.array, second.array)
    assert np.array_equal(first.geometry.affine_lps, second.geometry.affine_lps)


def test_instance_numbers_that_run_the_other_way_do_not_matter(tmp_path: Path) -> None:
    series = oblique()
    for number, ds in enumerate(reversed(series)):
        ds.InstanceNumber = number
    assert np.array_equal(assemble_volume(decoded(series, tmp_path)).array, VOXELS)


def test_a_volume_is_float32_and_knows_its_range_and_sources(tmp_path: Path) -> None:
    series = oblique(RescaleSlope=0.5)
    volume = assemble_volume(decoded(series, tmp_path))
    assert volume.array.dtype == np.float32
    assert not volume.array.flags.writeable
    assert volume.properties.value_range == (-16384.0, 16383.5)
    assert {source.instance.sop_instance_uid for source in volume.sources} == {ds.SOPInstanceUID for ds in series}
    assert any("stacked 7 slices" in step for step in volume.provenance.steps)


def test_positions_rounded_to_a_hundredth_of_a_millimetre_are_a_regular_volume(tmp_path: Path) -> None:
    series = ct_series(VOXELS, step_mm=0.625)
    for ds in series:
        ds.ImagePositionPatient = [round(float(part), 2) for part in ds.ImagePositionPatient]
    assert assemble_volume(decoded(series, tmp_path)).geometry.spacing_mm[0] == pytest.approx(0.625, abs=2e-3)


def test_a_gap_is_named_with_its_size_and_place(tmp_path: Path) -> None:
    series = ct_series(VOXELS, origin=(0, 0, 100), step_mm=2)
    del series[3]
    error = refusal(decoded(series, tmp_path))
    assert error.code == ErrorCode.GEOMETRY_GAP
    assert "between slices 3 and 4, at 104.00 mm, the step is 4.00 mm, elsewhere 2.00 mm" in error.client_message


def test_a_position_that_strays_along_the_normal_is_a_gap(tmp_path: Path) -> None:
    series = ct_series(VOXELS, step_mm=2)
    series[2].ImagePositionPatient = [0, 0, 4.05]
    assert refusal(decoded(series, tmp_path)).code == ErrorCode.GEOMETRY_GAP


def test_two_slices_in_one_place_are_refused(tmp_path: Path) -> None:
    series = ct_series(VOXELS, step_mm=2)
    series[4].ImagePositionPatient = series[3].ImagePositionPatient
    error = refusal(decoded(series, tmp_path))
    assert error.code == ErrorCode.GEOMETRY_DUPLICATE
    assert "slices 4 and 5 lie in one plane, at 6.00 mm" in error.client_message


def test_a_tilted_gantry_is_refused_with_its_angle(tmp_path: Path) -> None:
    series = ct_series(VOXELS, step_mm=2)
    for index, ds in enumerate(series):
        ds.ImagePositionPatient = [0, float(np.tan(np.radians(12)) * 2 * index), 2.0 * index]
    error = refusal(decoded(series, tmp_path))
    assert error.code == ErrorCode.GEOMETRY_TILT
    assert "tilt 12.00 degrees" in error.client_message


def test_slices_of_two_orientations_are_refused(tmp_path: Path) -> None:
    series = ct_series(VOXELS)
    series[5].ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
    assert refusal(decoded(series, tmp_path)).code == ErrorCode.GEOMETRY_MIXED_ORIENTATION


def test_slices_of_two_frames_of_reference_are_refused(tmp_path: Path) -> None:
    series = ct_series(VOXELS)
    series[5].FrameOfReferenceUID = "1.2.3"
    error = refusal(decoded(series, tmp_path))
    assert error.code == ErrorCode.GEOMETRY_MIXED_ORIENTATION
    assert "frame of reference" in error.client_message


def test_slices_of_two_sizes_are_refused(tmp_path: Path) -> None:
    series = [*ct_series(VOXELS[:3]), ct(VOXELS[0, :-1], position=(0, 0, 6))]
    error = refusal(decoded(series, tmp_path))
    assert error.code == ErrorCode.GEOMETRY_MIXED_SIZE
    assert "(9, 12)" in error.client_message


def test_slices_of_two_pixel_spacings_are_refused(tmp_path: Path) -> None:
    series = ct_series(VOXELS)
    series[2].PixelSpacing = [0.7, 0.71]
    assert refusal(decoded(series, tmp_path)).code == ErrorCode.GEOMETRY_MIXED_SIZE


@pytest.mark.parametrize("keyword", ["ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"])
def test_slices_without_a_place_are_refused(tmp_path: Path, keyword: str) -> None:
    series = ct_series(VOXELS, **{keyword: None})
    assert refusal(decoded(series, tmp_path)).code == ErrorCode.GEOMETRY_MISSING


def test_an_orientation_that_is_no_pair_of_unit_vectors_is_refused(tmp_path: Path) -> None:
    series = ct_series(VOXELS, ImageOrientationPatient=[1, 0, 0, 1, 0, 0])
    assert refusal(decoded(series, tmp_path)).code == ErrorCode.GEOMETRY_MISSING


def test_nothing_one_slice_and_projections_are_no_volume(tmp_path: Path) -> None:
    for images in ([], decoded(ct_series(VOXELS[:1]), tmp_path), decoded([cr(VOXELS[0]), cr(VOXELS[1])], tmp_path)):
        assert refusal(images).code == ErrorCode.GEOMETRY_MISSING


def test_the_frames_of_one_multi_frame_image_are_a_volume(tmp_path: Path) -> None:
    images = decoded(ct_series(VOXELS), tmp_path)
    plane = images[0].planes[0]
    planes = tuple(
        PlanePosition(plane.image_orientation, (0.0, 0.0, 3.0 * index), plane.frame_of_reference_uid)
        for index in range(len(VOXELS))
    )
    image = replace(images[0], array=VOXELS[::-1], planes=planes[::-1])
    volume = assemble_volume([image])
    assert np.array_equal(volume.array, VOXELS)
    assert volume.geometry.spacing_mm[0] == pytest.approx(3.0)
