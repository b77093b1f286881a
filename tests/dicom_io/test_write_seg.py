"""write_seg: the segment lies where the region lies, on the right frame, and reads back as it was written."""

from __future__ import annotations

import io
from dataclasses import replace

import highdicom as hd
import numpy as np
import pydicom
import pytest
from matplotlib.path import Path as Outline

from radserve.dicom_io.write_planes import heat_on_source, mask_of
from radserve.dicom_io.write_seg import write_seg
from radserve.errors import ErrorCode, RadserveError
from radserve.findings import HeatMap
from radserve.geometry import SpatialTransform
from radserve.image import Image
from radserve.pipelines.regions import outline_region
from tests.support.results import PACK, sample_finding, sample_result
from tests.support.written import ct_images, enhanced_ct_images, read, result_of


def segmentation(images: tuple[Image, ...], **fields: object) -> hd.seg.Segmentation:
    result = sample_result(*images, **fields) if fields else result_of(images)
    (data,) = write_seg(result, images)
    return hd.seg.Segmentation.from_dataset(pydicom.dcmread(io.BytesIO(data)))


def inside(outline: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """The pixel centres in a polygon, by matplotlib."""
    points = np.stack(np.meshgrid(np.arange(columns) + 0.5, np.arange(rows) + 0.5), axis=-1).reshape(-1, 2)
    return Outline(outline).contains_points(points).reshape(rows, columns)


def test_the_mask_of_an_outline_is_that_of_an_independent_rasteriser() -> None:
    rng = np.random.default_rng(3)
    for _ in range(50):
        angles = np.sort(rng.uniform(0, 2 * np.pi, 12))
        points = np.stack(
            [24 + 30 * rng.random(12) * np.cos(angles), 32 + 40 * rng.random(12) * np.sin(angles)], axis=1
        )
        outline = np.vstack([points, points[:1]])
        np.testing.assert_array_equal(mask_of(outline, 64, 48), inside(outline, 64, 48))


def test_an_outline_between_pixel_centres_gives_the_pixel_it_lies_in() -> None:
    tiny = np.array([[5.6, 7.6], [5.9, 7.6], [5.9, 7.9], [5.6, 7.6]])
    assert np.argwhere(mask_of(tiny, 64, 48)).tolist() == [[7, 5]]


def test_each_positive_finding_is_a_segment_on_its_slice_at_its_outline() -> None:
    images = ct_images()
    result = result_of(images)
    found = [finding for finding in result.findings if finding.positive]
    document = segmentation(images)
    assert document.segmentation_type is hd.seg.SegmentationTypeValues.BINARY
    assert document.number_of_segments == len(found) == 3
    uids = [image.instance.sop_instance_uid for image in images]
    pixels = document.get_pixels_by_source_instance(uids)
    expected = np.zeros((3, 64, 48, 3), dtype=np.uint8)
    for at, finding in enumerate(found):
        place = uids.index(finding.region.instance.sop_instance_uid)
        expected[place, :, :, at] = inside(finding.region.outline, 64, 48)
    np.testing.assert_array_equal(pixels, expected)
    assert expected.sum() > 1000


def test_a_segment_covers_the_heat_map_above_half_of_its_maximum() -> None:
    image = ct_images()[0]
    rows, columns = np.mgrid[:32, :24]
    bump = np.exp(-((rows - 20) ** 2 + (columns - 9) ** 2) / 18).astype(np.float32)
    heat = HeatMap(bump, SpatialTransform.resize((64, 48), bump.shape))
    finding = replace(sample_finding(image), region=outline_region(image.instance, 1, heat))
    document = segmentation((image,), findings=(finding,))
    above = heat_on_source(heat) >= 0.5 * (bump.max() + np.median(bump))
    wrong = document.pixel_array.astype(bool).reshape(64, 48) ^ above
    assert above.sum() > 100 and wrong.sum() <= 0.03 * above.sum()


def test_segments_name_code_site_algorithm_and_tracking() -> None:
    images = ct_images()
    document = segmentation(images)
    finding = result_of(images).findings[0]
    segment = document.get_segment_description(1)
    assert segment.segmented_property_type.value == finding.code.value
    assert segment.anatomic_regions[0].value == finding.site.value
    assert (segment.tracking_uid, segment.tracking_id) == (finding.tracking_uid, finding.tracking_identifier)
    assert segment.algorithm_type.value == "AUTOMATIC"
    algorithm = segment.algorithm_identification
    assert (algorithm.name, algorithm.version) == (PACK.name, PACK.version)
    assert "not verified" in segment.SegmentDescription and "0.870" in segment.SegmentDescription


def test_the_source_series_and_the_places_of_the_slices_are_kept() -> None:
    images = ct_images()
    document = segmentation(images)
    series = document.ReferencedSeriesSequence[0]
    assert series.SeriesInstanceUID == images[0].instance.series_instance_uid
    listed = [item.ReferencedSOPInstanceUID for item in series.ReferencedInstanceSequence]
    assert sorted(listed) == sorted(image.instance.sop_instance_uid for image in images)
    places = [item.PlanePositionSequence[0].ImagePositionPatient for item in document.PerFrameFunctionalGroupsSequence]
    np.testing.assert_allclose(places, [image.planes[0].image_position_mm for image in images], atol=1e-6)
    shared = document.SharedFunctionalGroupsSequence[0]
    orientation = shared.PlaneOrientationSequence[0].ImageOrientationPatient
    np.testing.assert_allclose(orientation, images[0].planes[0].image_orientation, atol=1e-6)
    assert shared.PixelMeasuresSequence[0].PixelSpacing == [0.7, 0.7]
    assert document.FrameOfReferenceUID == images[0].planes[0].frame_of_reference_uid


def test_the_frame_of_a_multi_frame_source_is_named_with_its_class() -> None:
    images = enhanced_ct_images()
    (data,) = write_seg(result_of(images), images)
    ds = read(data)
    (frame,) = ds.PerFrameFunctionalGroupsSequence
    group = frame if "DerivationImageSequence" in frame else ds.SharedFunctionalGroupsSequence[0]
    source = group.DerivationImageSequence[0].SourceImageSequence[0]
    assert (source.ReferencedSOPInstanceUID, source.ReferencedFrameNumber) == (images[0].instance.sop_instance_uid, 4)
    assert source.ReferencedSOPClassUID == images[0].instance.sop_class_uid
    (listed,) = ds.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    assert listed.ReferencedSOPClassUID == images[0].instance.sop_class_uid
    placed = frame if "PlanePositionSequence" in frame else ds.SharedFunctionalGroupsSequence[0]
    assert placed.PlanePositionSequence[0].ImagePositionPatient == [0, 0, 9]


def test_a_thickness_that_the_source_lacks_is_the_distance_of_the_slices() -> None:
    document = segmentation(ct_images(SliceThickness=None))
    assert document.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SliceThickness == pytest.approx(2.0)


def test_one_slice_alone_has_no_spacing_between_slices() -> None:
    document = segmentation(ct_images()[:1])
    assert "SpacingBetweenSlices" not in document.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]


def test_a_frame_that_the_image_does_not_have_is_refused() -> None:
    (image,) = enhanced_ct_images()
    with pytest.raises(RadserveError, match=r"Region\.frame") as caught:
        write_seg(sample_result(image, findings=(sample_finding(image, frame=5),)), (image,))
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT
