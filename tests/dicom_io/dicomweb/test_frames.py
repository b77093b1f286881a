"""Frames, bulk data, decoded files and pictures, compared with pydicom and Pillow's own reading of them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image as Picture
from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_file
from pydicom.encaps import generate_frames
from pydicom.pixels import apply_modality_lut, apply_voi_lut, convert_color_space
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, JPEGBaseline8Bit, JPEGLSLossless, RLELossless

from radserve.dicom_io.dicomweb.frames import (
    NoSuchPartError,
    Piece,
    bulk_pieces,
    decoded_pieces,
    put_aside,
    stored_pieces,
)
from radserve.dicom_io.dicomweb.rendered import PNG, Rendering, render, rendering
from radserve.dicom_io.dicomweb.transcode import write_explicit_little
from radserve.errors import RadserveError
from radserve.voi import VoiFunction, VoiWindow
from tests.support.dicoms import LOSSLESS_SYNTAXES, colour, cr, ct, save, us

Array = npt.NDArray[Any]
RANDOM = np.random.default_rng(7)


def content(piece: Piece, path: Path) -> bytes:
    data = path.read_bytes()
    found = b"".join(data[start:stop] for start, stop in piece.spans) or piece.data
    assert piece.size == len(found)
    return found


def decoded_piece(path: Path, number: int) -> Piece:
    (piece,) = decoded_pieces(path, number)
    return piece


def cine(frames: int = 3) -> Array:
    return RANDOM.integers(0, 200, (frames, 32, 40), dtype=np.uint8)


@pytest.mark.parametrize("syntax", LOSSLESS_SYNTAXES)
def test_a_frame_is_decoded_alone_from_every_lossless_syntax(syntax: str, tmp_path: Path) -> None:
    array = RANDOM.integers(-1000, 1000, (33, 41), dtype=np.int16)
    path = save(ct(array), tmp_path / "a.dcm", syntax)
    assert content(decoded_piece(path, 1), path) == array.astype("<i2").tobytes()
    frames = cine()
    path = save(us(frames), tmp_path / "b.dcm", syntax)
    assert [content(decoded_piece(path, number), path) for number in (3, 1)] == [
        frames[2].tobytes(),
        frames[0].tobytes(),
    ]


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless])
def test_stored_frames_are_the_codestreams_of_the_file(syntax: str, tmp_path: Path) -> None:
    path = save(us(cine()), tmp_path / "a.dcm", syntax)
    expected = list(generate_frames(dcmread(path).PixelData, number_of_frames=3))
    assert [content(piece, path) for piece in stored_pieces(path, [2, 3, 1])] == [expected[1], expected[2], expected[0]]
    assert [content(piece, path) for piece in bulk_pieces(path, [0x7FE00010])] == expected


def test_stored_frames_of_a_big_endian_file_stay_big_endian(tmp_path: Path) -> None:
    array = RANDOM.integers(0, 4000, (6, 7), dtype=np.uint16)
    path = save(cr(array), tmp_path / "a.dcm", ExplicitVRBigEndian)
    (piece,) = stored_pieces(path, [1])
    assert content(piece, path) == array.astype(">u2").tobytes()


def test_one_bit_frames_begin_where_a_byte_ends(tmp_path: Path) -> None:
    frames = RANDOM.integers(0, 2, (3, 5, 7), dtype=np.uint8)
    image = us(frames, BitsAllocated=1, BitsStored=1, HighBit=0)
    image.PixelData = np.packbits(frames, bitorder="little").tobytes()
    path = save(image, tmp_path / "a.dcm")
    for number in (1, 2, 3):
        bits = np.unpackbits(np.frombuffer(content(decoded_piece(path, number), path), np.uint8), bitorder="little")
        assert (bits[:35].reshape(5, 7) == frames[number - 1]).all()


def test_what_has_to_be_made_is_put_aside(tmp_path: Path) -> None:
    frames, aside = cine(), tmp_path / "aside"
    path = save(us(frames), tmp_path / "a.dcm", RLELossless)
    (piece,) = put_aside(aside, decoded_pieces, path, 2)
    assert piece.aside
    assert content(piece, aside) == frames[1].tobytes()
    (stored,) = put_aside(tmp_path / "none", stored_pieces, path, [2])
    assert not stored.aside
    assert not (tmp_path / "none").exists()


def test_there_is_no_frame_beyond_the_last_and_none_without_pixels(tmp_path: Path) -> None:
    path = save(us(cine()), tmp_path / "a.dcm")
    for number in (0, 4):
        with pytest.raises(NoSuchPartError, match=f"no frame {number}: the instance has 3"):
            stored_pieces(path, [1, number])
    with pytest.raises(NoSuchPartError, match="no frames"):
        decoded_piece(Path(str(get_testdata_file("test-SR.dcm"))), 1)


def test_bulk_data_is_found_at_any_depth(tmp_path: Path) -> None:
    item = Dataset()
    item.add_new(0x00420011, "OB", b"nested")
    image = cr(cine()[0], IconImageSequence=Sequence([Dataset(), item]))
    image.add_new(0x00420011, "OB", b"%PDF-1.7")
    image.ImageComments = "text"
    path = save(image, tmp_path / "a.dcm")
    assert [content(piece, path) for piece in bulk_pieces(path, [0x00420011])] == [b"%PDF-1.7"]
    assert [content(piece, path) for piece in bulk_pieces(path, [0x00880200, 2, 0x00420011])] == [b"nested"]
    assert [content(piece, path) for piece in bulk_pieces(path, [0x7FE00010])] == [image.PixelData]
    for place in ([0x00420012], [0x00880200, 3, 0x00420011], [0x00880200, 1, 0x00420011], [0x00880200]):
        with pytest.raises(RadserveError):
            bulk_pieces(path, place)


@pytest.mark.parametrize("syntax", LOSSLESS_SYNTAXES)
def test_a_file_in_explicit_little_endian_has_the_same_header_and_pixels(syntax: str, tmp_path: Path) -> None:
    image = us(cine(), PatientName="Müller^Jörg")
    source = save(image, tmp_path / "a.dcm", syntax)
    write_explicit_little(source, tmp_path / "b.dcm")
    before, after = dcmread(source), dcmread(tmp_path / "b.dcm")
    assert after.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert after.file_meta.MediaStorageSOPInstanceUID == image.SOPInstanceUID
    assert after.PixelData == image.PixelData
    del before.PixelData, after.PixelData
    assert before == after


def test_colour_is_decoded_to_colour_by_pixel(tmp_path: Path) -> None:
    for name in (
        "SC_rgb_dcmtk_+eb+cy+s4.dcm",
        "SC_rgb_rle_2frame.dcm",
        "SC_rgb_small_odd_jpeg.dcm",
        "SC_rgb_jpeg_dcmtk.dcm",
    ):
        source = Path(str(get_testdata_file(name)))
        target = tmp_path / name
        write_explicit_little(source, target)
        after = dcmread(target)
        assert after.PlanarConfiguration == 0
        expected, found = dcmread(source).pixel_array, after.pixel_array  # pydicom gives RGB for both
        assert found.shape == expected.shape
        # JPEG decoders differ in how they spread chrominance over the pixels that share it.
        assert np.abs(found.astype(int) - expected.astype(int)).mean() < 2


def test_a_file_that_is_cut_is_refused(tmp_path: Path) -> None:
    source = save(cr(cine()[0]), tmp_path / "a.dcm")
    source.write_bytes(source.read_bytes()[:-50])
    with pytest.raises(RadserveError, match="ends inside"):
        write_explicit_little(source, tmp_path / "b.dcm")


def picture(path: Path, number: int = 1, **how: Any) -> Array:
    return np.asarray(Picture.open(io.BytesIO(render(path, number, Rendering(**{"media_type": PNG, **how})))))


def test_a_picture_has_the_window_of_the_header_by_pydicoms_reckoning() -> None:
    path = Path(str(get_testdata_file("CT_small.dcm")))
    ds = dcmread(path)
    ds.WindowCenter, ds.WindowWidth = 40.0, 400.0
    values = apply_voi_lut(apply_modality_lut(ds.pixel_array, ds), ds).astype(float)
    # pydicom maps the window to the range of the stored values
    expected = (values - values.min()) / (values.max() - values.min()) * 255
    found = picture(path, window=VoiWindow(40, 400))
    assert np.abs(found - expected).max() <= 1


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_black_is_black(photometric: str, tmp_path: Path) -> None:
    array = np.tile(np.arange(256, dtype=np.uint8), (4, 1))
    path = save(cr(array, PhotometricInterpretation=photometric), tmp_path / "a.dcm")
    expected = array if photometric == "MONOCHROME2" else 255 - array
    assert np.abs(picture(path).astype(int) - expected).max() <= 1


def test_each_frame_has_the_window_of_its_own_functional_group(tmp_path: Path) -> None:
    frames = np.stack([np.full((8, 8), 100, np.uint8)] * 2)
    image = us(frames)
    groups = []
    for center in (100, 200):
        voi = Dataset()
        voi.WindowCenter, voi.WindowWidth = center, 100
        group = Dataset()
        group.FrameVOILUTSequence = Sequence([voi])
        groups.append(group)
    image.PerFrameFunctionalGroupsSequence = Sequence(groups)
    path = save(image, tmp_path / "a.dcm")
    assert abs(int(picture(path, 1)[0, 0]) - 128) <= 2
    assert picture(path, 2)[0, 0] == 0


def test_colour_stays_colour(tmp_path: Path) -> None:
    rgb = np.zeros((16, 16, 3), np.uint8)
    rgb[:8, :, 0], rgb[8:, :, 2] = 250, 250
    assert (picture(save(colour(rgb), tmp_path / "a.dcm")) == rgb).all()
    found = picture(save(colour(rgb), tmp_path / "b.dcm", JPEGBaseline8Bit)).astype(int)
    assert np.abs(found[::15] - rgb[::15]).max() < 12
    ybr = convert_color_space(rgb, "RGB", "YBR_FULL")
    found = picture(save(colour(ybr, "YBR_FULL"), tmp_path / "c.dcm")).astype(int)
    assert np.abs(found - rgb).max() <= 3


def test_a_palette_is_applied() -> None:
    path = Path(str(get_testdata_file("OBXXXX1A.dcm")))
    ds = dcmread(path)
    from pydicom.pixels import apply_color_lut

    assert (picture(path) == apply_color_lut(ds.pixel_array, ds) >> 8).all()


def test_the_viewport_scales_and_crops_and_keeps_the_shape(tmp_path: Path) -> None:
    array = np.zeros((40, 80), np.uint8)
    array[20:, 40:] = 255
    path = save(cr(array), tmp_path / "a.dcm")
    assert picture(path, viewport=(40, 40)).shape == (20, 40)
    corner = picture(path, viewport=(20, 20), region=(40, 20, 40, 20))
    assert corner.shape == (10, 20)
    assert corner.min() == 255
    with pytest.raises(RadserveError, match="within 80 x 40"):
        picture(path, viewport=(20, 20), region=(60, 20, 40, 20))
    jpeg = Picture.open(io.BytesIO(render(path, 1, Rendering(quality=50))))
    assert (jpeg.format, jpeg.size) == ("JPEG", (80, 40))


def test_the_parameters_of_a_picture_are_read() -> None:
    how = rendering(PNG, {"window": "-40.5,400,linear-exact", "viewport": "512,256,0,10,20,30", "quality": "7"})
    window = VoiWindow(-40.5, 400, VoiFunction.LINEAR_EXACT)
    assert how == Rendering(PNG, window, (512, 256), (0, 10, 20, 30), 7)


@pytest.mark.parametrize(
    "given",
    [
        *(
            {"window": text}
            for text in ("", "40", "a,b", "40,0", "40,400,cubic", "1e400,2", "nan,1", "40,400,linear,1")
        ),
        *({"viewport": text} for text in ("", "0,10", "10", "1,2,3", "99999,1", "10,10,0,0,0,5", "-1,5", "inf,5")),
        *({"quality": text} for text in ("0", "101", "best", "")),
    ],
)
def test_parameters_that_make_no_sense_are_refused(given: dict[str, str]) -> None:
    with pytest.raises(RadserveError):
        rendering(PNG, given)
