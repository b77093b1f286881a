"""The Preprocessor port: what it gives, what it refuses, where it runs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

import numpy as np
import pytest

from radserve.errors import ErrorCode, RadserveError
from radserve.pipelines.preprocess.adapter import PRELOAD, MonaiPreprocessor, prepare_now, prepare_volume_now
from radserve.pipelines.preprocess.allowed import ALLOWED, UNUSED_BY_MONAI
from radserve.workers import WorkerLimits, WorkerPool
from tests.pipelines.preprocess.builders import chain, image_of, radiograph, volume_of

PACK_CHAIN = chain(
    "VoiWindow", "CropToSquare", "ResizeAntialias", "NormalizeIntensity",
    ResizeAntialias={"spatial_size": [28, 28]}, NormalizeIntensity={"subtrahend": 0.5, "divisor": 0.25},
)  # fmt: skip
CHAINS = {"chest": PACK_CHAIN, "broken": chain("Rotate90", Rotate90={"spatial_axes": [0, 7]})}


def test_the_tensor_is_what_the_pack_declares_and_says_what_was_done() -> None:
    (prepared,) = prepare_now(PACK_CHAIN, image_of(radiograph(90, 70)), [0])

    assert prepared.tensor.shape == (1, 28, 28)
    assert prepared.tensor.dtype == np.float32
    assert prepared.tensor.flags.c_contiguous and not prepared.tensor.flags.writeable
    assert prepared.transform.source_shape == (90, 70)
    assert prepared.provenance.steps == ("rescale", *map(str, PACK_CHAIN))


def test_a_hundred_runs_give_one_tensor_to_the_bit() -> None:
    image = image_of(radiograph(190, 170))

    found = {prepare_now(PACK_CHAIN, image, [0])[0].tensor.tobytes() for _ in range(100)}

    assert len(found) == 1


def test_frames_are_prepared_each_by_itself_in_the_order_asked() -> None:
    frames = np.stack([radiograph(50, 40), radiograph(50, 40)[::-1], radiograph(50, 40) // 2])

    prepared = prepare_now(PACK_CHAIN, image_of(frames), [2, 0])

    alone = [prepare_now(PACK_CHAIN, image_of(frames[index]), [0])[0] for index in (2, 0)]
    assert [one.tensor.tobytes() for one in prepared] == [one.tensor.tobytes() for one in alone]


async def test_in_the_worker_the_same_bytes_come_out_and_errors_are_named() -> None:
    image, volume = image_of(radiograph(310, 250)), volume_of(radiograph(36, 36).astype("f4")[np.newaxis], (3, 1, 1))
    async with WorkerPool(
        name="preprocess", size=1, limits=WorkerLimits(None, None, 120.0), preload=(PRELOAD,)
    ) as pool:
        preprocessor = MonaiPreprocessor(CHAINS, pool)

        (prepared,) = await preprocessor.prepare(image, "chest", [0])
        prepared_volume = await preprocessor.prepare_volume(volume, "chest")
        with pytest.raises(RadserveError, match=r"transform Rotate90\(spatial_axes=\(0, 7\)\) cannot") as broken:
            await preprocessor.prepare(image, "broken", [0])

    (here,) = prepare_now(PACK_CHAIN, image, [0])
    assert prepared.tensor.tobytes() == here.tensor.tobytes()
    assert np.array_equal(prepared.transform.matrix, here.transform.matrix)
    assert prepared.provenance == here.provenance
    assert prepared_volume.tensor.tobytes() == prepare_volume_now(PACK_CHAIN, volume).tensor.tobytes()
    assert broken.value.code is ErrorCode.UNSUPPORTED_PIXELS


EVERY_TRANSFORM = chain(
    "VoiWindow", "MapIntensity",
    "GaussianSmooth", "AdjustContrast", "ShiftIntensity", "ThresholdIntensity", "ScaleIntensity",
    "ScaleIntensityRange", "ScaleIntensityRangePercentiles", "NormalizeIntensity", "Spacing", "Resize", "CropToSquare",
    "Rotate90", "Flip", "SpatialPad", "CenterSpatialCrop", "ResizeWithPadOrCrop", "ResizeAntialias", "RepeatChannel",
    MapIntensity={"source": [0, 0.5, 1], "target": [0, 0.4, 1]},
    GaussianSmooth={"sigma": 1.5}, AdjustContrast={"gamma": 0.7}, ShiftIntensity={"offset": 0.1},
    ThresholdIntensity={"threshold": 0.2}, ScaleIntensityRange={"a_min": 0, "a_max": 1},
    ScaleIntensityRangePercentiles={"lower": 1, "upper": 99, "b_min": 0, "b_max": 1},
    Spacing={"pixdim": [0.7, 0.9]}, Resize={"spatial_size": [80, 70], "mode": "bilinear", "anti_aliasing": True},
    SpatialPad={"spatial_size": [90, 90]}, CenterSpatialCrop={"roi_size": [64, 64]},
    ResizeWithPadOrCrop={"spatial_size": [60, 70]}, ResizeAntialias={"spatial_size": [28, 28]},
    RepeatChannel={"repeats": 3},
)  # fmt: skip


def loaded(names: Sequence[str]) -> list[str]:
    """Which of the packages this process has imported; that none of them is marked as absent."""
    assert None not in sys.modules.values()
    return [name for name in names if name in sys.modules]


async def test_a_worker_imports_no_more_than_the_allowed_transforms_use() -> None:
    image = image_of(radiograph(310, 250), pixel_spacing_mm=(0.8, 0.8))
    turned = chain("Orientation", Orientation={"axcodes": "RAS"})
    volume = volume_of(radiograph(36, 30).astype("f4")[np.newaxis], (3, 1, 1))
    assert {spec.name for spec in (*EVERY_TRANSFORM, *turned)} == set(ALLOWED)
    async with WorkerPool(name="lean", size=1, limits=WorkerLimits(None, None, 120.0), preload=(PRELOAD,)) as pool:
        preprocessor = MonaiPreprocessor({"image": EVERY_TRANSFORM, "volume": turned}, pool)
        assert await pool.run(loaded, [*UNUSED_BY_MONAI, "monai"]) == ["monai"]
        (prepared,) = await preprocessor.prepare(image, "image", [0])
        prepared_volume = await preprocessor.prepare_volume(volume, "volume")
        assert await pool.run(loaded, UNUSED_BY_MONAI) == []
    assert prepared.tensor.tobytes() == prepare_now(EVERY_TRANSFORM, image, [0])[0].tensor.tobytes()
    assert prepared_volume.tensor.tobytes() == prepare_volume_now(turned, volume).tensor.tobytes()


async def test_an_unknown_input_or_frame_is_refused_before_a_worker_is_asked() -> None:
    async with WorkerPool(name="unused", size=1, limits=WorkerLimits(None, None, 1.0)) as pool:
        preprocessor = MonaiPreprocessor(CHAINS, pool)

        with pytest.raises(RadserveError, match=r"input 'knee' is not one of \['broken', 'chest'\]") as unknown:
            await preprocessor.prepare(image_of(radiograph(9, 9)), "knee", [0])
        with pytest.raises(RadserveError, match="frame: got 1, expected 0 to 0") as missing:
            await preprocessor.prepare(image_of(radiograph(9, 9)), "chest", [1])

    assert unknown.value.code is ErrorCode.PACK_INVALID
    assert missing.value.code is ErrorCode.INVALID_ARGUMENT


def test_the_serving_process_never_imports_torch_or_monai() -> None:
    program = (
        "import pkgutil, importlib, sys, radserve.pipelines as pipelines\n"
        "from radserve.pipelines.preprocess import adapter, chain\n"
        "from radserve.workers import WorkerLimits, WorkerPool\n"
        "pool = WorkerPool(name='p', size=1, limits=WorkerLimits(None, None, 1.0), preload=(adapter.PRELOAD,))\n"
        "chains = {'chest': chain.chain_of([('VoiWindow', {}), ('Resize', {'spatial_size': [28, 28]})])}\n"
        "adapter.MonaiPreprocessor(chains, pool)\n"
        "print(sorted({'torch', 'monai', 'pydicom'} & set(sys.modules)))\n"
    )

    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert result.stdout.strip() == "[]"
