"""Values and places after a chain, against stock MONAI, Pillow, numpy and pixels that carry their own coordinates."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image as PillowImage

from radserve.errors import ErrorCode, PackError, RadserveError
from radserve.pipelines.preprocess.adapter import prepare_now
from radserve.pipelines.preprocess.chain import TransformSpec, chain_of
from radserve.presentation import present_frame
from tests.pipelines.preprocess.builders import chain, image_of, radiograph

FloatArray = npt.NDArray[np.float32]
# Mean absolute difference by prepared size, of the window: MONAI filters with a Gaussian or a box, we with a triangle.
MAE_TO_STOCK = {28: 5e-3, 64: 3e-3, 224: 2e-3}
BORDER = 2  # prepared pixels in which MONAI's Gaussian mixes in the zeros it pads with


def _prepared(steps: tuple[TransformSpec, ...], array: npt.NDArray[Any], **described: Any) -> FloatArray:
    (prepared,) = prepare_now(steps, image_of(array, **described), [0])
    return prepared.tensor


def _stock(array: npt.NDArray[Any], size: int, **resize: Any) -> FloatArray:
    from monai.transforms import Compose, Resize, ScaleIntensityRange

    window = ScaleIntensityRange(a_min=0, a_max=4095, b_min=0, b_max=1, clip=True)  # TWELVE_BITS, by PS3.3 C.11.2.1.2.1
    return np.asarray(Compose([window, Resize(spatial_size=(size, size), **resize)])(array[np.newaxis].astype("f4")))


@pytest.mark.parametrize("size", MAE_TO_STOCK)
@pytest.mark.parametrize(
    "resize", [{"mode": "bilinear", "anti_aliasing": True}, {"mode": "area"}], ids=["blur", "area"]
)
def test_a_resized_window_is_that_of_stock_monai(size: int, resize: dict[str, Any]) -> None:
    array = radiograph(620, 500)

    ours = _prepared(chain("VoiWindow", "ResizeAntialias", ResizeAntialias={"spatial_size": size}), array)

    difference = np.abs(ours - _stock(array, size, **resize))
    assert difference[:, BORDER:-BORDER, BORDER:-BORDER].mean() <= MAE_TO_STOCK[size]


@pytest.mark.parametrize("sizes", [(28, 28), (61, 47), (900, 700)])
def test_resizing_is_that_of_pillow(sizes: tuple[int, int]) -> None:
    array = radiograph(620, 500)
    steps = chain("VoiWindow", "ResizeAntialias", ResizeAntialias={"spatial_size": sizes})

    ours = _prepared(steps, array)

    presented = PillowImage.fromarray(present_frame(image_of(array), 0))
    theirs = np.asarray(presented.resize(sizes[::-1], PillowImage.Resampling.BILINEAR))
    assert np.abs(ours[0] - theirs).max() <= 1e-5


def test_a_size_that_is_there_already_changes_no_bit() -> None:
    array = radiograph(28, 28)

    ours = _prepared(chain("VoiWindow", "CropToSquare", "ResizeAntialias", ResizeAntialias={"spatial_size": 28}), array)

    assert np.array_equal(ours[0], present_frame(image_of(array), 0))


def test_monochrome1_is_the_negative_of_monochrome2() -> None:
    steps = chain("VoiWindow", "ResizeAntialias", ResizeAntialias={"spatial_size": 28})

    dark, bright = (
        _prepared(steps, radiograph(90, 70), photometric_interpretation=photometric)
        for photometric in ("MONOCHROME1", "MONOCHROME2")
    )

    assert np.abs(dark - (1 - bright)).max() <= 1e-6
    assert np.abs(dark - bright).max() > 0.1


def test_monochrome1_without_a_window_is_refused_rather_than_shown_as_a_negative() -> None:
    with pytest.raises(RadserveError, match="MONOCHROME1 pixels need a chain that begins with VoiWindow") as refusal:
        _prepared(chain("ScaleIntensity"), radiograph(30, 30), photometric_interpretation="MONOCHROME1")

    assert refusal.value.code is ErrorCode.UNSUPPORTED_PIXELS


def test_normalising_and_the_crop_are_those_of_numpy() -> None:
    array = radiograph(40, 28)
    steps = chain(
        "VoiWindow", "CropToSquare", "NormalizeIntensity", NormalizeIntensity={"subtrahend": 0.5, "divisor": 0.25}
    )

    ours = _prepared(steps, array)

    expected = (present_frame(image_of(array), 0)[6:34] - np.float32(0.5)) / np.float32(0.25)
    assert ours.shape == (1, 28, 28) and np.abs(ours[0] - expected).max() <= 1e-6


@pytest.mark.parametrize("dtype", ["u1", "i1", ">u2", "<i2", "<u4", "<i4", "<f4"])
def test_every_dtype_of_modality_values_is_taken(dtype: str) -> None:
    array = (radiograph(40, 30) // 40).astype(dtype)

    windowed = _prepared(chain("VoiWindow"), array, voi=None)
    plain = _prepared(chain("ScaleIntensity"), array, voi=None)

    assert windowed.dtype == plain.dtype == np.float32
    values = array.astype(np.float64)
    assert np.abs(plain[0] - (values - values.min()) / np.ptp(values)).max() <= 1e-5
    assert np.array_equal(windowed[0], present_frame(image_of(array, voi=None), 0))


SPATIAL: list[list[tuple[str, dict[str, Any]]]] = [
    [("ResizeAntialias", {"spatial_size": [28, 20]})],
    [("ResizeAntialias", {"spatial_size": [131, 90]})],
    [("CropToSquare", {})],
    [("CropToSquare", {}), ("ResizeAntialias", {"spatial_size": [28, 28]})],
    [("Resize", {"spatial_size": [32, 25], "mode": "bilinear"})],
    [("Resize", {"spatial_size": [32, 25], "mode": "bilinear", "align_corners": True})],
    [("Resize", {"spatial_size": [32, 25], "mode": "bilinear", "anti_aliasing": True})],
    [("Resize", {"spatial_size": [24, 16], "mode": "area"})],
    [("Resize", {"spatial_size": [120, 80], "mode": "bicubic"})],
    [("Resize", {"spatial_size": 48, "size_mode": "longest", "mode": "bilinear"})],
    [("Spacing", {"pixdim": [1.2, 0.5]})],
    [("Flip", {"spatial_axis": 0}), ("CenterSpatialCrop", {"roi_size": [41, 33]})],
    [("Flip", {})],
    [("Rotate90", {}), ("ResizeAntialias", {"spatial_size": [28, 28]})],
    [("Rotate90", {"k": 3, "spatial_axes": [0, 1]})],
    [("SpatialPad", {"spatial_size": [101, 103], "value": -999.0})],
    [("SpatialPad", {"spatial_size": [101, 103], "method": "end", "value": -999.0})],
    [("ResizeWithPadOrCrop", {"spatial_size": [51, 75], "value": -999.0}), ("Rotate90", {"k": 1})],
    [
        ("SpatialPad", {"spatial_size": [100, 100], "mode": "edge"}),
        ("Resize", {"spatial_size": [33, 33], "mode": "bilinear"}),
    ],
]


@pytest.mark.parametrize("steps", SPATIAL, ids=lambda steps: "+".join(name for name, _ in steps))
def test_a_prepared_pixel_lies_where_its_transform_says(steps: list[tuple[str, dict[str, Any]]]) -> None:
    rows, columns = 96, 64
    coordinates = np.indices((rows, columns)).astype(np.float32)
    spatial = chain_of(steps)

    prepared = [prepare_now(spatial, image_of(axis, pixel_spacing_mm=(0.8, 0.4)), [0])[0] for axis in coordinates]

    seen = np.stack([one.tensor[0] for one in prepared], axis=-1)
    transform = prepared[0].transform
    expected = transform.apply(np.moveaxis(np.indices(transform.prepared_shape), 0, -1))
    # Near an edge of source or crop filters see less on one side: look away from both.
    margin = 4 * np.abs(transform.matrix[:-1, :-1]).sum(axis=1).clip(min=1)
    inside = ((expected >= margin) & (expected <= np.array([rows, columns]) - 1 - margin)).all(axis=-1)
    inside[[0, -1]] = inside[:, [0, -1]] = False
    assert inside.sum() > 50
    # Of a source pixel: a bicubic or a sampled triangle filter does not keep a ramp exactly.
    assert np.abs(seen - expected)[inside].max() <= 0.05


def test_a_bright_square_maps_back_to_its_corners() -> None:
    array = np.zeros((700, 500), np.uint16)
    array[300:400, 150:250] = 4095
    steps = chain("VoiWindow", "CropToSquare", "ResizeAntialias", ResizeAntialias={"spatial_size": [50, 50]})

    (prepared,) = prepare_now(steps, image_of(array), [0])

    places = np.argwhere(prepared.tensor[0] > 0.5)
    corners = prepared.transform.apply([places.min(axis=0) - 0.5, places.max(axis=0) + 0.5])  # outer edges
    assert np.abs(corners - [[299.5, 149.5], [399.5, 249.5]]).max() <= 1e-9


def test_a_hundred_runs_give_the_same_bytes() -> None:
    steps = chain("VoiWindow", "CropToSquare", "ResizeAntialias", ResizeAntialias={"spatial_size": [28, 28]})
    image = image_of(radiograph(310, 250))

    runs = {prepare_now(steps, image, [0])[0].tensor.tobytes() for _ in range(100)}

    assert len(runs) == 1


def test_the_image_is_not_written_to() -> None:
    array = radiograph(60, 50).astype(np.float32)
    before = array.copy()

    _prepared(chain("ThresholdIntensity", "Flip", ThresholdIntensity={"threshold": 3000.0}), array)

    assert np.array_equal(array, before)


@pytest.mark.parametrize(
    ("step", "code", "message"),
    [
        (("ResizeAntialias", {"spatial_size": [4, 4, 4]}), ErrorCode.PACK_INVALID, "transform ResizeAntialias(spatial"),
        (("Orientation", {"axcodes": "RA"}), ErrorCode.PACK_INVALID, "transform Orientation is for volumes"),
        (("Spacing", {"pixdim": [1, 1]}), ErrorCode.UNSUPPORTED_PIXELS, "transform Spacing needs Pixel Spacing"),
        (
            ("Rotate90", {"spatial_axes": [0, 5]}),
            ErrorCode.UNSUPPORTED_PIXELS,
            "transform Rotate90(spatial_axes=(0, 5)",
        ),
        (
            ("Resize", {"spatial_size": [4], "mode": "bilinear"}),
            ErrorCode.UNSUPPORTED_PIXELS,
            "transform Resize(mode=bilinear, spatial_size=(4,)) cannot be applied to pixels of shape (30, 20)",
        ),
    ],
)
def test_a_transform_that_fails_is_named(step: tuple[str, dict[str, Any]], code: ErrorCode, message: str) -> None:
    with pytest.raises(RadserveError) as failure:
        _prepared(chain_of([step]), radiograph(30, 20))

    assert failure.value.code is code
    assert message in failure.value.client_message
    assert isinstance(failure.value, PackError) == (code is ErrorCode.PACK_INVALID)


def test_values_that_are_not_finite_are_refused() -> None:
    array = np.full((8, 8), np.float32(3e38))

    with pytest.raises(RadserveError, match="not finite numbers") as failure:
        _prepared(chain("ShiftIntensity", ShiftIntensity={"offset": 3e38}), array)

    assert failure.value.code is ErrorCode.UNSUPPORTED_PIXELS


def test_a_size_beyond_memory_is_told_as_such() -> None:
    with pytest.raises(MemoryError):
        _prepared(chain("ResizeAntialias", ResizeAntialias={"spatial_size": [4_000_000, 4_000_000]}), radiograph(9, 9))


def test_a_map_of_grey_values_is_that_of_numpy_and_goes_on_beyond_its_ends() -> None:
    image = image_of(radiograph(32, 24))
    source, target = (0.4, 0.5, 0.6), (0.1, 0.7, 0.9)
    (plain,) = prepare_now(chain("VoiWindow"), image, [0])
    (mapped,) = prepare_now(
        chain("VoiWindow", "MapIntensity", MapIntensity={"source": source, "target": target}), image, [0]
    )
    values = plain.tensor.astype(np.float64)
    expected = np.interp(values, source, target)
    below, above = values < 0.4, values > 0.6
    expected[below] = 0.1 + 6.0 * (values[below] - 0.4)
    expected[above] = 0.9 + 2.0 * (values[above] - 0.6)
    assert below.any() and above.any()
    np.testing.assert_allclose(mapped.tensor, expected, atol=1e-6)
    np.testing.assert_array_equal(mapped.transform.matrix, plain.transform.matrix)
    with pytest.raises(PackError, match="do not go together"):
        prepare_now(chain("MapIntensity", MapIntensity={"source": (0, 1), "target": (0, 1, 2)}), image, [0])
