"""The inputs of the safety suite: DICOM files built from the recipes of its items, with an invented patient.

A recipe names a `builder` of BUILDERS and its parameters: `pixels` (a name of PIXELS), `seed`, `tags` (DICOM keywords
laid over the finished header; null removes one), `cut` (the share of the file that is kept). The same recipe gives the
same bytes, and the item's id its UIDs.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import Dataset
from pydicom.config import disable_value_validation
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

Array = npt.NDArray[np.uint8]
SHAPE = 160, 128
SOP_CLASSES = MappingProxyType(
    {
        "CR": "1.2.840.10008.5.1.4.1.1.1",
        "US": "1.2.840.10008.5.1.4.1.1.6.1",
        "CT": "1.2.840.10008.5.1.4.1.1.2",
        "MR": "1.2.840.10008.5.1.4.1.1.4",
        "NM": "1.2.840.10008.5.1.4.1.1.20",
        "PT": "1.2.840.10008.5.1.4.1.1.128",
        "XA": "1.2.840.10008.5.1.4.1.1.12.1",
        "MG": "1.2.840.10008.5.1.4.1.1.1.2",
        "OT": "1.2.840.10008.5.1.4.1.1.7",
        "XC": "1.2.840.10008.5.1.4.1.1.77.1.4",
        "SR": "1.2.840.10008.5.1.4.1.1.88.22",
        "DOC": "1.2.840.10008.5.1.4.1.1.104.1",
        "ECG": "1.2.840.10008.5.1.4.1.1.9.1.1",
    }
)


def study_uid(item: str) -> str:
    """The Study Instance UID of an item's input."""
    return _uid("study", item)


def build(item: str, recipe: Mapping[str, Any]) -> bytes:
    """The file of a recipe. Raises KeyError for a builder or pixels there are none of."""
    parameters = dict(recipe)
    builder, cut = BUILDERS[parameters.pop("builder")], parameters.pop("cut", 1.0)
    data = builder(item, **parameters)
    return data[: int(len(data) * cut)]


def image(
    item: str, *, modality: str, pixels: str = "chest", seed: int = 0, tags: Mapping[str, Any] | None = None
) -> bytes:
    """An image with a complete header; its tags may then say what its pixels are not."""
    array = PIXELS[pixels](np.random.default_rng(seed))
    ds = _header(item, modality)
    ds.SamplesPerPixel = 3 if array.ndim == 3 else 1
    ds.PhotometricInterpretation = "RGB" if array.ndim == 3 else "MONOCHROME2"
    if array.ndim == 3:
        ds.PlanarConfiguration = 0
    ds.Rows, ds.Columns = array.shape[:2]
    ds.BitsAllocated = ds.BitsStored = 8
    ds.HighBit, ds.PixelRepresentation = 7, 0
    ds.add_new(0x7FE00010, "OB", array.tobytes())
    return _file(ds, tags or {})


def radiograph(item: str, **parameters: Any) -> bytes:
    """A chest radiograph (CR, PA) of a child of three years, within what the default pack is for."""
    tags = {"BodyPartExamined": "CHEST", "ViewPosition": "PA", "PatientAge": "003Y"} | parameters.pop("tags", {})
    return image(item, modality="CR", tags=tags, **parameters)


def ultrasound(item: str, **parameters: Any) -> bytes:
    """A breast ultrasound of a woman of fifty years, within what the default pack is for."""
    tags = {"BodyPartExamined": "BREAST", "PatientAge": "050Y", "PatientSex": "F"} | parameters.pop("tags", {})
    return image(item, modality="US", tags=tags, **parameters)


def document(item: str, *, modality: str, tags: Mapping[str, Any] | None = None) -> bytes:
    """A DICOM object of a kind that has no image."""
    return _file(_header(item, modality), tags or {})


def raw(item: str, *, text: str = "", times: int = 1) -> bytes:
    """Bytes that are no DICOM, as a text repeated."""
    return text.encode("latin-1") * times


