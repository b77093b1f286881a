"""Small valid DICOM objects for tests, built from arrays, in any transfer syntax we read.

    image = cr(array, study="one", PatientAge="045Y")      # any keyword sets an attribute, None removes it
    path = save(image, tmp_path / "a.dcm", JPEGLSLossless)
    data = part10(image)

UIDs are derived from the names given (`study`, `series`, `instance`), so the same call gives the same object.
"""

from __future__ import annotations

import copy
import hashlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    MRImageStorage,
    RLELossless,
    SecondaryCaptureImageStorage,
    UltrasoundImageStorage,
    UltrasoundMultiFrameImageStorage,
    generate_uid,
)

CR_IMAGE_STORAGE = UID("1.2.840.10008.5.1.4.1.1.1")
LOSSLESS_SYNTAXES = (
    ImplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
    RLELossless,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEG2000Lossless,
    HTJ2KLossless,
)
Array = npt.NDArray[Any]


def uid(*names: str) -> str:
    """The same UID for the same names."""
    return str(generate_uid(prefix="2.25.", entropy_srcs=list(names)))


def cr(array: Array, **attributes: Any) -> Dataset:
    """A chest radiograph (CR) of `array` (rows, columns), PA, of an adult woman."""
    ds = _image(array, CR_IMAGE_STORAGE, "CR", attributes)
    ds.BodyPartExamined = "CHEST"
    ds.ViewPosition = "PA"
    ds.PlateID = ""
    return _set(ds, attributes)


def us(array: Array, **attributes: Any) -> Dataset:
    """A breast ultrasound of `array` (rows, columns), or multi-frame of (frames, rows, columns), grey."""
    sop_class = UltrasoundMultiFrameImageStorage if array.ndim == 3 else UltrasoundImageStorage
    ds = _image(array, sop_class, "US", attributes)
    ds.BodyPartExamined = "BREAST"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "", "0001"]
    if array.ndim == 3:
        ds.FrameTime = "40"
        ds.FrameIncrementPointer = 0x00181063
    return _set(ds, attributes)


def colour(array: Array, photometric: str = "RGB", **attributes: Any) -> Dataset:
    """A secondary capture of colour `array` (rows, columns, 3), stored by pixel."""
    ds = _image(array[..., 0], SecondaryCaptureImageStorage, "OT", attributes)
    ds.ConversionType = "WSD"
    ds.SamplesPerPixel = 3
    ds.PlanarConfiguration = 0
    ds.PhotometricInterpretation = photometric
    ds.PixelData = _even(np.ascontiguousarray(array).tobytes())
    return _set(ds, attributes)


def ct(
    array: Array,
    *,
    position: Sequence[float] = (0.0, 0.0, 0.0),
    orientation: Sequence[float] = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
    spacing: Sequence[float] = (0.7, 0.7),
    **attributes: Any,
) -> Dataset:
    """A CT slice of `array` (rows, columns), signed or not, with its place in the patient."""
    return _slice(_image(array, CTImageStorage, "CT", attributes), position, orientation, spacing, attributes)


def mr(
    array: Array,
    *,
    position: Sequence[float] = (0.0, 0.0, 0.0),
    orientation: Sequence[float] = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
    spacing: Sequence[float] = (0.7, 0.7),
    **attributes: Any,
) -> Dataset:
    """An MR slice of `array` (rows, columns) with its place in the patient."""
    return _slice(_image(array, MRImageStorage, "MR", attributes), position, orientation, spacing, attributes)


def ct_series(
    volume: Array,
    *,
    origin: Sequence[float] = (0.0, 0.0, 0.0),
    orientation: Sequence[float] = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
    step_mm: float = 2.0,
    **attributes: Any,
) -> list[Dataset]:
    """CT slices of `volume` (slices, rows, columns), `step_mm` apart along the normal of the orientation."""
    axes = np.asarray(orientation, dtype=float).reshape(2, 3)
    normal = np.cross(axes[0], axes[1])
    places = [np.asarray(origin) + normal * step_mm * index for index in range(len(volume))]
    return [
        ct(
            array,
            position=[round(float(part), 6) for part in place],
            orientation=[float(part) for part in orientation],
            instance=str(index + 1),
            **{"InstanceNumber": index + 1, **attributes},
        )
        for index, (array, place) in enumerate(zip(volume, places, strict=True))
    ]


def part10(ds: Dataset, transfer_syntax_uid: str = ExplicitVRLittleEndian) -> bytes:
    """Part 10 bytes of `ds` in the syntax; compressing is lossless but for JPEG baseline and near-lossless."""
    syntax = UID(transfer_syntax_uid)
    ds = copy.deepcopy(ds)
    if syntax.is_encapsulated:
        _compress(ds, syntax)
    elif syntax == ExplicitVRBigEndian and ds.BitsAllocated > 8:
        ds.PixelData = _pixels(ds).byteswap().tobytes()
    if not hasattr(ds, "file_meta"):
        ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    buffer = io.BytesIO()
    ds.save_as(
        buffer,
        enforce_file_format=True,
        implicit_vr=syntax.is_implicit_VR,
        little_endian=syntax.is_little_endian,
    )
    return buffer.getvalue()


