"""Each planted defect of a series has a code of its own and yields no volume; what is harmless yields the same one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset

from radserve.dicom_io.volume import decode_volume
from radserve.errors import ErrorCode, RadserveError
from tests.support.dicoms import ct_series, part10

VOXELS = np.random.default_rng(0).integers(-1000, 2000, (6, 12, 10)).astype(np.int16)
Plant = Callable[[list[Dataset]], list[bytes]]


def files(series: list[Dataset]) -> list[bytes]:
    return [part10(ds) for ds in series]


def missing(series: list[Dataset]) -> list[bytes]:
    return files(series[:2] + series[3:])


def doubled(series: list[Dataset]) -> list[bytes]:
    series[3].ImagePositionPatient = series[2].ImagePositionPatient
    return files(series)


def tilted(series: list[Dataset]) -> list[bytes]:
    for number, ds in enumerate(series):
        x, y, z = ds.ImagePositionPatient
        ds.ImagePositionPatient = [x, y + 0.5 * number, z]
    return files(series)


def turned(series: list[Dataset]) -> list[bytes]:
    series[4].ImageOrientationPatient = [0, 1, 0, 1, 0, 0]
    return files(series)


def of_another_size(series: list[Dataset]) -> list[bytes]:
    (other,) = ct_series(VOXELS[:1, :8])
    other.ImagePositionPatient, other.SOPInstanceUID = series[5].ImagePositionPatient, series[5].SOPInstanceUID
    return files([*series[:5], other])


def without_place(series: list[Dataset]) -> list[bytes]:
    del series[1].ImagePositionPatient
    return files(series)


def without_pixels(series: list[Dataset]) -> list[bytes]:
    del series[1].PixelData
    return files(series)


def cut_short(series: list[Dataset]) -> list[bytes]:
    made = files(series)
    return [*made[:3], made[3][:-20], *made[4:]]


def of_another_unit(series: list[Dataset]) -> list[bytes]:
    series[2].RescaleType = "US"
    return files(series)


def no_dicom(series: list[Dataset]) -> list[bytes]:
    return [*files(series)[:5], b"not DICOM at all"]


HARD: dict[Plant, ErrorCode] = {
    missing: ErrorCode.GEOMETRY_GAP,
    doubled: ErrorCode.GEOMETRY_DUPLICATE,
    tilted: ErrorCode.GEOMETRY_TILT,
    turned: ErrorCode.GEOMETRY_MIXED_ORIENTATION,
    of_another_size: ErrorCode.GEOMETRY_MIXED_SIZE,
    without_place: ErrorCode.GEOMETRY_MISSING,
    without_pixels: ErrorCode.NO_PIXELS,
    cut_short: ErrorCode.TRUNCATED,
    of_another_unit: ErrorCode.PIXELS_INCONSISTENT,
    no_dicom: ErrorCode.NOT_DICOM,
}


def planted(plant: Plant, folder: Path) -> list[Path]:
    paths = []
    for number, data in enumerate(plant(ct_series(VOXELS))):
        paths.append(folder / f"{number}.dcm")
        paths[-1].write_bytes(data)
    return paths


def test_every_hard_defect_has_a_code_of_its_own() -> None:
    assert len(set(HARD.values())) == len(HARD)


@pytest.mark.parametrize("plant", HARD, ids=lambda plant: plant.__name__)
def test_a_hard_defect_yields_no_volume(tmp_path: Path, plant: Plant) -> None:
    with pytest.raises(RadserveError) as caught:
        decode_volume(planted(plant, tmp_path))
    assert caught.value.code is HARD[plant]


def test_without_a_defect_and_in_any_order_there_is_one(tmp_path: Path) -> None:
    volumes = [
        decode_volume(planted(plant, tmp_path)) for plant in (files, lambda series: files(series[3:] + series[:3]))
    ]
    for volume in volumes:
        np.testing.assert_array_equal(volume.array, VOXELS)
        assert not volume.provenance.warnings


def test_a_repair_is_listed_in_the_result_and_the_file_stays_as_it_was(tmp_path: Path) -> None:
    def odd(series: list[Dataset]) -> list[bytes]:
        series[0].SpecificCharacterSet = "ISO_IR 999"
        return files(series)

    paths = planted(odd, tmp_path)
    before = [path.read_bytes() for path in paths]
    (warning,) = decode_volume(paths).provenance.warnings
    assert warning.startswith("repair: SpecificCharacterSet: ")
    assert [path.read_bytes() for path in paths] == before
