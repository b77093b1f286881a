"""What is read otherwise than the file says it stands in the warnings, with before and after; the file stays."""

from __future__ import annotations

from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
import pytest
from pydicom import Dataset
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGBaseline8Bit, ParametricMapStorage

from radserve.dicom_io.decode import decode_image
from radserve.dicom_io.stored import decode_stored
from radserve.errors import DicomError, ErrorCode
from radserve.image import Image
from radserve.voi import VoiWindow
from tests.support.dicoms import colour, cr, save, us
from tests.support.odd_dicoms import ACCEPTED

RNG = np.random.default_rng(1)
WORDS = RNG.integers(0, 4096, (16, 18)).astype("u2")


def warnings_of(ds: Dataset, tmp_path: Path) -> tuple[str, ...]:
    return decode_image(save(ds, tmp_path / "a")).provenance.warnings


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("no transfer syntax", "TransferSyntaxUID: absent", "Explicit VR Little Endian"),
        ("explicit bytes under implicit", "encoding of the data set: implicit VR", "explicit VR"),
        ("rows as UN", "VR: UN", "Rows US"),
        ("an unknown character set", "SpecificCharacterSet: a term that PS3.3 C.12.1.1.2 does not define", "nearest"),
    ],
)
def test_a_repair_of_the_header_is_told_with_before_and_after(
    tmp_path: Path, name: str, before: str, after: str
) -> None:
    path = tmp_path / "a"
    path.write_bytes(ACCEPTED[name]())
    original = path.read_bytes()
    (found,) = decode_image(path).provenance.warnings
    assert found.startswith(f"repair: {before} -> ")
    assert after in found.partition(" -> ")[2]
    assert path.read_bytes() == original


def test_a_clean_file_has_no_warning(tmp_path: Path) -> None:
    assert warnings_of(cr(WORDS), tmp_path) == ()


def test_ybr_under_an_rgb_tag_is_read_as_what_the_codestream_says(tmp_path: Path) -> None:
    # An RGB tag on an Adobe codestream that was transformed: files of converters that decode to YBR and forget the tag.
    ds = colour(RNG.integers(0, 256, (32, 32, 3)).astype("u1"))
    grey = np.tile(np.arange(32, dtype="u1") * 8, (32, 1))
    stream = bytes(imagecodecs.jpeg8_encode(np.stack([grey] * 3, -1), level=98, colorspace="RGB"))
    app14 = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x01"
    ds.PixelData = encapsulate([stream[:2] + app14 + stream[2:] + b"\0" * (len(stream) % 2)])
    ds["PixelData"].is_undefined_length = True
    ds.file_meta = pydicom.dataset.FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    ds.save_as(tmp_path / "a", enforce_file_format=True)
    image = decode_image(tmp_path / "a")
    assert "repair: PhotometricInterpretation: RGB -> YBR_FULL (Adobe segment of the JPEG image)" in (
        image.provenance.warnings
    )
    assert np.abs(image.array[0].astype(int) - grey).max() <= 4


def test_pixels_longer_than_the_frames_are_told(tmp_path: Path) -> None:
    ds = cr(WORDS)
    ds.PixelData += bytes(10)
    (found,) = warnings_of(ds, tmp_path)
    assert found.startswith("repair: length of the pixel data: 586 bytes -> 576")


@pytest.mark.parametrize(("signed", "told"), [(0, True), (1, False)])
def test_bits_above_bits_stored_are_told_but_not_a_sign(tmp_path: Path, signed: int, told: bool) -> None:
    array = RNG.integers(-2048, 2048, (8, 8)).astype("i2")
    ds = cr(array if signed else (WORDS | 0x4000), BitsStored=12, PixelRepresentation=signed)
    found = warnings_of(ds, tmp_path)
    assert bool(found) == told
    assert not told or "bits 12 to 15" in found[0]


def test_overlays_are_told_and_not_applied(tmp_path: Path) -> None:
    ds = cr(WORDS)
    for group in (0x6000, 0x6002):
        ds.add_new(group << 16 | 0x10, "US", 16)
        ds.add_new(group << 16 | 0x3000, "OW", b"\xff" * 36)
    image = decode_image(save(ds, tmp_path / "a"))
    assert image.provenance.warnings == ("overlay planes (PS3.3 C.9.2) that are not applied: 2",)
    assert np.array_equal(image.array[0], WORDS)