BUILDERS: Mapping[str, Callable[..., bytes]] = MappingProxyType(
    {"image": image, "radiograph": radiograph, "ultrasound": ultrasound, "document": document, "raw": raw}
)


def _chest(random: np.random.Generator) -> Array:
    y, x = np.mgrid[-1 : 1 : SHAPE[0] * 1j, -1 : 1 : SHAPE[1] * 1j]
    lungs = sum(np.exp(-((((x - side) / 0.3) ** 2 + (y / 0.6) ** 2) ** 2)) for side in (-0.45, 0.45))
    return _levels(200 - 130 * lungs + random.normal(0, 6, SHAPE))


def _breast(random: np.random.Generator) -> Array:
    y, x = np.mgrid[-1 : 1 : SHAPE[0] * 1j, -1 : 1 : SHAPE[1] * 1j]
    lesion = (x**2 / 0.1 + (y + 0.2) ** 2 / 0.05) < 1
    return _levels((110 - 40 * y - 70 * lesion) * random.rayleigh(0.8, SHAPE))


def _colour_photograph(random: np.random.Generator) -> Array:
    """A landscape: blue sky, green ground, a yellow sun."""
    picture = np.zeros((*SHAPE, 3))
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    picture[y < SHAPE[0] / 2] = (90, 150, 230)
    picture[y >= SHAPE[0] / 2] = (60, 140, 50)
    picture[(y - 35) ** 2 + (x - 95) ** 2 < 20**2] = (250, 220, 60)
    return _levels(picture + random.normal(0, 4, picture.shape))


def _page_of_text(random: np.random.Generator) -> Array:
    page = np.full(SHAPE, 250.0)
    for row in range(10, SHAPE[0] - 10, 10):
        page[row : row + 5, 8:120] -= 220 * random.integers(0, 2, 112)
    return _levels(page)


PIXELS: Mapping[str, Callable[[np.random.Generator], Array]] = MappingProxyType(
    {
        "chest": _chest,
        "breast": _breast,
        "noise": lambda random: random.integers(0, 256, SHAPE).astype(np.uint8),
        "black": lambda _: np.zeros(SHAPE, np.uint8),
        "colour photograph": _colour_photograph,
        "grey photograph": lambda random: _levels(_colour_photograph(random).mean(axis=2)),
        "page of text": _page_of_text,
        "four pixels": lambda _: np.array([[0, 255], [255, 0]], np.uint8),
    }
)


def _levels(values: npt.NDArray[np.floating]) -> Array:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _uid(kind: str, item: str) -> str:
    return str(generate_uid(prefix="2.25.", entropy_srcs=["radserve safety suite", kind, item]))


def _header(item: str, modality: str) -> Dataset:
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SOPClassUID = SOP_CLASSES[modality]
    ds.StudyInstanceUID, ds.SeriesInstanceUID = study_uid(item), _uid("series", item)
    ds.SOPInstanceUID = _uid("instance", item)
    ds.Modality = modality
    ds.ImageType = ["ORIGINAL", "PRIMARY"]
    ds.StudyDate, ds.StudyTime = "20260102", "101112"
    ds.StudyID, ds.SeriesNumber, ds.InstanceNumber = "1", 1, 1
    ds.AccessionNumber, ds.ReferringPhysicianName = "ACC-77123", "Referrer^Rosa"
    ds.PatientName, ds.PatientID = "Safetysuite^Sally", "SAFE-90210"
    ds.PatientBirthDate, ds.PatientSex = "20220304", "F"
    ds.Manufacturer = "radserve safety suite"
    return ds


def _file(ds: Dataset, tags: Mapping[str, Any]) -> bytes:
    with disable_value_validation():
        for keyword, value in tags.items():
            if keyword in ds:  # an element keeps the validation it was made with
                delattr(ds, keyword)
            if value is not None:
                setattr(ds, keyword, value)
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.file_meta.MediaStorageSOPClassUID = ds.get("SOPClassUID")
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        buffer = io.BytesIO()
        ds.save_as(buffer, enforce_file_format=True, implicit_vr=False, little_endian=True)
    return buffer.getvalue()
