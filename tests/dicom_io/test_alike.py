"""Slices decoded one after the other, their headers known from the slice before: the same as each decoded alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.datadict import DicomDictionary, tag_for_keyword
from pydicom.sequence import Sequence
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    MRImageStorage,
    SegmentationStorage,
)

from radserve.dicom_io import decode
from radserve.dicom_io.alike import differences, form_of
from radserve.dicom_io.decode import DecodeLimits, ImageDecoder, decode_image
from radserve.dicom_io.element_table import ElementTable
from radserve.dicom_io.part10 import open_dicom
from radserve.errors import RadserveError
from radserve.image import Image
from tests.support.dicoms import ct_series, save

STORED = np.random.default_rng(5).integers(-1000, 2000, (8, 6, 5)).astype("i2")
EVERYTHING = frozenset((*DicomDictionary, 0x00020003, 0x00020010))
Change = Callable[[Dataset, int], None]


def series(folder: Path, change: Change | None = None, syntax: str = ExplicitVRLittleEndian) -> list[Path]:
    """Slices whose UIDs, numbers and positions have several lengths, each changed by `change(ds, index)`."""
    parts = ct_series(STORED, RescaleIntercept=-1024, WindowCenter=40, WindowWidth=400)
    for index, ds in enumerate(parts):
        ds.SOPInstanceUID = f"1.2.3.{10**index}"
        ds.InstanceNumber = 10 * index
        ds.ImagePositionPatient = [0, 0, 99.5 + index]
        ds.SliceLocation = 99.5 + index
        ds.ContentTime = f"1200{index:02}" + (".5" if index % 3 else "")
        if change is not None:
            change(ds, index)
    return [save(ds, folder / f"{index}.dcm", syntax) for index, ds in enumerate(parts)]


def outcome(decode: Callable[[], Image]) -> Any:
    """All that an image says, or all that its refusal does."""
    try:
        image = decode()
    except RadserveError as error:
        return error.code, error.client_message
    rest = image.properties, image.provenance, image.context, image.source, image.source.header, image.planes
    return image.array.tolist(), str(image.array.dtype), rest


def check_as_alone(paths: list[Path]) -> None:
    expected = [outcome(partial(decode_image, path)) for path in paths]
    for differing in (frozenset[int](), EVERYTHING):
        decoder = ImageDecoder(DecodeLimits(), differing)
        assert [outcome(partial(decoder.decode, path)) for path in paths] == expected


def set_of(keyword: str, *values: Any) -> Change:
    def change(ds: Dataset, index: int) -> None:
        if (value := values[index % len(values)]) is None:
            ds.pop(tag_for_keyword(keyword), None)
        else:
            setattr(ds, keyword, value)

    return change


def sequence(ds: Dataset, index: int) -> None:
    item = Dataset()
    item.ReferencedSOPInstanceUID = f"1.2.{index}" + index * ".5"
    inner = Dataset()
    inner.CodeValue = "T" * index
    item.PurposeOfReferenceCodeSequence = Sequence([inner])
    ds.ReferencedImageSequence = Sequence([item] * (1 + index % 2))
    ds["ReferencedImageSequence"].is_undefined_length = True


CHANGES: dict[str, Change] = {
    "nothing else": lambda ds, index: None,
    "window": set_of("WindowCenter", 40, 40, 40, 50),
    "slope": set_of("RescaleSlope", 1, 1, 1, 2),
    "intercept, of another length": set_of("RescaleIntercept", -1024, -1024, 0),
    "bits": set_of("BitsStored", 16, 16, 16, 12),
    "photometric interpretation": set_of("PhotometricInterpretation", *["MONOCHROME2"] * 4, "MONOCHROME1", "HSV"),
    "spacing": set_of("PixelSpacing", [1, 1], [1, 1], [1, 1], [0.5, 0.25]),
    "orientation": set_of("ImageOrientationPatient", *[[1, 0, 0, 0, 1, 0]] * 4, [0, 1, 0, 0, 0, 1], None),
    "frame of reference": set_of("FrameOfReferenceUID", "1.2.3", "1.2.3", "1.2.3", "1.2.3.44", None),
    "SOP class": set_of("SOPClassUID", *["1.2.840.10008.5.1.4.1.1.2"] * 4, MRImageStorage, SegmentationStorage),
    "study": set_of("StudyInstanceUID", "1.2", "1.2", "1.2", "1.3", "no UID", None),
    "description": set_of("SeriesDescription", "thorax", "thorax", "thorax", "abdomen", "\xe9t\xe9", None),
    "patient": set_of("PatientAge", "050Y", "050Y", "050Y", "006M"),
    "character set": set_of("SpecificCharacterSet", *["ISO_IR 100"] * 4, "ISO_IR 192", "no term"),
    "burned in": set_of("BurnedInAnnotation", "NO", "NO", "NO", "NO", "YES"),
    "an element that comes and goes": set_of("Manufacturer", "A", "A", "A", None),
    "modality": set_of("Modality", "CT", "CT", "CT", "CT", "MR"),
    "a sequence without a length": sequence,
    "padding": set_of("PixelPaddingValue", -2000, -2000, -2000, -1999),
}


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, HTJ2KLossless])
@pytest.mark.parametrize("name", CHANGES)
def test_slices_that_differ_in_something_are_as_when_decoded_alone(tmp_path: Path, name: str, syntax: UID) -> None:
    check_as_alone(series(tmp_path, CHANGES[name], syntax))


def test_slices_of_several_syntaxes_are_as_when_decoded_alone(tmp_path: Path) -> None:
    syntaxes = [ExplicitVRLittleEndian] * 3 + [HTJ2KLossless, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian]
    paths = series(tmp_path)
    for index, (ds, syntax) in enumerate(zip(ct_series(STORED[:6]), syntaxes, strict=True)):
        save(ds, paths[index], syntax)
    check_as_alone(paths)
    check_as_alone(paths[::-1])


def test_slices_with_damaged_bytes_are_as_when_decoded_alone(tmp_path: Path) -> None:
    rng = np.random.default_rng(11)
    paths = series(tmp_path)
    header = open_dicom(paths[3]).end + 12
    whole = paths[3].read_bytes()
    for _ in range(200):
        data = bytearray(whole)
        at = int(rng.integers(header))
        match rng.integers(4):
            case 0:
                data[at] = int(rng.integers(256))
            case 1:
                del data[at : at + int(rng.integers(1, 9))]
            case 2:
                data[at:at] = rng.bytes(int(rng.integers(1, 9)))
            case _:
                del data[int(rng.integers(len(data))) :]
        paths[3].write_bytes(bytes(data))
        check_as_alone(paths[:5])


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, HTJ2KLossless])
@pytest.mark.parametrize("name", ["nothing else", "a sequence without a length", "orientation"])
def test_a_header_of_known_form_is_read_as_by_the_parser(tmp_path: Path, name: str, syntax: UID) -> None:
    files = [open_dicom(path) for path in series(tmp_path, CHANGES[name], syntax)][:4]
    differing = frozenset[int]().union(*(differences(files[0], other) or () for other in files[1:]))
    form = form_of(files[0], differing)
    assert form is not None
    for file in files:
        found = form.read(file.data)
        assert found is not None
        for own, expected in ((found.elements, file.elements), (found.meta_elements, file.meta_elements)):
            assert isinstance(own, ElementTable)
            assert isinstance(expected, ElementTable)
            assert list(own.places.items()) == list(expected.places.items())
            assert (own.implicit, own.encoding) == (expected.implicit, expected.encoding)
        assert (found.pixels, found.end, found.repairs) == (file.pixels, file.end, file.repairs)
        assert found.transfer_syntax_uid == file.transfer_syntax_uid
        assert found.dataset == file.dataset


def test_most_slices_of_a_usual_series_are_read_by_their_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[int] = []
    real = decode.opened
    monkeypatch.setattr(decode, "opened", lambda data: parsed.append(len(data)) or real(data))
    decoder = ImageDecoder(DecodeLimits())
    for path in series(tmp_path):
        decoder.decode(path)
    assert len(parsed) <= 4


def test_a_window_that_changes_once_is_read_once_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[int] = []
    real = decode.opened
    monkeypatch.setattr(decode, "opened", lambda data: parsed.append(len(data)) or real(data))
    paths = series(tmp_path, lambda ds, index: setattr(ds, "WindowCenter", 40 + index // 4))
    decoder = ImageDecoder(DecodeLimits(), EVERYTHING)
    found = [decoder.decode(path).properties.voi for path in paths]
    assert len(parsed) == 2
    assert len(set(found)) == 2
    assert found == [decode_image(path).properties.voi for path in paths]


def test_slices_that_are_never_alike_are_soon_no_more_compared(tmp_path: Path) -> None:
    paths = series(tmp_path, lambda ds, index: setattr(ds, "WindowCenter", 40 + index))
    check_as_alone(paths * 2)