def save(ds: Dataset, path: Path, transfer_syntax_uid: str = ExplicitVRLittleEndian) -> Path:
    """Write `ds` to `path` in the syntax and give the path back."""
    path.write_bytes(part10(ds, transfer_syntax_uid))
    return path


def _image(array: Array, sop_class_uid: str, modality: str, attributes: dict[str, Any]) -> Dataset:
    digest = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
    study, series = attributes.pop("study", "study"), attributes.pop("series", "series")
    instance = attributes.pop("instance", digest)
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SOPClassUID = sop_class_uid
    ds.StudyInstanceUID = uid("study", study)
    ds.SeriesInstanceUID = uid("series", study, series)
    ds.SOPInstanceUID = uid("instance", study, series, instance)
    ds.ImageType = ["ORIGINAL", "PRIMARY"]
    ds.Modality = modality
    ds.StudyDate, ds.StudyTime = "20260102", "101112"
    ds.StudyID, ds.SeriesNumber, ds.InstanceNumber = "1", 1, 1
    ds.AccessionNumber = ds.ReferringPhysicianName = ds.Laterality = ""
    ds.PatientName, ds.PatientID = "Doe^Jane", "P-0001"
    ds.PatientBirthDate, ds.PatientSex, ds.PatientAge = "19810203", "F", "044Y"
    ds.PatientOrientation = ["L", "F"]
    ds.Manufacturer = "radserve tests"
    _set_pixels(ds, array)
    return ds


def _set_pixels(ds: Dataset, array: Array) -> None:
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    if array.ndim == 3:
        ds.NumberOfFrames = len(array)
    ds.Rows, ds.Columns = array.shape[-2:]
    ds.BitsAllocated = ds.BitsStored = 8 * array.dtype.itemsize
    ds.HighBit = ds.BitsStored - 1
    ds.PixelRepresentation = int(array.dtype.kind == "i")
    ds.add_new(0x7FE00010, "OB" if array.dtype.itemsize == 1 else "OW", _even(np.ascontiguousarray(array).tobytes()))


def _slice(
    ds: Dataset,
    position: Sequence[float],
    orientation: Sequence[float],
    spacing: Sequence[float],
    attributes: dict[str, Any],
) -> Dataset:
    ds.FrameOfReferenceUID = uid("frame", ds.SeriesInstanceUID)
    ds.PositionReferenceIndicator = ""
    ds.ImagePositionPatient = list(position)
    ds.ImageOrientationPatient = list(orientation)
    ds.PixelSpacing = list(spacing)
    ds.SliceThickness = 2
    if ds.Modality == "CT":
        ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        ds.RescaleIntercept, ds.RescaleSlope, ds.KVP, ds.AcquisitionNumber = 0, 1, 120, 1
    return _set(ds, attributes)


def _set(ds: Dataset, attributes: dict[str, Any]) -> Dataset:
    for keyword, value in attributes.items():
        if value is None:
            if keyword in ds:
                delattr(ds, keyword)
        else:
            setattr(ds, keyword, value)
    if "BitsStored" in attributes and "HighBit" not in attributes:
        ds.HighBit = ds.BitsStored - 1
    return ds


def _pixels(ds: Dataset) -> Array:
    """The stored values as (frames, rows, columns[, samples])."""
    kind = "i" if ds.PixelRepresentation else "u"
    shape = (int(ds.get("NumberOfFrames", 1)), ds.Rows, ds.Columns)
    if ds.SamplesPerPixel > 1:
        shape += (ds.SamplesPerPixel,)
    count = int(np.prod(shape))
    return np.frombuffer(ds.PixelData, f"<{kind}{ds.BitsAllocated // 8}", count=count).reshape(shape)


def _compress(ds: Dataset, syntax: UID) -> None:
    frames = _pixels(ds)
    if syntax in (JPEGBaseline8Bit, JPEGLossless, JPEGLosslessSV1, JPEG2000Lossless, HTJ2KLossless):
        ds.PixelData = encapsulate([_even(_codestream(frame, syntax)) for frame in frames])
        ds["PixelData"].VR = "OB"
        ds["PixelData"].is_undefined_length = True
        if syntax == JPEGBaseline8Bit and ds.SamplesPerPixel == 3:
            ds.PhotometricInterpretation = "YBR_FULL_422"
        return
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.compress(syntax, frames if ds.get("NumberOfFrames") else frames[0], generate_instance_uid=False)


def _codestream(frame: Array, syntax: UID) -> bytes:
    if syntax == JPEG2000Lossless:  # one resolution: images of 28 x 28 pixels take no more
        return bytes(imagecodecs.jpeg2k_encode(frame, codecformat="j2k", reversible=True, resolutions=1, mct=False))
    if syntax == HTJ2KLossless:
        return bytes(imagecodecs.htj2k_encode(frame, reversible=True, resolutions=1, rgb=False))
    if syntax == JPEGBaseline8Bit:
        return bytes(imagecodecs.jpeg8_encode(frame, level=95))
    # Signed values travel as their bit pattern (PS3.5 8.2.1).
    bits = np.ascontiguousarray(frame).view(f"u{frame.dtype.itemsize}")
    return bytes(imagecodecs.jpeg8_encode(bits, lossless=True, predictor=1, bitspersample=8 * bits.itemsize))


def _even(data: bytes) -> bytes:
    return data + b"\0" * (len(data) % 2)
