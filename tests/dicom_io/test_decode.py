"""Decoded pixels against pydicom's own, on real files and on made ones in every transfer syntax."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pydicom
import pytest
from pydicom import Dataset
from pydicom.data import get_testdata_files
from pydicom.encaps import encapsulate
from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_rescale, apply_voi_lut, pixel_array
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSNearLossless,
)

from radserve.dicom_io.decode import DecodeLimits, decode_image
from radserve.dicom_io.parse import source_context
from radserve.dicom_io.stored import decode_stored
from radserve.errors import DicomError, ErrorCode
from radserve.image import Image
from radserve.voi import VoiFunction, VoiLut, VoiWindow
from tests.support.dicoms import LOSSLESS_SYNTAXES, colour, cr, ct, part10, save, us

RNG = np.random.default_rng(0)
LUMINANCE = np.array([0.299, 0.587, 0.114])
LOSSY_OTHER_DECODER = {"JPGExtended.dcm"}  # 12-bit: pydicom's decoder has another inverse DCT than libjpeg-turbo
NOT_COMPARED = {
    "color3d_jpeg_baseline.dcm",  # 120 frames take ten seconds; examples_ybr_color.dcm is of the same kind
    "JPEG-lossy.dcm",  # its decoder refuses a scan header that libjpeg-turbo reads
    "OT-PAL-8-face.dcm",  # no transfer syntax in the file
}


def real_files(kind: str) -> Iterator[tuple[Path, Dataset, Image]]:
    """The files of pydicom and pydicom-data of a kind (grey, colour, palette) that pydicom and we can decode."""
    for path in sorted({path.name: path for path in map(Path, get_testdata_files("**/*.dcm"))}.values()):
        ds = pydicom.dcmread(path, force=True)
        palette = ds.get("PhotometricInterpretation") == "PALETTE COLOR"
        own = "palette" if palette else "colour" if ds.get("SamplesPerPixel", 1) > 1 else "grey"
        if own != kind or path.name in NOT_COMPARED:
            continue
        try:
            yield path, ds, decode_image(path)
        except DicomError:
            continue


def smooth(shape: tuple[int, ...], low: int, high: int, dtype: str) -> np.ndarray:
    """A picture without the jumps that make lossy coders and old decoders err."""
    grid = np.indices(shape[-2:]).sum(axis=0) / (sum(shape[-2:]) - 2)
    noise = RNG.normal(0, (high - low) / 100, shape)
    return np.clip(low + grid * (high - low) + noise, low, high - 1).astype(dtype)


def refusal(path: Path, limits: DecodeLimits | None = None) -> DicomError:
    with pytest.raises(DicomError) as caught:
        decode_image(path, limits)
    return caught.value


# Real files


def test_grey_real_files_of_all_syntaxes_equal_pydicoms_pixels() -> None:
    compared: dict[str, int] = {}
    for path, ds, image in real_files("grey"):
        stored = pixel_array(ds, raw=True)
        expected = apply_modality_lut(stored, ds)
        if "SharedFunctionalGroupsSequence" in ds and image.array.dtype == np.float32:
            shared = ds.SharedFunctionalGroupsSequence[0]
            groups = ds.PerFrameFunctionalGroupsSequence
            expected = np.stack(
                [
                    apply_rescale(
                        frame, (group if "PixelValueTransformationSequence" in group else shared)[0x00289145][0]
                    )
                    for frame, group in zip(stored, groups, strict=True)
                ]
            )
        expected = expected.reshape(image.array.shape)
        if path.name in LOSSY_OTHER_DECODER:
            assert np.abs(image.array.astype(int) - expected).max() <= 1, path.name
        elif image.array.dtype == np.float32:
            np.testing.assert_allclose(image.array, expected, rtol=2e-7, atol=2e-4, err_msg=path.name)
        else:
            assert np.array_equal(image.array, expected), path.name
        syntax = image.provenance.transfer_syntax_uid
        compared[syntax] = compared.get(syntax, 0) + 1
    assert sum(compared.values()) >= 43
    tails = {uid.removeprefix("1.2.840.10008.1.2") for uid in compared}
    assert tails >= {"", ".1", ".2", ".1.99", ".5", ".4.51", ".4.70", ".4.80", ".4.90", ".4.91"}


def test_colour_real_files_are_the_luminance_of_pydicoms_pixels() -> None:
    compared = set()
    for path, ds, image in real_files("colour"):
        raw = pixel_array(ds, raw=True)
        raw = raw.reshape(-1, *raw.shape[-3:])
        decoded_as_ybr = ds.PhotometricInterpretation.startswith("YBR_FULL")
        expected = raw[..., 0] if decoded_as_ybr else raw @ LUMINANCE
        # The inverse DCT of two builds of libjpeg may differ by one; an Adobe codestream that is YBR under an RGB tag
        # gives Y itself, where pydicom's RGB is rounded once more.
        is_jpeg = image.provenance.transfer_syntax_uid == JPEGBaseline8Bit
        tolerance = 1.1 if is_jpeg else 0.51
        assert np.abs(image.array - expected.astype(float)).max() <= tolerance, path.name
        assert image.properties.photometric_interpretation == "MONOCHROME2"
        compared.add((ds.PhotometricInterpretation, image.provenance.transfer_syntax_uid))
    assert len(compared) >= 12
    assert {photometric for photometric, _ in compared} == {"RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT"}


def test_palette_files_are_the_luminance_of_pydicoms_colours() -> None:
    compared = 0
    for path, ds, image in real_files("palette"):
        colours = apply_color_lut(pixel_array(ds), ds)
        assert np.abs(image.array - (colours @ LUMINANCE).reshape(image.array.shape)).max() <= 0.51, path.name
        compared += 1
    assert compared >= 8


@pytest.mark.parametrize("pair", [("RG1_UNCR", "RG1_J2KR"), ("RG1_UNCI", "RG1_J2KI"), ("RG3_UNCR", "RG3_J2KR")])
def test_equal_pixels_have_equal_hashes_in_any_syntax(pair: tuple[str, str]) -> None:
    paths = [Path(get_testdata_files(f"**/{name}.dcm")[0]) for name in pair]
    first, second = map(decode_image, paths)
    assert len({decode_stored(path).sha256 for path in paths}) == 1
    assert first.properties == second.properties
    assert first.properties.photometric_interpretation == "MONOCHROME1"


# Made files


@pytest.mark.parametrize("syntax", LOSSLESS_SYNTAXES, ids=lambda uid: uid.name)
@pytest.mark.parametrize(
    "array",
    [
        smooth((28, 28), 0, 256, "u1"),
        smooth((33, 41), 0, 1 << 16, "u2"),
        smooth((32, 40), -1024, 3000, "i2"),
        smooth((3, 21, 27), 0, 256, "u1"),
        smooth((2, 32, 30), -2000, 2000, "i2"),
        np.zeros((30, 30), "u2"),
        smooth((1, 40), 0, 4096, "u2"),
    ],
    ids=lambda array: f"{array.dtype}{array.shape}",
)
def test_lossless_syntaxes_give_back_the_stored_values(tmp_path: Path, syntax: str, array: np.ndarray) -> None:
    ds = (us if array.ndim == 3 else cr)(array)
    path = save(ds, tmp_path / "a", syntax)
    image = decode_image(path)
    assert image.array.dtype == array.dtype
    assert np.array_equal(image.array, array.reshape(-1, *array.shape[-2:]))
    assert decode_stored(path).sha256 == decode_stored(save(ds, tmp_path / "raw")).sha256


@pytest.mark.parametrize("syntax", LOSSLESS_SYNTAXES, ids=lambda uid: uid.name)
def test_colour_becomes_luminance_in_every_lossless_syntax(tmp_path: Path, syntax: str) -> None:
    array = np.stack([smooth((31, 37), 0, 256, "u1") for _ in range(3)], axis=-1)
    image = decode_image(save(colour(array), tmp_path / "a", syntax))
    assert image.array.dtype == np.uint8
    assert np.abs(image.array[0] - array @ LUMINANCE).max() <= 0.501


def test_baseline_jpeg_and_near_lossless_are_close_to_the_original(tmp_path: Path) -> None:
    array = smooth((64, 64), 0, 256, "u1")
    for syntax, tolerance in ((JPEGBaseline8Bit, 12), (JPEGLSNearLossless, 2)):
        image = decode_image(save(us(array), tmp_path / "a", syntax))
        assert np.abs(image.array[0].astype(int) - array).max() <= tolerance


def test_bits_above_bits_stored_are_no_part_of_the_value(tmp_path: Path) -> None:
    array = RNG.integers(0, 1 << 12, (8, 9)).astype("u2")
    image = decode_image(save(cr(array | 0xA000, BitsStored=12), tmp_path / "a"))
    assert np.array_equal(image.array[0], array)
    assert image.properties.value_range == (0.0, 4095.0)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian])
def test_signed_values_of_twelve_bits_are_extended(tmp_path: Path, syntax: str) -> None:
    array = RNG.integers(-2048, 2048, (8, 9)).astype("i2")
    ds = cr((array & 0x0FFF).astype("u2"), BitsStored=12, PixelRepresentation=1)
    image = decode_image(save(ds, tmp_path / "a", syntax))
    assert image.array.dtype == np.int16
    assert np.array_equal(image.array[0], array)
    assert image.properties.value_range == (-2048.0, 2047.0)


@pytest.mark.parametrize("dtype", ["u4", "i4"])
def test_32_bit_integers_are_read(tmp_path: Path, dtype: str) -> None:
    info = np.iinfo(dtype)
    array = RNG.integers(info.min, info.max, (8, 9), dtype=dtype)
    image = decode_image(save(cr(array), tmp_path / "a"))
    assert np.array_equal(image.array[0], array)
    scaled = decode_image(save(cr(array, RescaleSlope=2, RescaleIntercept=-5), tmp_path / "b"))
    np.testing.assert_array_equal(scaled.array[0], (array.astype(np.float64) * 2 - 5).astype(np.float32))


def test_planar_and_interleaved_colour_are_the_same(tmp_path: Path) -> None:
    array = RNG.integers(0, 256, (6, 10, 3)).astype("u1")
    ds = colour(array)
    planar = colour(array, PlanarConfiguration=1)
    planar.PixelData = array.transpose(2, 0, 1).tobytes()
    first, second = decode_image(save(ds, tmp_path / "a")), decode_image(save(planar, tmp_path / "b"))
    assert np.array_equal(first.array, second.array)


def test_eight_bit_pixels_in_big_endian_words_are_unswapped(tmp_path: Path) -> None:
    array = RNG.integers(0, 256, (3, 5, 7)).astype("u1")  # odd frames: pairs cross them
    ds = us(array)
    cells = np.frombuffer(ds.PixelData, "u1").reshape(-1, 2)[:, ::-1]
    ds.add_new(0x7FE00010, "OW", cells.tobytes())
    image = decode_image(save(ds, tmp_path / "a", ExplicitVRBigEndian))
    assert np.array_equal(image.array, array)


@pytest.mark.parametrize(("slope", "intercept"), [(1, 0), (1, -1024), (0.5, 3), (-1, 4095), (3.774114, 0.000061)])
def test_rescale_gives_modality_values(tmp_path: Path, slope: float, intercept: float) -> None:
    array = RNG.integers(-1000, 3000, (12, 12)).astype("i2")
    image = decode_image(save(ct(array, RescaleSlope=slope, RescaleIntercept=intercept), tmp_path / "a"))
    assert image.array.dtype == (np.int16 if (slope, intercept) == (1, 0) else np.float32)
    np.testing.assert_allclose(image.array[0], array * slope + intercept, rtol=3e-7, atol=1e-3)
    ends = sorted((-32768 * slope + intercept, 32767 * slope + intercept))
    assert image.properties.value_range == pytest.approx(ends)
    assert image.properties.units == "HU"


def test_a_modality_lut_is_applied_as_pydicom_does(tmp_path: Path) -> None:
    array = RNG.integers(0, 64, (9, 9)).astype("u2")
    ds = cr(array)
    item = Dataset()
    item.LUTDescriptor = [32, 10, 16]
    item.LUTData = np.arange(0, 32 * 40, 40).astype("<u2").tobytes()
    item["LUTData"].VR = "OW"
    item.ModalityLUTType = "US"
    ds.ModalityLUTSequence = [item]
    path = save(ds, tmp_path / "a")
    image = decode_image(path)
    assert image.array.dtype == np.float32
    assert np.array_equal(image.array[0], apply_modality_lut(array, pydicom.dcmread(path)))


def enhanced(array: np.ndarray, slopes: list[float]) -> Dataset:
    ds = us(array)
    shared, groups = Dataset(), []
    plane, measures, voi = Dataset(), Dataset(), Dataset()
    plane.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    measures.PixelSpacing = [0.5, 0.6]
    voi.WindowCenter, voi.WindowWidth = 100, 50
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [plane], [measures]
    shared.FrameVOILUTSequence = [voi]
    for index, slope in enumerate(slopes):
        group, value, position = Dataset(), Dataset(), Dataset()
        value.RescaleSlope, value.RescaleIntercept = slope, -index
        position.ImagePositionPatient = [0, 0, 2.0 * index]
        group.PixelValueTransformationSequence, group.PlanePositionSequence = [value], [position]
        groups.append(group)
    ds.SharedFunctionalGroupsSequence, ds.PerFrameFunctionalGroupsSequence = [shared], groups
    return ds


def test_functional_groups_give_each_frame_its_rescale_and_place(tmp_path: Path) -> None:
    array = RNG.integers(0, 256, (3, 8, 8)).astype("u1")
    image = decode_image(save(enhanced(array, [1, 2, 0.5]), tmp_path / "a"))
    expected = array * np.array([1, 2, 0.5])[:, None, None] - np.arange(3)[:, None, None]
    np.testing.assert_allclose(image.array, expected)
    assert image.properties.voi == VoiWindow(100, 50)
    assert image.properties.pixel_spacing_mm == (0.5, 0.6)
    assert [plane.image_position_mm[2] for plane in image.planes] == [0, 2, 4]
    assert image.properties.value_range == (-2.0, 509.0)


def test_functional_groups_of_another_number_are_refused(tmp_path: Path) -> None:
    error = refusal(save(enhanced(np.zeros((3, 8, 8), "u1"), [1, 2]), tmp_path / "a"))
    assert error.code == ErrorCode.INVALID_HEADER
    assert "has 2 items, NumberOfFrames is 3" in error.client_message


@pytest.mark.parametrize("function", list(VoiFunction))
def test_the_first_window_is_kept_with_its_function(tmp_path: Path, function: VoiFunction) -> None:
    ds = cr(np.zeros((4, 4), "u2"), WindowCenter=[40, 300], WindowWidth=[80, 900], VOILUTFunction=str(function))
    assert decode_image(save(ds, tmp_path / "a")).properties.voi == VoiWindow(40, 80, function)


@pytest.mark.parametrize(
    "attributes",
    [
        {"WindowCenter": 40, "WindowWidth": 0},
        {"WindowCenter": 40, "WindowWidth": 80, "VOILUTFunction": "CUBIC"},
    ],
)
def test_a_window_that_makes_no_sense_is_left_out_with_a_warning(tmp_path: Path, attributes: dict[str, Any]) -> None:
    image = decode_image(save(cr(np.zeros((4, 4), "u2"), **attributes), tmp_path / "a"))
    assert image.properties.voi is None
    assert any("window" in warning for warning in image.provenance.warnings)


@pytest.mark.parametrize("first", [0, -100])
def test_a_voi_lut_maps_as_pydicom_does(tmp_path: Path, first: int) -> None:
    array = RNG.integers(-200, 300, (9, 9)).astype("i2")
    ds = ct(array)
    item = Dataset()
    item.add_new(0x00283002, "SS", [128, first, 12])
    item.LUTData = np.linspace(0, 4095, 128).astype("<u2").tobytes()
    item["LUTData"].VR = "OW"
    ds.VOILUTSequence = [item]
    path = save(ds, tmp_path / "a")
    voi = decode_image(path).properties.voi
    assert isinstance(voi, VoiLut)
    expected = apply_voi_lut(array, pydicom.dcmread(path))
    np.testing.assert_allclose(voi.apply(array) * 4095, expected, atol=1e-3)


def test_frames_in_several_fragments_are_joined_by_the_offset_table_or_the_ends(tmp_path: Path) -> None:
    array = smooth((3, 32, 32), 0, 256, "u1")
    frames = [bytes(imagecodecs.jpegls_encode(frame)) for frame in array]
    for has_table in (True, False):
        ds = us(array)
        ds.PixelData = encapsulate(frames, fragments_per_frame=2, has_bot=has_table)
        ds["PixelData"].is_undefined_length = True
        data = part10(us(array))  # the header's encoding only
        assert data
        path = tmp_path / f"a{has_table}"
        ds.file_meta = pydicom.dataset.FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.80"
        ds.save_as(path, enforce_file_format=True)
        assert np.array_equal(decode_image(path).array, array)


def test_pixel_padding_and_monochrome1_are_recorded_and_left(tmp_path: Path) -> None:
    array = np.array([[0, 5], [7, 9]], "u2")
    image = decode_image(save(cr(array, PixelPaddingValue=0, PhotometricInterpretation="MONOCHROME1"), tmp_path / "a"))
    assert np.array_equal(image.array[0], array)
    assert image.properties.photometric_interpretation == "MONOCHROME1"
    assert any("padding value 0" in step for step in image.provenance.steps)


@pytest.mark.parametrize(
    ("attributes", "spacing"),
    [
        ({"PixelSpacing": [0.2, 0.3], "ImagerPixelSpacing": [1, 1]}, (0.2, 0.3)),
        ({"ImagerPixelSpacing": [0.1, 0.1]}, (0.1, 0.1)),
        ({"PixelSpacing": [0, 0]}, None),
        ({}, None),
    ],
)
def test_the_pixel_spacing_is_the_first_that_makes_sense(tmp_path: Path, attributes: Any, spacing: Any) -> None:
    image = decode_image(save(cr(np.zeros((4, 4), "u2"), **attributes), tmp_path / "a"))
    assert image.properties.pixel_spacing_mm == spacing


def test_the_image_carries_context_source_and_provenance(tmp_path: Path) -> None:
    array = smooth((8, 8), 0, 4096, "u2")
    path = save(cr(array), tmp_path / "a", JPEGLosslessSV1)
    image = decode_image(path)
    assert image.context.age_years == 44
    assert image.source == source_context(path)
    assert image.instance.sop_class_uid == "1.2.840.10008.5.1.4.1.1.1"
    assert "JPEG Lossless" in image.provenance.steps[0]
    expected = hashlib.sha256(b"<u2 (1, 8, 8) " + array.astype("<u2").tobytes()).hexdigest()
    assert decode_stored(path).sha256 == expected
    assert not image.array.flags.writeable


def test_an_image_does_not_depend_on_its_file_any_more(tmp_path: Path) -> None:
    array = smooth((8, 8), 0, 4096, "u2")
    path = save(cr(array), tmp_path / "a")
    image = decode_image(path)
    path.write_bytes(bytes(len(path.read_bytes())))
    assert np.array_equal(image.array[0], array)


@pytest.mark.parametrize(
    ("limits", "what"),
    [
        (DecodeLimits(max_pixels_per_frame=399), "400 pixels per frame"),
        (DecodeLimits(max_frames=2), "3 frames"),
        (DecodeLimits(max_total_bytes=1199), "1200 bytes"),
    ],
)
def test_the_budget_is_named_when_it_is_exceeded(tmp_path: Path, limits: DecodeLimits, what: str) -> None:
    path = save(us(np.zeros((3, 20, 20), "u1")), tmp_path / "a")
    error = refusal(path, limits)
    assert error.code == ErrorCode.PIXEL_BUDGET_EXCEEDED
    assert what in error.client_message
    assert decode_image(path, DecodeLimits(max_pixels_per_frame=400, max_frames=3, max_total_bytes=1200)).frames == 3


def test_a_twelve_bit_jpeg_is_decoded_at_its_precision(tmp_path: Path) -> None:
    array = smooth((32, 32), 0, 4096, "u2")
    stream = bytes(imagecodecs.jpeg8_encode(array, bitspersample=12, level=98))
    assert struct.pack(">B", 12) in stream
    ds = cr(array, BitsStored=12)
    ds.PixelData = encapsulate([stream + b"\0" * (len(stream) % 2)])
    ds["PixelData"].is_undefined_length = True
    ds.file_meta = pydicom.dataset.FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = JPEGExtended12Bit
    ds.save_as(tmp_path / "a", enforce_file_format=True)
    image = decode_image(tmp_path / "a")
    assert np.abs(image.array[0].astype(int) - array).max() < 40
