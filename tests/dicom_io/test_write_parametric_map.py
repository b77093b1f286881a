"""write_parametric_map: the heat map's own values on the pixels of the source."""

from __future__ import annotations

import io
from dataclasses import replace

import highdicom as hd
import numpy as np
import pydicom
import pytest
from scipy.interpolate import RegularGridInterpolator

from radserve.dicom_io.write_parametric_map import write_parametric_map
from radserve.dicom_io.write_planes import heat_on_source
from radserve.errors import ErrorCode, RadserveError
from radserve.findings import HeatMap
from radserve.geometry import SpatialTransform
from tests.support.results import sample_finding, sample_result
from tests.support.written import ct_images, enhanced_ct_images, read, result_of


def test_the_map_reads_back_with_the_values_of_the_heat_map_at_its_place() -> None:
    image = ct_images()[1]
    values = np.random.default_rng(4).normal(size=(8, 6)).astype(np.float32)
    finding = sample_finding(image)
    heat = HeatMap(values, SpatialTransform.resize((64, 48), values.shape))
    finding = replace(finding, region=replace(finding.region, heat_map=heat))
    (data,) = write_parametric_map(sample_result(image, findings=(finding,)), (image,))
    document = hd.pm.ParametricMap.from_dataset(pydicom.dcmread(io.BytesIO(data)))
    found = document.get_frames(apply_real_world_transform=True)[0]
    interpolator = RegularGridInterpolator((np.arange(8) * 8 + 3.5, np.arange(6) * 8 + 3.5), values)
    rows, columns = np.mgrid[4:60, 4:44]
    np.testing.assert_allclose(found[4:60, 4:44], interpolator(np.stack([rows, columns], -1)), atol=1e-5)
    assert found.min() < 0 < found.max()
    place = document.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0].ImagePositionPatient
    np.testing.assert_allclose(place, image.planes[0].image_position_mm, atol=1e-6)
    source = document.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence[0].SourceImageSequence[0]
    assert source.ReferencedSOPInstanceUID == image.instance.sop_instance_uid


def test_outside_the_prepared_area_the_map_is_zero() -> None:
    cropped = SpatialTransform.crop((20, 30), (5, 10), (4, 6))
    on_source = heat_on_source(HeatMap(np.full((4, 6), 2, dtype=np.float32), cropped))
    assert on_source.shape == (20, 30)
    assert (on_source[5:9, 10:16] == 2).all() and on_source.sum() == 2 * 24


def test_the_window_spans_what_speaks_for_the_finding_and_the_map_is_marked() -> None:
    images = ct_images()
    ds = read(write_parametric_map(result_of(images), images)[0])
    window = ds.SharedFunctionalGroupsSequence[0].FrameVOILUTSequence[0]
    greatest = heat_on_source(result_of(images).findings[0].region.heat_map).max()
    assert float(window.WindowWidth) == pytest.approx(greatest)
    assert float(window.WindowCenter) == pytest.approx(greatest / 2)
    assert window.VOILUTFunction == "LINEAR_EXACT"
    assert ds.ContentQualification == "RESEARCH" and "AI draft" in ds.ContentDescription


def test_the_frame_of_a_multi_frame_source_is_named() -> None:
    images = enhanced_ct_images()
    ds = read(write_parametric_map(result_of(images), images)[0])
    source = ds.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence[0].SourceImageSequence[0]
    assert source.ReferencedFrameNumber == 4


def test_a_heat_map_of_another_size_than_the_image_is_refused() -> None:
    image = ct_images()[0]
    finding = sample_finding(image)
    heat = HeatMap(finding.region.heat_map.values, SpatialTransform.resize((64, 49), (7, 7)))
    wrong = replace(finding, region=replace(finding.region, heat_map=heat))
    with pytest.raises(RadserveError, match="source_shape") as caught:
        write_parametric_map(sample_result(image, findings=(wrong,)), (image,))
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT
