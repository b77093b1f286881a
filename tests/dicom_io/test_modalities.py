"""One object of each modality in each lossless transfer syntax: its values are those that pydicom's decoders give."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom import Dataset
from pydicom.pixels import apply_rescale
from pydicom.uid import UID, DigitalXRayImageStorageForPresentation, VLWholeSlideMicroscopyImageStorage

from radserve.dicom_io.decode import decode_image
from tests.support.dicoms import LOSSLESS_SYNTAXES, colour, cr, ct, mr, save, us

RNG = np.random.default_rng(0)
ORIENTATION = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)  # a sagittal plane
LUMINANCE = np.array([0.299, 0.587, 0.114])


def values(shape: tuple[int, ...], high: int, dtype: str, low: int = 0) -> np.ndarray:
    return RNG.integers(low, high, shape).astype(dtype)


def radiograph() -> Dataset:
    return cr(values((40, 30), 4096, "u2"), BitsStored=12, HighBit=11, PhotometricInterpretation="MONOCHROME1")


def digital_radiograph() -> Dataset:
    uid = DigitalXRayImageStorageForPresentation
    return cr(values((40, 30), 1 << 14, "u2"), BitsStored=14, HighBit=13, SOPClassUID=uid, Modality="DX")


def tomogram() -> Dataset:
    geometry = {"position": (1.5, -2.5, 3.5), "orientation": ORIENTATION, "spacing": (0.5, 0.75)}
    return ct(values((32, 24), 2000, "i2", -1000), RescaleSlope=2, RescaleIntercept=-24, **geometry)


def resonance() -> Dataset:
    return mr(values((32, 24), 1 << 15, "u2"), position=(0.0, 0.0, 7.0), orientation=ORIENTATION, spacing=(1.0, 1.0))


def cine() -> Dataset:
    return us(values((3, 24, 32), 256, "u1"))


def doppler() -> Dataset:
    return colour(values((24, 32, 3), 256, "u1"), Modality="US", SOPClassUID="1.2.840.10008.5.1.4.1.1.6.1")


def slide() -> Dataset:
    """A tile: as radserve reads a frame of a slide; its pyramid is not assembled."""
    return colour(values((32, 32, 3), 256, "u1"), Modality="SM", SOPClassUID=VLWholeSlideMicroscopyImageStorage)


def capture() -> Dataset:
    return colour(values((17, 23, 3), 256, "u1"))


GREY = (radiograph, digital_radiograph, tomogram, resonance, cine)
COLOUR = (doppler, slide, capture)


def written(make: Callable[[], Dataset], folder: Path, syntax: UID) -> tuple[Path, Dataset]:
    path = save(make(), folder / "a.dcm", syntax)
    ds = pydicom.dcmread(path)
    assert ds.file_meta.TransferSyntaxUID == syntax
    return path, ds


@pytest.mark.parametrize("syntax", LOSSLESS_SYNTAXES, ids=lambda uid: uid.name)
@pytest.mark.parametrize("make", GREY, ids=lambda make: make.__name__)
def test_grey_objects_of_each_modality(tmp_path: Path, make: Callable[[], Dataset], syntax: UID) -> None:
    path, ds = written(make, tmp_path, syntax)
    image = decode_image(path)
    expected = apply_rescale(ds.pixel_array, ds)
    np.testing.assert_array_equal(image.array, expected if expected.ndim == 3 else expected[np.newaxis])
    assert image.context.modality == ds.Modality
    assert image.properties.photometric_interpretation == ds.PhotometricInterpretation
    assert image.frames == int(ds.get("NumberOfFrames", 1))
    if "ImagePositionPatient" in ds:
        (plane,) = image.planes
        assert plane.image_position_mm == tuple(ds.ImagePositionPatient)
        assert plane.image_orientation == tuple(ds.ImageOrientationPatient)
        assert image.properties.pixel_spacing_mm == tuple(ds.PixelSpacing)


@pytest.mark.parametrize("syntax", LOSSLESS_SYNTAXES, ids=lambda uid: uid.name)
@pytest.mark.parametrize("make", COLOUR, ids=lambda make: make.__name__)
def test_colour_objects_of_each_modality(tmp_path: Path, make: Callable[[], Dataset], syntax: UID) -> None:
    path, ds = written(make, tmp_path, syntax)
    image = decode_image(path)
    assert np.abs(image.array[0] - ds.pixel_array @ LUMINANCE).max() <= 0.5001  # rounded
    assert image.context.modality == ds.Modality
