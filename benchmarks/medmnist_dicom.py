"""MedMNIST images as one-image DICOM studies, as a modality would send them: CR of the chest, US of the breast."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from radserve.uids import derive_uid


@dataclass(frozen=True)
class Collection:
    """One data set: its file, the DICOM it becomes, the finding it is labelled for, and the label that is positive."""

    file: str
    modality: str
    sop_class_uid: str
    body_part: str
    finding: str
    positive_label: int


PNEUMONIA = Collection("pneumoniamnist.npz", "CR", "1.2.840.10008.5.1.4.1.1.1", "CHEST", "Pneumonia", 1)
BREAST = Collection("breastmnist.npz", "US", "1.2.840.10008.5.1.4.1.1.6.1", "BREAST", "Malignant breast lesion", 0)
COLLECTIONS = (PNEUMONIA, BREAST)


@dataclass(frozen=True)
class Labelled:
    """An image of a split with its study and whether the finding is there."""

    study_instance_uid: str
    pixels: npt.NDArray[np.uint8]
    positive: bool


def read_split(data: Path, collection: Collection, split: str) -> list[Labelled]:
    """The images (rows, columns) uint8 of a split ("train", "val", "test") in their order."""
    with np.load(data / collection.file, allow_pickle=False) as arrays:
        images, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"].ravel()
    return [
        Labelled(derive_uid("medmnist", collection.file, split, str(index)), image, label == collection.positive_label)
        for index, (image, label) in enumerate(zip(images, labels, strict=True))
    ]


def to_dicom(each: Labelled, collection: Collection) -> Dataset:
    """A minimal valid instance; 8 bits, MONOCHROME2, no window: the stored values are shown as they are."""
    dataset = Dataset()
    values: dict[str, Any] = {
        "SOPClassUID": collection.sop_class_uid,
        "SOPInstanceUID": derive_uid(each.study_instance_uid, "instance"),
        "StudyInstanceUID": each.study_instance_uid,
        "SeriesInstanceUID": derive_uid(each.study_instance_uid, "series"),
        "Modality": collection.modality,
        "BodyPartExamined": collection.body_part,
        "ViewPosition": "PA" if collection.modality == "CR" else "",
        "StudyDate": "20240102",
        "StudyTime": "101500",
        "PatientID": "",
        "PatientName": "",
        "PatientBirthDate": "",
        "PatientSex": "",
        "ReferringPhysicianName": "",
        "AccessionNumber": "",
        "StudyID": "1",
        "SeriesNumber": 1,
        "InstanceNumber": 1,
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": each.pixels.shape[0],
        "Columns": each.pixels.shape[1],
        "BitsAllocated": 8,
        "BitsStored": 8,
        "HighBit": 7,
        "PixelRepresentation": 0,
        "PixelData": each.pixels.tobytes(),
    }
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    return dataset


def write_split(data: Path, split: str, folder: Path) -> dict[str, tuple[Collection, Labelled]]:
    """Write both collections' split as DICOM files below `folder`; return what each study is."""
    written = {}
    for collection in COLLECTIONS:
        target = folder / collection.modality
        target.mkdir(parents=True, exist_ok=True)
        for each in read_split(data, collection, split):
            to_dicom(each, collection).save_as(target / f"{each.study_instance_uid}.dcm", enforce_file_format=True)
            written[each.study_instance_uid] = (collection, each)
    return written
