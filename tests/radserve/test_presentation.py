"""present_frame against the formulas applied value by value in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from radserve.errors import ErrorCode, RadserveError
from radserve.image import Image, PixelProperties, Provenance
from radserve.presentation import present_frame
from radserve.references import AcquisitionContext, InstanceRef, SourceContext
from radserve.voi import VoiFunction, VoiLut, VoiWindow

RNG = np.random.default_rng(1)
DTYPES = ["uint8", "int8", "uint16", "int16", ">u2", ">i2", "int32", "float32"]


def image(array: np.ndarray, **properties: Any) -> Image:
    given = {"photometric_interpretation": "MONOCHROME2", "bits_stored": 12, "value_range": (0, 4095), **properties}
    source = SourceContext(InstanceRef("1.2", "1.3", "1.4", "1.5"), b"header")
    pixels = PixelProperties(**given)
    return Image(
        np.atleast_3d(array).reshape(-1, *array.shape[-2:]),
        pixels,
        Provenance("1.2"),
        AcquisitionContext("CR"),
        source,
    )


def random_values(dtype: str) -> np.ndarray:
    kind = np.dtype(dtype)
    low, high = (0, 200) if kind.kind == "u" else (-100, 100)
    return RNG.integers(low, high, (3, 50, 40)).astype(kind)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_a_window_is_applied_to_every_dtype_alike(dtype: str, photometric: str) -> None:
    values = random_values(dtype)
    shown = present_frame(
        image(values, photometric_interpretation=photometric, voi=VoiWindow(40, 101, VoiFunction.LINEAR)), 1
    )
    expected = np.clip((values[1].astype(np.float64) - 39.5) / 100 + 0.5, 0, 1)  # PS3.3 C.11.2.1.2.1
    assert shown.dtype == np.float32 and shown.shape == (50, 40)
    np.testing.assert_allclose(shown, 1 - expected if photometric == "MONOCHROME1" else expected, atol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
def test_without_a_window_deep_pixels_take_the_percentiles_of_their_frame(dtype: str) -> None:
    values = random_values(dtype)
    low, high = np.percentile(values[2].astype(np.float64), [0.5, 99.5])
    shown = present_frame(image(values), 2)
    np.testing.assert_allclose(shown, np.clip((values[2] - low) / (high - low), 0, 1), atol=0.02)
    assert shown.min() == 0 and shown.max() == 1


def test_a_few_extreme_pixels_do_not_flatten_the_rest() -> None:
    values = RNG.integers(1000, 2000, (100, 100)).astype(np.uint16)
    values[0, :10] = 65535
    assert 0.4 < float(np.median(present_frame(image(values, bits_stored=16), 0))) < 0.6


def test_without_a_window_eight_bits_take_the_range_of_the_stored_values() -> None:
    values = RNG.integers(50, 60, (20, 20)).astype(np.uint8)
    shown = present_frame(image(values, bits_stored=8, value_range=(0, 255)), 0)
    np.testing.assert_allclose(shown, values / 255, atol=1e-6)


def test_a_flat_frame_is_mid_grey() -> None:
    for dtype in ("uint16", "float32"):
        assert (present_frame(image(np.full((4, 4), 1000, dtype=dtype)), 0) == 0.5).all()


@pytest.mark.parametrize("dtype", ["int16", "float32"])
def test_a_voi_lut_is_applied(dtype: str) -> None:
    lut = VoiLut(np.array([0, 255, 51], dtype=np.uint8), first_value=-1, bits=8)
    shown = present_frame(image(np.array([[-5, -1], [0, 9]], dtype=dtype), voi=lut), 0)
    np.testing.assert_allclose(shown, [[0, 0], [1, 0.2]], atol=1e-6)


def test_the_image_is_not_changed_and_the_frame_may_be_written() -> None:
    values = random_values("float32")
    given = image(values, voi=VoiWindow(0, 50))
    before = values.copy()
    present_frame(given, 0)[:] = 7
    np.testing.assert_array_equal(given.array, before)


@pytest.mark.parametrize("index", [-1, 3])
def test_a_frame_that_is_not_there_is_refused(index: int) -> None:
    with pytest.raises(RadserveError, match=f"frame_index: got {index}, expected 0 to 2") as caught:
        present_frame(image(random_values("uint8")), index)
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT
