"""VOI transforms against pydicom's and the values that PS3.3 C.11.2 works out."""

from __future__ import annotations

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.pixels import apply_voi, apply_windowing

from radserve.errors import ErrorCode, RadserveError
from radserve.voi import VoiFunction, VoiLut, VoiWindow

VALUES = np.concatenate([np.arange(-1200, 1500, 7), [-32768, 32767, 0, 1, -1]]).astype(np.int16)


def pydicom_window(values: np.ndarray, window: VoiWindow) -> np.ndarray:
    """pydicom's output on the range of 16 signed bits, brought to [0, 1]."""
    ds = Dataset()
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.BitsStored, ds.PixelRepresentation = 16, 1
    ds.WindowCenter, ds.WindowWidth, ds.VOILUTFunction = window.center, window.width, str(window.function)
    return (apply_windowing(values, ds) + 32768.0) / 65535.0


@pytest.mark.parametrize("function", list(VoiFunction))
@pytest.mark.parametrize(("center", "width"), [(40, 400), (-600, 1500), (0.5, 2), (127.5, 255), (3.2, 17.7)])
def test_a_window_gives_what_pydicom_gives(function: VoiFunction, center: float, width: float) -> None:
    window = VoiWindow(center, width, function)
    result = window.apply(VALUES)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, pydicom_window(VALUES, window), atol=3e-6)


def test_linear_is_the_example_of_the_standard() -> None:
    """C.11.2.1.2.1, note: center 2048 and width 4096 map 0 to black, 4095 to white, with 4095 steps between."""
    values = np.arange(4096)
    np.testing.assert_allclose(VoiWindow(2048, 4096).apply(values), values / 4095, atol=1e-6)
    # Width 1 is a threshold.
    assert VoiWindow(0, 1).apply(np.array([-1, 0, 1])).tolist() == [0, 1, 1]


def test_width_two_of_linear_has_one_step() -> None:
    """With center 0.5 and width 2: x <= -0.5 is black, x > 0.5 white (C.11.2.1.2.1)."""
    window = VoiWindow(0.5, 2)
    assert window.apply(np.array([-0.5, 0.5])).tolist() == [0.0, 1.0]
    assert window.apply(np.array([0.0])).tolist() == [0.5]


def test_linear_exact_maps_the_edges_of_the_window_to_the_ends() -> None:
    window = VoiWindow(100, 50, VoiFunction.LINEAR_EXACT)
    assert window.apply(np.array([74, 75, 100, 125, 126])).tolist() == [0, 0, 0.5, 1, 1]


def test_sigmoid_is_half_at_the_center_and_does_not_overflow() -> None:
    window = VoiWindow(100, 4, VoiFunction.SIGMOID)
    with np.errstate(over="raise"):
        low, half, point, high = window.apply(np.array([-1e9, 100, 101, 1e9], dtype=np.float64))
    assert (half, high) == (0.5, 1)
    assert 0 <= low < 1e-30
    assert point == pytest.approx(1 / (1 + np.exp(-1)))


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32])
def test_any_real_dtype_is_taken_and_left_unchanged(dtype: type) -> None:
    values = np.array([[0, 50, 100]], dtype=dtype)
    values.setflags(write=False)
    np.testing.assert_allclose(VoiWindow(50, 100, VoiFunction.LINEAR_EXACT).apply(values), [[0, 0.5, 1]])
    assert values.tolist() == [[0, 50, 100]]


@pytest.mark.parametrize(
    ("center", "width", "function"),
    [
        (0, 0.5, VoiFunction.LINEAR),
        (0, 0, VoiFunction.LINEAR_EXACT),
        (0, -1, VoiFunction.SIGMOID),
        (float("nan"), 10, VoiFunction.LINEAR),
        (0, float("inf"), VoiFunction.LINEAR),
    ],
)
def test_a_window_without_a_meaning_is_refused(center: float, width: float, function: VoiFunction) -> None:
    with pytest.raises(RadserveError, match="width") as caught:
        VoiWindow(center, width, function)
    assert caught.value.code == ErrorCode.INVALID_ARGUMENT


@pytest.mark.parametrize("first", [0, -30])
@pytest.mark.parametrize("bits", [8, 12, 16])
def test_a_lut_gives_what_pydicom_gives(first: int, bits: int) -> None:
    table = np.linspace((1 << bits) - 1, 0, 64).astype(np.uint8 if bits == 8 else np.uint16)
    values = np.arange(-100, 100, 3, dtype=np.int16)
    item = Dataset()
    item.add_new(0x00283002, "SS", [64, first, bits])
    item.add_new(0x00283006, "OW", table.astype("<u2").tobytes())
    ds = Dataset()
    ds.PhotometricInterpretation, ds.PixelRepresentation = "MONOCHROME2", 1
    ds.VOILUTSequence = [item]
    ds.set_original_encoding(False, True)
    expected = apply_voi(values, ds) / ((1 << bits) - 1)
    np.testing.assert_allclose(VoiLut(table, first, bits).apply(values), expected, atol=1e-6)


def test_values_outside_a_lut_take_its_end_entries() -> None:
    lut = VoiLut(np.array([10, 20, 255], dtype=np.uint8), first_value=5, bits=8)
    np.testing.assert_allclose(lut.apply(np.array([-9, 5, 6, 7, 99])) * 255, [10, 10, 20, 255, 255], rtol=1e-6)


@pytest.mark.parametrize(
    ("table", "bits", "what"),
    [
        (np.zeros(0, np.uint16), 16, "table"),
        (np.zeros((2, 2), np.uint16), 16, "table"),
        (np.zeros(4, np.int16), 16, "table"),
        (np.zeros(4, np.uint16), 7, "bits"),
        (np.zeros(4, np.uint16), 17, "bits"),
    ],
)
def test_a_lut_that_is_none_is_refused(table: np.ndarray, bits: int, what: str) -> None:
    with pytest.raises(RadserveError, match=what):
        VoiLut(table, 0, bits)


def test_the_table_of_a_lut_is_read_only() -> None:
    assert not VoiLut(np.zeros(4, np.uint16), 0, 16).table.flags.writeable
