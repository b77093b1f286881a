"""Sources for result objects of every kind, and an independent judge of what was written.

image, = IMAGES["ct"]()               # decoded images of a study
assert_valid(data, tmp_path)          # dciodvfy finds no error
"""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.uid import EnhancedCTImageStorage

from radserve.image import Image, PlanePosition
from radserve.results import StudyResult
from radserve.voi import VoiWindow
from tests.support.dicoms import cr, ct_series, mr, us
from tests.support.results import sample_image, sample_result

FRAME_OF_REFERENCE = "1.2.826.0.1.99"
SPARSE = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "PatientAge", "StudyDate", "StudyTime", "StudyID"),
    *("AccessionNumber", "ReferringPhysicianName", "SpecificCharacterSet", "PatientOrientation", "Laterality"),
)
_NOTHING: dict[str, Any] = dict.fromkeys(SPARSE)


def assert_valid(data: bytes, tmp_path: Path) -> None:
    """Run dciodvfy, which knows the IODs of PS3.3 by itself."""
    path = tmp_path / "object.dcm"
    path.write_bytes(data)
    command = str(Path(sys.executable).with_name("dciodvfy"))
    done = subprocess.run([command, "-new", str(path)], capture_output=True, timeout=60, check=False)
    said = (done.stdout + done.stderr).decode(errors="replace")
    assert "Error" not in said and done.returncode == 0, said


def read(data: bytes) -> pydicom.Dataset:
    return pydicom.dcmread(io.BytesIO(data))


def placed(ds: pydicom.Dataset) -> Image:
    """The image of a single CT or MR slice at its place."""
    plane = PlanePosition(
        tuple(map(float, ds.ImageOrientationPatient)),  # type: ignore[arg-type]
        tuple(map(float, ds.ImagePositionPatient)),  # type: ignore[arg-type]
        str(ds.FrameOfReferenceUID),
    )
    spacing = tuple(map(float, ds.PixelSpacing))
    return replace(sample_image(ds, pixel_spacing_mm=spacing, voi=VoiWindow(40.0, 400.0)), planes=(plane,))


def ct_images(**attributes: Any) -> tuple[Image, ...]:
    """Three slices of a CT series, tilted, 2 mm apart."""
    volume = np.random.default_rng(0).integers(-1000, 1000, (3, 64, 48)).astype(np.int16)
    orientation = (1.0, 0.0, 0.0, 0.0, 0.8, 0.6)
    series = ct_series(volume, orientation=orientation, **{"FrameOfReferenceUID": FRAME_OF_REFERENCE, **attributes})
    return tuple(placed(ds) for ds in series)


def mr_images(**attributes: Any) -> tuple[Image, ...]:
    ds = mr(np.arange(64 * 48, dtype=np.uint16).reshape(64, 48), FrameOfReferenceUID=FRAME_OF_REFERENCE, **attributes)
    return (placed(ds),)


def enhanced_ct_images() -> tuple[Image, ...]:
    """A multi-frame CT of four planes 3 mm apart; its findings lie on the last."""
    frames = np.random.default_rng(1).integers(0, 4096, (4, 64, 48)).astype(np.uint16)
    ds = cr(frames, SOPClassUID=EnhancedCTImageStorage, Modality="CT", PatientOrientation=None, Laterality=None)
    places = [PlanePosition((1, 0, 0, 0, 1, 0), (0.0, 0.0, 3.0 * index), FRAME_OF_REFERENCE) for index in range(4)]
    return (replace(sample_image(ds, pixel_spacing_mm=(0.5, 0.6)), planes=tuple(places)),)


def us_images(**attributes: Any) -> tuple[Image, ...]:
    frames = np.random.default_rng(2).integers(0, 255, (5, 60, 80)).astype(np.uint8)
    return (sample_image(us(frames, **attributes)),)


def cr_images(**attributes: Any) -> tuple[Image, ...]:
    return (sample_image(cr(np.arange(64 * 48, dtype=np.uint16).reshape(64, 48), **attributes)),)


def rg1_images() -> tuple[Image, ...]:
    """The radiograph RG1 of pydicom-data, 1955 x 1841."""
    path = get_testdata_file("RG1_UNCR.dcm", download=False)
    if path is None:
        pytest.skip("pydicom-data with RG1_UNCR.dcm is not installed")
    return (sample_image(pydicom.dcmread(path)),)


IMAGES: dict[str, Callable[[], tuple[Image, ...]]] = {
    "ct": ct_images,
    "mr": mr_images,
    "enhanced ct": enhanced_ct_images,
    "us": us_images,
    "rg1": rg1_images,
    "sparse ct": lambda: ct_images(**_NOTHING),
    "sparse mr": lambda: mr_images(**_NOTHING),
    "sparse us": lambda: us_images(**_NOTHING),
    "sparse cr": lambda: cr_images(**_NOTHING),
}


def negative(result: StudyResult) -> StudyResult:
    """The result with its negative findings alone."""
    return replace(result, findings=tuple(finding for finding in result.findings if not finding.positive))


def result_of(images: tuple[Image, ...], *, positive: bool = True) -> StudyResult:
    result = sample_result(*images)
    return result if positive else negative(result)
