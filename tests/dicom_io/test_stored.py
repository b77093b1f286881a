"""Stored values against independent decoders, on every file of pydicom and pydicom-data."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_files
from pydicom.encaps import encapsulate
from pydicom.pixels import get_decoder, pixel_array
from pydicom.pixels.decoders import base
from pydicom.uid import (
    HTJ2K,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from radserve.dicom_io import codecs
from radserve.dicom_io.parse import TRANSFER_SYNTAXES
from radserve.dicom_io.stored import StoredPixels, decode_stored
from radserve.errors import DicomError, ErrorCode, RadserveError
from tests.support.dicoms import LOSSLESS_SYNTAXES, colour, cr, save, us

C = ErrorCode
RNG = np.random.default_rng(0)
NATIVE = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian)
DCMTK = {
    **dict.fromkeys(NATIVE, ("/usr/bin/dcmconv",)),
    **dict.fromkeys(
        (JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1), ("/usr/bin/dcmdjpeg", "+cn", "+px")
    ),
    **dict.fromkeys((JPEGLSLossless, JPEGLSNearLossless), ("/usr/bin/dcmdjpls",)),
    RLELossless: ("/usr/bin/dcmdrle",),
}
LOSSY_JPEG = (JPEGBaseline8Bit, JPEGExtended12Bit)
NOT_IN_TIME = {"color3d_jpeg_baseline.dcm"}  # 120 colour frames; examples_ybr_color.dcm is of the same kind
# What is refused though it looks like an image file, or is read by us alone: every other refusal is of a file without
# pixel data.
REFUSED = {
    "JPEG2000-embedded-sequence-delimiter.dcm": C.PIXELS_INCONSISTENT,  # its SIZ says 3,722,445,056 columns
    "MR_truncated.dcm": C.TRUNCATED,
    "emri_small_jpeg_2k_lossless_too_short.dcm": C.TRUNCATED,
    "rtplan_truncated.dcm": C.TRUNCATED,
    "no_meta.dcm": C.NOT_DICOM,  # starts in the middle of an element
    "meta_missing_tsyntax.dcm": C.INVALID_HEADER,
    "UN_sequence.dcm": C.NO_PIXELS,
    "badVR.dcm": C.INVALID_HEADER,  # NumberOfFrames is "1A"
}
NO_REFERENCE = {
    "OT-PAL-8-face.dcm",  # no transfer syntax: pydicom does not guess
    "JPEG-lossy.dcm",  # pylibjpeg refuses its scan header; DCMTK reads it
}


def files() -> list[Path]:
    found = {path.name: path for path in map(Path, get_testdata_files("**/*"))}
    endings = (".py", ".pyc", ".json", ".txt", ".md", ".zip")
    return [path for name, path in sorted(found.items()) if path.is_file() and path.suffix not in endings]


def decoded() -> Iterator[tuple[Path, UID, StoredPixels]]:
    for path in files():
        if path.name in NOT_IN_TIME:
            continue
        try:
            pixels = decode_stored(path)
        except RadserveError:
            continue
        ds = pydicom.dcmread(path, force=True, stop_before_pixels=True)
        yield path, UID(ds.file_meta.get("TransferSyntaxUID", ImplicitVRLittleEndian)), pixels


def assert_same(path: Path, syntax: UID, pixels: StoredPixels, expected: np.ndarray) -> None:
    got = pixels.array.reshape(expected.shape)
    # The inverse DCT is not specified to the last bit (T.81 A.3.3): builds of libjpeg differ by one.
    tolerance = 1 if syntax in LOSSY_JPEG else 0
    assert np.abs(got.astype(np.int64) - expected).max() <= tolerance, path.name


def test_every_decodable_file_gives_pydicoms_pixels() -> None:
    compared: Counter[UID] = Counter()
    for path, syntax, pixels in decoded():
        if path.name in NO_REFERENCE:
            continue
        ds = pydicom.dcmread(path, force=True)
        decoder = "pylibjpeg" if syntax.is_encapsulated and "pylibjpeg" in get_decoder(syntax).available_plugins else ""
        expected = pixel_array(ds, raw=True, decoding_plugin=decoder)
        assert pixels.array.dtype == expected.dtype.newbyteorder("="), path.name
        assert_same(path, syntax, pixels, expected)
        compared[syntax] += 1
    assert sum(compared.values()) >= 150
    assert {syntax.removeprefix("1.2.840.10008.1.2") for syntax in compared} >= {
        "", ".1", ".1.99", ".2", ".5", ".4.50", ".4.51", ".4.70", ".4.80", ".4.81", ".4.90", ".4.91"
    }  # fmt: skip


def dcmtk_pixels(path: Path, syntax: UID, folder: Path, pixels: StoredPixels) -> np.ndarray | None:
    """What DCMTK makes of a file, without colour conversion; None where it refuses."""
    out = folder / "out.dcm"
    program, *options = DCMTK[syntax]
    done = subprocess.run([program, *options, "+te", str(path), str(out)], capture_output=True, check=False)
    if done.returncode:
        return None
    ds = pydicom.dcmread(out)
    count = pixels.array.size
    if ds.BitsAllocated == 1:
        return np.unpackbits(np.frombuffer(ds.PixelData, "u1"), bitorder="little")[:count]
    values = np.frombuffer(ds.PixelData, f"<{pixels.array.dtype.kind}{ds.BitsAllocated // 8}")
    if pixels.array.shape[-1] == 3 and ds.get("PlanarConfiguration"):
        frames = len(pixels.array)
        values = values[:count].reshape(frames, 3, -1).transpose(0, 2, 1)
    unused = ds.BitsAllocated - ds.BitsStored
    return values.reshape(-1)[:count] << unused >> unused


@pytest.mark.skipif(not Path("/usr/bin/dcmdjpeg").exists(), reason="DCMTK is not installed (apt-get install dcmtk)")
def test_every_decodable_file_gives_dcmtks_pixels(tmp_path: Path) -> None:
    compared: Counter[UID] = Counter()
    refused = set()
    for path, syntax, pixels in decoded():
        subsampled = pixels.photometric == "YBR_FULL_422" and not syntax.is_encapsulated
        # OW are 16-bit words (PS3.5 6.2): of 32-bit pixels in big endian pydicom swaps four bytes, DCMTK twice two.
        wide = syntax == ExplicitVRBigEndian and pixels.array.dtype.itemsize > 2
        if syntax not in DCMTK or subsampled or wide:  # JPEG 2000 it cannot; subsampled pixels stay so
            continue
        expected = dcmtk_pixels(path, syntax, tmp_path, pixels)
        if expected is None:
            refused.add(path.name)
            continue
        assert_same(path, syntax, pixels, expected.reshape(pixels.array.shape))
        compared[syntax] += 1
    assert sum(compared.values()) >= 120, (compared, refused)
    assert set(DCMTK) - set(compared) <= {DeflatedExplicitVRLittleEndian, JPEGLossless}
    assert len(refused) <= 6, refused


@pytest.mark.parametrize("predictor", range(1, 8))
def test_every_predictor_of_lossless_jpeg_is_read(tmp_path: Path, predictor: int) -> None:
    array = RNG.integers(0, 4096, (32, 40)).astype("u2")
    stream = bytes(imagecodecs.jpeg8_encode(array, lossless=True, predictor=predictor, bitspersample=12))
    ds = cr(array, BitsStored=12)
    ds.PixelData = encapsulate([stream + b"\0" * (len(stream) % 2)])
    ds["PixelData"].is_undefined_length = True
    ds.file_meta = pydicom.dataset.FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = JPEGLossless
    ds.save_as(tmp_path / "a", enforce_file_format=True)
    assert np.array_equal(decode_stored(tmp_path / "a").array[0], array)
    assert np.array_equal(pixel_array(ds, decoding_plugin="pylibjpeg"), array)


def test_what_is_not_decoded_is_refused_with_its_code_or_has_no_pixels() -> None:
    refused: dict[str, ErrorCode] = {}
    for path in files():
        if path.name in NOT_IN_TIME:
            continue
        try:
            decode_stored(path)
        except DicomError as error:
            refused[path.name] = error.code
    listed = {name: code for name, code in refused.items() if name in REFUSED}
    assert listed == REFUSED
    for path in files():
        if path.name in refused and path.name not in REFUSED:
            ds = pydicom.dcmread(path, force=True)
            assert not {"PixelData", "Rows"} <= {element.keyword for element in ds}, (path.name, refused[path.name])
            assert refused[path.name] in (C.NO_PIXELS, C.NOT_DICOM, C.INVALID_HEADER), path.name


def test_the_transfer_syntaxes_are_those_that_pydicom_decodes() -> None:
    assert frozenset(base._PIXEL_DATA_DECODERS) == TRANSFER_SYNTAXES
    assert set(codecs._DECODERS) == {syntax for syntax in TRANSFER_SYNTAXES if UID(syntax).is_encapsulated}


@pytest.mark.parametrize("syntax", [HTJ2KLossless, HTJ2KLosslessRPCL, HTJ2K], ids=lambda uid: uid.name)
@pytest.mark.parametrize("kind", ["u1", "u2", "i2", "rgb"])
def test_htj2k_gives_the_values_that_openjpeg_gives(tmp_path: Path, syntax: UID, kind: str) -> None:
    dtype = "u1" if kind == "rgb" else kind
    info = np.iinfo(dtype)
    shape = (64, 80, 3) if kind == "rgb" else (64, 80)
    array = RNG.integers(info.min // 4, info.max // 4, shape).astype(dtype)
    path = save(colour(array) if kind == "rgb" else cr(array), tmp_path / "a", HTJ2KLossless)
    ds = pydicom.dcmread(path)
    ds.file_meta.TransferSyntaxUID = syntax
    ds.save_as(path)
    expected = pixel_array(pydicom.dcmread(path), raw=True, decoding_plugin="pylibjpeg")
    assert np.array_equal(decode_stored(path).array[0], expected)
    assert np.array_equal(expected, array)


def test_an_htj2k_image_that_ends_in_black_is_no_broken_one(tmp_path: Path) -> None:
    array = np.zeros((64, 64), "u2")
    array[:32] = 700
    assert np.array_equal(decode_stored(save(cr(array), tmp_path / "a", HTJ2KLossless)).array[0], array)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_htj2k_blocks_that_break_off_are_never_filled_with_black(tmp_path: Path) -> None:
    array = RNG.integers(1, 4096, (64, 64)).astype("u2")
    frame = bytearray(
        next(
            pydicom.encaps.generate_frames(
                pydicom.dcmread(save(cr(array), tmp_path / "a", HTJ2KLossless)).PixelData, number_of_frames=1
            )
        )
    )
    refused = 0
    for at in range(100, len(frame) - 8, 97):
        broken = bytes(frame[:at]) + b"\xff\xff\xff\xff" + bytes(frame[at + 4 :])
        ds = cr(array)
        ds.PixelData = encapsulate([broken + b"\0" * (len(broken) % 2)])
        ds["PixelData"].is_undefined_length = True
        ds.file_meta = pydicom.dataset.FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = HTJ2KLossless
        ds.save_as(tmp_path / "b", enforce_file_format=True)
        try:
            assert decode_stored(tmp_path / "b").array[0, -1].any()
        except DicomError as error:
            assert error.code == C.DECODE_FAILED
            refused += 1
    assert refused


@pytest.mark.parametrize("syntax", LOSSLESS_SYNTAXES, ids=lambda uid: uid.name)
def test_colour_keeps_its_three_samples(tmp_path: Path, syntax: UID) -> None:
    array = RNG.integers(0, 256, (2, 12, 16, 3)).astype("u1")[0]
    pixels = decode_stored(save(colour(array), tmp_path / "a", syntax))
    assert pixels.photometric == "RGB"
    assert np.array_equal(pixels.array[0], array)
    assert not pixels.array.flags.writeable


def test_packed_bits_are_the_first_pixel_first_and_cross_the_frames(tmp_path: Path) -> None:
    array = RNG.integers(0, 2, (3, 5, 7)).astype("u1")
    ds = us(array, BitsAllocated=1, BitsStored=1, HighBit=0)
    ds.PixelData = np.packbits(array, bitorder="little").tobytes()
    for syntax in (ImplicitVRLittleEndian, ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian):
        path = save(ds, tmp_path / "a", syntax)
        assert np.array_equal(decode_stored(path).array, array)
        assert np.array_equal(decode_stored(path).array, pydicom.dcmread(path).pixel_array)


def test_subsampled_chrominance_is_repeated_as_pydicom_does(tmp_path: Path) -> None:
    ds = colour(np.zeros((6, 8, 3), "u1"), "YBR_FULL_422")
    ds.PixelData = RNG.integers(0, 256, 6 * 8 * 2).astype("u1").tobytes()
    path = save(ds, tmp_path / "a")
    assert np.array_equal(decode_stored(path).array[0], pixel_array(pydicom.dcmread(path), raw=True))


def test_no_codec_is_missing_here_and_one_that_is_would_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert codecs.missing_codecs() == ()
    monkeypatch.setattr(codecs.imagecodecs.HTJ2K, "available", False)
    assert codecs.missing_codecs() == ("imagecodecs HTJ2K (High-Throughput JPEG 2000)",)
