"""Files with annotations: which kind they are."""

from __future__ import annotations

from pathlib import Path

from radserve.dicom_io.annotations import Annotation
from radserve.dicom_io.annotations_seg import LABEL_MAP, SEGMENTATION, read_seg
from radserve.dicom_io.annotations_sr import read_sr
from radserve.dicom_io.file_meta import read_file_meta

HEAD_BYTES = 64 << 10


def is_dicom(path: Path) -> bool:
    """Whether a file begins as a Part 10 file does."""
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def read_dicom(path: Path) -> list[Annotation]:
    """The annotations of an SR or a segmentation. Run it in a worker. Raises DicomError as read_sr and read_seg."""
    with path.open("rb") as file:
        meta = read_file_meta(file.read(HEAD_BYTES))
    return read_seg(path) if meta.sop_class_uid in (SEGMENTATION, LABEL_MAP) else read_sr(path)
