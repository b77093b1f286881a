"""Many instances in one task: batches with errors as values, volumes decoded in place, headers read quickly."""

from __future__ import annotations

import dataclasses
import io
import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_files
from pydicom.filereader import read_dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGLSLossless

from radserve.dicom_io import attributes
from radserve.dicom_io.decode import DecodeLimits, decode_image, decode_images
from radserve.dicom_io.element_table import ElementTable
from radserve.dicom_io.header_bytes import header_bytes
from radserve.dicom_io.part10 import PIXEL_TAGS, open_dicom
from radserve.dicom_io.plain import ODD, Elements, plain_value
from radserve.dicom_io.volume import assemble_volume, decode_volume
from radserve.errors import DicomError, ErrorCode, GeometryError, RadserveError
from radserve.image import Image
from radserve.voi import VoiWindow
from radserve.workers import WorkerLimits, WorkerPool
from tests.support.dicoms import ct, ct_series, save

RNG = np.random.default_rng(3)
STORED = RNG.integers(-1000, 2000, (7, 12, 14)).astype("i2")
PATIENT_KEYWORDS = (
    "Modality", "StudyInstanceUID", "Rows", "BitsStored", "SeriesNumber", "InstanceNumber", "PatientAge", "StudyDate",
    "PixelSpacing", "ImagePositionPatient", "RescaleSlope", "RescaleIntercept", "WindowCenter", "BodyPartExamined",
    "PhotometricInterpretation", "NumberOfFrames", "SOPClassUID", "StudyDescription", "Manufacturer", "PatientSex",
)  # fmt: skip


def series(folder: Path, syntax: str = ExplicitVRLittleEndian, **attributes: object) -> list[Path]:
    parts = ct_series(STORED, **{"RescaleIntercept": -1024, **attributes})
    return [save(ds, folder / f"{index}.dcm", syntax) for index, ds in enumerate(parts)]


def test_a_batch_gives_the_images_and_the_errors_in_order(tmp_path: Path) -> None:
    paths = series(tmp_path)
    paths[2].write_bytes(b"no DICOM")
    paths[4].write_bytes(paths[4].read_bytes()[:-10])
    found = decode_images(paths)
    codes = [one.code if isinstance(one, RadserveError) else "" for one in found]
    assert codes == ["", "", ErrorCode.NOT_DICOM, "", ErrorCode.TRUNCATED, "", ""]
    for index, one in enumerate(found):
        if isinstance(one, Image):
            assert np.array_equal(one.array[0], STORED[index] - 1024.0)


def test_a_batch_has_one_budget(tmp_path: Path) -> None:
    paths = series(tmp_path)
    slice_bytes = 4 * 12 * 14
    found = decode_images(paths, DecodeLimits(max_total_bytes=3 * slice_bytes))
    assert [isinstance(one, Image) for one in found] == [True] * 3 + [False] * 4
    assert {one.code for one in found if isinstance(one, RadserveError)} == {ErrorCode.PIXEL_BUDGET_EXCEEDED}


async def test_a_batch_crosses_from_a_worker_whole(tmp_path: Path) -> None:
    paths = series(tmp_path, JPEGLSLossless)
    limits = WorkerLimits(memory_bytes=2 * 2**30, cpu_seconds=20, wall_seconds=60)
    async with WorkerPool(name="batch", size=1, limits=limits, preload=("radserve.dicom_io.volume",)) as pool:
        here, there = decode_images(paths), await pool.run(decode_images, paths)
        volume = await pool.run(decode_volume, paths)
    for own, other in zip(here, there, strict=True):
        assert isinstance(own, Image)
        assert isinstance(other, Image)
        assert np.array_equal(own.array, other.array)
        assert (own.source, own.properties, own.provenance) == (other.source, other.properties, other.provenance)
    assert np.array_equal(volume.array, STORED - 1024.0)


@pytest.mark.parametrize("order", [slice(None), slice(None, None, -1), [3, 1, 6, 0, 2, 5, 4]])
@pytest.mark.parametrize("intercept", [-1024, 0])
def test_a_volume_decoded_in_place_is_the_one_of_its_images(tmp_path: Path, order: object, intercept: int) -> None:
    paths = np.array(series(tmp_path, RescaleIntercept=intercept))[order].tolist()
    volume = decode_volume(paths)
    reference = assemble_volume([decode_image(path) for path in paths])
    assert np.array_equal(volume.array, reference.array)
    assert np.array_equal(volume.array, STORED + float(intercept))
    assert np.array_equal(volume.geometry.affine_lps, reference.geometry.affine_lps)
    assert volume.provenance == reference.provenance
    assert not volume.array.flags.writeable