def floating(array: np.ndarray) -> Dataset:
    ds = cr(WORDS, SOPClassUID=ParametricMapStorage, Modality="MR")
    for keyword in ("PixelData", "BitsStored", "HighBit", "PixelRepresentation"):
        delattr(ds, keyword)
    ds.Rows, ds.Columns = array.shape
    ds.BitsAllocated = 8 * array.dtype.itemsize
    if array.dtype.itemsize == 4:
        ds.FloatPixelData = array.tobytes()
    else:
        ds.DoubleFloatPixelData = array.tobytes()
    return ds


def saved(ds: Dataset, path: Path) -> Path:
    ds.file_meta = pydicom.dataset.FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    ds.save_as(path, enforce_file_format=True)
    return path


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_floating_point_pixels_are_read_with_the_range_that_is_there(tmp_path: Path, dtype: str) -> None:
    array = RNG.normal(0, 100, (9, 11)).astype(dtype)
    path = saved(floating(array), tmp_path / "a")
    image = decode_image(path)
    assert image.array.dtype == np.float32
    assert np.array_equal(image.array[0], pydicom.dcmread(path).pixel_array.astype("f4"))
    assert image.properties.value_range == (float(image.array.min()), float(image.array.max()))
    assert image.properties.bits_stored == 8 * array.dtype.itemsize
    assert any("rounded to 32 bits" in step for step in image.provenance.steps) == (dtype == "f8")


def test_pixels_that_are_no_numbers_are_counted(tmp_path: Path) -> None:
    array = np.ones((9, 11), "f4")
    array[0, :3] = np.nan, np.inf, 2
    image = decode_image(saved(floating(array), tmp_path / "a"))
    assert image.provenance.warnings == ("2 of 99 floating point pixels are no finite numbers",)
    assert image.properties.value_range == (1.0, 2.0)
    with pytest.raises(DicomError) as caught:
        decode_image(saved(floating(np.full((9, 11), np.nan, "f4")), tmp_path / "b"))
    assert caught.value.code == ErrorCode.PIXELS_INCONSISTENT


def with_windows(windows: list[tuple[float, float]]) -> Dataset:
    ds = us(RNG.integers(0, 256, (len(windows), 8, 8)).astype("u1"))
    groups = []
    for centre, width in windows:
        group, voi = Dataset(), Dataset()
        voi.WindowCenter, voi.WindowWidth = centre, width
        group.FrameVOILUTSequence = [voi]
        groups.append(group)
    ds.PerFrameFunctionalGroupsSequence = groups
    return ds


def test_a_window_that_differs_between_frames_is_not_taken_from_the_first(tmp_path: Path) -> None:
    image: Image = decode_image(save(with_windows([(40, 80), (40, 80), (50, 90)]), tmp_path / "a"))
    assert image.properties.voi is None
    assert image.provenance.warnings == ("1 of 3 frames have another VOI transform than the first; none is taken",)
    same = decode_image(save(with_windows([(40, 80)] * 3), tmp_path / "b"))
    assert same.properties.voi == VoiWindow(40, 80)
    assert same.provenance.warnings == ()


def test_partial_range_luminance_is_stretched_to_the_full_range(tmp_path: Path) -> None:
    luminance = np.array([[16, 235, 126, 126], [0, 255, 17, 234]], "u1")
    ds = colour(np.zeros((2, 4, 3), "u1"), "YBR_PARTIAL_422")
    quads = np.stack([luminance[:, 0::2], luminance[:, 1::2], np.full((2, 2), 128), np.full((2, 2), 128)], -1)
    ds.PixelData = quads.astype("u1").tobytes()
    image = decode_image(save(ds, tmp_path / "a"))
    expected = np.clip((luminance.astype(float) - 16) * 255 / 219, 0, 255)
    assert np.abs(image.array[0] - expected).max() <= 0.5


@pytest.mark.parametrize("name", ["emri_small.dcm", "emri_small_RLE.dcm", "examples_ybr_color.dcm"])
def test_cine_and_enhanced_objects_have_a_frame_for_each(name: str) -> None:
    path = get_testdata_file(name)
    assert path is not None
    ds = pydicom.dcmread(path, stop_before_pixels=True)
    assert decode_image(Path(str(path))).frames == ds.NumberOfFrames


def test_one_changed_pixel_changes_the_hash(tmp_path: Path) -> None:
    first = decode_stored(save(cr(WORDS), tmp_path / "a")).sha256
    changed = WORDS.copy()
    changed[3, 3] ^= 1
    assert decode_stored(save(cr(changed), tmp_path / "b")).sha256 != first
    assert {decode_stored(tmp_path / "a").sha256 for _ in range(20)} == {first}
