"""A volume by several workers at once: the same as by one call here, whatever the slices are like."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from monai.transforms import LoadImage
from pydicom.uid import ExplicitVRLittleEndian, HTJ2KLossless

from radserve.dicom_io import volume_reading
from radserve.dicom_io.decode import DecodeLimits
from radserve.dicom_io.slices import stack_of
from radserve.dicom_io.volume import decode_volume
from radserve.dicom_io.volume_reading import read_volume
from radserve.errors import DicomError, ErrorCode, GeometryError, WorkerError
from radserve.image import Volume
from radserve.workers import WorkerLimits, WorkerPool
from tests.support.dicoms import ct, ct_series, save

RNG = np.random.default_rng(3)
OF_ANOTHER = 12345.0  # what another patient left in the memory of a worker
STORED = RNG.integers(-1000, 2000, (9, 30, 28)).astype("i2")


class InlineWorkers:
    """Runs tasks here, and notes which."""

    can_fill = True

    def __init__(self) -> None:
        self.ran: list[str] = []

    async def run(self, function: Callable[..., Any], *args: Any) -> Any:
        self.ran.append(function.__name__)
        await asyncio.sleep(0)
        return function(*args)

    async def fill(self, out: np.ndarray, function: Callable[..., Any], *args: Any) -> Any:
        place = np.full_like(out, OF_ANOTHER)
        found = await self.run(function, *args, place)
        out[...] = place
        return found


def series(folder: Path, syntax: str = ExplicitVRLittleEndian, **attributes: Any) -> list[Path]:
    parts = ct_series(STORED, **{"RescaleIntercept": -1024, **attributes})
    return [save(ds, folder / f"{index}.dcm", syntax) for index, ds in enumerate(parts)]


def check_same(found: Volume, expected: Volume) -> None:
    assert np.array_equal(found.array, expected.array)
    assert not found.array.flags.writeable
    assert np.array_equal(found.geometry.affine_lps, expected.geometry.affine_lps)
    for name in ("properties", "provenance", "context", "sources", "slices"):
        assert getattr(found, name) == getattr(expected, name), name


async def test_a_volume_of_workers_is_that_of_one_process_and_monais(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(volume_reading, "SLICES_AT_ONCE", 2)
    limits = WorkerLimits(memory_bytes=2 << 30, cpu_seconds=100, wall_seconds=600)
    async with WorkerPool(name="two", size=2, limits=limits) as pool:
        for syntax in (ExplicitVRLittleEndian, HTJ2KLossless):
            folder = tmp_path / syntax
            folder.mkdir()
            paths = series(folder, syntax)
            monais = np.asarray(LoadImage(reader="PydicomReader", image_only=True)(folder))  # (column, row, slice)
            for order in (paths, paths[::-1]):
                found = await read_volume(pool, order)
                check_same(found, decode_volume(order))
                assert np.array_equal(found.array, monais.transpose(2, 1, 0))


@pytest.mark.parametrize(
    "attributes",
    [{}, {"RescaleIntercept": 0, "RescaleSlope": 1}, {"RescaleSlope": 0.1}, {"BitsStored": 12, "HighBit": 11}],
)
async def test_slices_in_any_order_and_of_any_type_of_values_give_the_same(
    tmp_path: Path, attributes: dict[str, Any]
) -> None:
    values = STORED if "BitsStored" not in attributes else STORED // 2
    parts = ct_series(values, **{"RescaleIntercept": -1024, **attributes})
    paths = [save(ds, tmp_path / f"{index}.dcm") for index, ds in enumerate(parts)]
    for order in (paths, paths[::-1], [*paths[4:], *paths[:4]], [paths[0], *paths[:0:-1]]):
        workers = InlineWorkers()
        check_same(await read_volume(workers, order), decode_volume(order))
        assert workers.ran == ["stack_of", "decode_slices"]
        assert np.array_equal(decode_volume(order).array, decode_volume(paths).array)


async def test_each_slice_has_its_own_rescale(tmp_path: Path) -> None:
    parts = ct_series(STORED)
    for index, ds in enumerate(parts):
        ds.RescaleSlope, ds.RescaleIntercept = 1 + index / 2, -index
    paths = [save(ds, tmp_path / f"{index}.dcm") for index, ds in enumerate(parts)]
    found = await read_volume(InlineWorkers(), paths)
    expected = [each * np.float32(1 + index / 2) - np.float32(index) for index, each in enumerate(STORED)]
    assert np.array_equal(found.array, expected)


async def test_slices_of_two_sizes_are_refused_as_by_one_process(tmp_path: Path) -> None:
    paths = series(tmp_path)
    other = ct_series(np.zeros((9, 12, 28), np.int16), RescaleIntercept=-1024)[4]
    save(other, paths[4])
    with pytest.raises(GeometryError) as caught:
        await read_volume(InlineWorkers(), paths)
    assert caught.value.code is ErrorCode.GEOMETRY_MIXED_SIZE


async def test_what_is_no_stack_of_slices_goes_the_general_way(tmp_path: Path) -> None:
    paths = series(tmp_path)
    alone = save(ct(STORED[0]), tmp_path / "alone.dcm")
    for given, code in (([alone], ErrorCode.GEOMETRY_MISSING), ([], ErrorCode.GEOMETRY_MISSING)):
        with pytest.raises(GeometryError) as caught:
            await read_volume(InlineWorkers(), given)
        assert caught.value.code is code
    paths[-1].write_bytes(b"no DICOM")
    workers = InlineWorkers()
    with pytest.raises(DicomError) as refused:
        await read_volume(workers, paths)
    assert refused.value.code is ErrorCode.NOT_DICOM
    assert workers.ran == ["stack_of", "decode_volume"]


async def test_a_missing_slice_and_one_that_cannot_be_decoded_are_told(tmp_path: Path) -> None:
    paths = series(tmp_path)
    with pytest.raises(GeometryError) as caught:
        await read_volume(InlineWorkers(), [*paths[:3], *paths[4:]])
    assert caught.value.code is ErrorCode.GEOMETRY_GAP
    paths[3].write_bytes(paths[3].read_bytes()[:-100])
    with pytest.raises(DicomError) as refused:
        await read_volume(InlineWorkers(), paths)
    assert refused.value.code is ErrorCode.TRUNCATED


async def test_a_volume_above_the_limits_is_refused_before_a_slice_is_decoded(tmp_path: Path) -> None:
    workers = InlineWorkers()
    with pytest.raises(DicomError) as caught:
        await read_volume(workers, series(tmp_path), DecodeLimits(max_total_bytes=2 * 4 * STORED.size - 2))
    assert caught.value.code is ErrorCode.PIXEL_BUDGET_EXCEEDED
    assert workers.ran == ["stack_of"]


async def test_a_lost_worker_costs_the_volume_and_the_other_tasks_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(volume_reading, "SLICES_AT_ONCE", 2)

    class Losing(InlineWorkers):
        async def run(self, function: Callable[..., Any], *args: Any) -> Any:
            if len(self.ran) == 2:
                self.ran.append("lost")
                raise WorkerError(ErrorCode.WORKER_DIED, "the worker died")
            return await super().run(function, *args)

    workers = Losing()
    with pytest.raises(WorkerError):
        await read_volume(workers, series(tmp_path))
    assert workers.ran == ["stack_of", "decode_slices", "lost", *["decode_slices"] * 3]


async def test_nothing_of_one_patient_is_in_the_volume_of_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(volume_reading, "SLICES_AT_ONCE", 3)
    folders = [tmp_path / name for name in ("one", "whole numbers", "cut", "two sizes", "small")]
    for folder in folders:
        folder.mkdir()
    one, whole, cut, two_sizes = (series(folder) for folder in folders[:4])
    for index, ds in enumerate(ct_series(STORED // 2, RescaleIntercept=0, RescaleSlope=1)):
        save(ds, whole[index])
    cut[4].write_bytes(cut[4].read_bytes()[:-100])
    save(ct_series(np.ones((9, 12, 28), np.int16), RescaleIntercept=-1024)[4], two_sizes[4])
    small = [save(ds, folders[4] / f"{at}.dcm") for at, ds in enumerate(ct_series(STORED[:4, :20, :10]))]
    limits = WorkerLimits(memory_bytes=2 << 30, cpu_seconds=100, wall_seconds=600)
    async with WorkerPool(name="one", size=1, limits=limits) as pool:
        for paths in (one, whole, cut, two_sizes, small, one):
            if paths in (cut, two_sizes):
                with pytest.raises((DicomError, GeometryError)):
                    await read_volume(pool, paths)
            else:
                check_same(await read_volume(pool, paths), decode_volume(paths))
        assert pool.restarts == 0


def test_the_direction_of_a_stack_is_that_of_its_ends(tmp_path: Path) -> None:
    paths = series(tmp_path)
    first, second = stack_of(paths, DecodeLimits()), stack_of(paths[::-1], DecodeLimits())
    assert first is not None
    assert second is not None
    assert first.descending is not second.descending
    assert first.shape == second.shape == STORED.shape