def test_a_volume_is_refused_for_its_first_bad_slice_and_above_its_budget(tmp_path: Path) -> None:
    paths = series(tmp_path)
    with pytest.raises(DicomError) as caught:
        decode_volume(paths, DecodeLimits(max_total_bytes=2 * 7 * 4 * 12 * 14 - 2))
    assert caught.value.code == ErrorCode.PIXEL_BUDGET_EXCEEDED
    paths[3].write_bytes(paths[3].read_bytes()[:-10])
    with pytest.raises(DicomError) as caught:
        decode_volume(paths)
    assert caught.value.code == ErrorCode.TRUNCATED
    with pytest.raises(GeometryError) as empty:
        decode_volume([])
    assert empty.value.code == ErrorCode.GEOMETRY_MISSING


def slices(folder: Path, **changed: object) -> list[Image]:
    paths = []
    for index in range(3):
        attributes = changed if index == 1 else {}
        ds = ct(
            STORED[index],
            position=(0, 0, 2.0 * index),
            **{"WindowCenter": 40, "WindowWidth": 80, "InstanceNumber": index + 1, **attributes},
        )
        paths.append(save(ds, folder / f"{index}"))
    return [decode_image(path) for path in paths]


def test_a_window_that_differs_between_slices_is_not_taken_from_one(tmp_path: Path) -> None:
    assert assemble_volume(slices(tmp_path)).properties.voi == VoiWindow(40, 80)
    volume = assemble_volume(slices(tmp_path, WindowCenter=50))
    assert volume.properties.voi is None
    assert volume.provenance.warnings == ("1 of 3 slices have another VOI transform than the first; none is taken",)


@pytest.mark.parametrize("changed", [{"PhotometricInterpretation": "MONOCHROME1"}, {"RescaleType": "OD"}])
def test_slices_whose_values_mean_different_things_form_no_volume(tmp_path: Path, changed: dict[str, str]) -> None:
    with pytest.raises(DicomError, match="2 different values of") as caught:
        assemble_volume(slices(tmp_path, **changed))
    assert caught.value.code == ErrorCode.PIXELS_INCONSISTENT


def real_files() -> list[Path]:
    return sorted({path.name: path for path in map(Path, get_testdata_files("**/*.dcm"))}.values())


def test_the_quick_reading_gives_pydicoms_elements_on_every_real_file() -> None:
    compared = plain = 0
    for path in real_files():
        try:
            file = open_dicom(path)
        except RadserveError:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            stream = io.BytesIO(bytes(file.data))
            reference = pydicom.dcmread(path, force=True)
            if file.transfer_syntax_uid != "1.2.840.10008.1.2.1.99":
                implicit, little = file.dataset.original_encoding
                stream.seek(_start_of(bytes(file.data)))
                reference = read_dataset(stream, implicit, little, stop_when=lambda tag, vr, length: tag in PIXEL_TAGS)
            for tag in PIXEL_TAGS:
                reference.pop(tag, None)
            assert [element.tag for element in file.dataset.values()] == [one.tag for one in reference.values()], path
            assert file.dataset.original_character_set == reference.original_character_set
            for keyword in PATIENT_KEYWORDS:
                found = _read(file.elements, keyword), _read(file.dataset, keyword)
                assert found == (_read(reference, keyword),) * 2, (path.name, keyword)
        compared += 1
        plain += isinstance(file.elements, ElementTable)
    assert compared >= 140
    assert plain >= 90


def _start_of(raw: bytes) -> int:
    """Where the data set begins, after the meta information."""
    at = 132 if raw[128:132] == b"DICM" else 0
    if raw[at : at + 4] != b"\x02\0\0\0":
        probe = io.BytesIO(raw[at:])
        read_dataset(probe, False, True, stop_when=lambda tag, vr, length: tag >> 16 != 2)
        return at + (probe.tell() if raw[at : at + 2] == b"\x02\0" else 0)
    return at + 12 + int.from_bytes(raw[at + 8 : at + 12], "little")


def _read(ds: Elements, keyword: str) -> object:
    try:
        return attributes.value(ds, keyword)
    except RadserveError as error:
        return error.code


def test_a_plain_value_is_the_one_that_pydicom_converts() -> None:
    compared = 0
    for path in real_files():
        try:
            quick, slow = open_dicom(path).elements, open_dicom(path).dataset
        except RadserveError:
            continue
        for keyword in PATIENT_KEYWORDS:
            found = plain_value(quick, keyword)
            if found is ODD:
                continue
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                converted = slow.get(keyword)
            expected = list(converted) if isinstance(converted, pydicom.multival.MultiValue) else converted
            assert (found or None) == (expected or None), (path.name, keyword)  # empty is "" or None
            compared += found is not None
    assert compared >= 1000


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_copied_header_bytes_are_those_that_are_written_one_by_one(tmp_path: Path, syntax: str) -> None:
    path = save(ct(STORED[0], PatientName="Müller^Jörg"), tmp_path / "a", syntax)
    whole = open_dicom(path)
    assert isinstance(whole.elements, ElementTable)
    single = dataclasses.replace(whole, elements=open_dicom(path).dataset)
    assert header_bytes(whole) == header_bytes(single)
