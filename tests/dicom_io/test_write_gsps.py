"""write_gsps: outlines and words over an image that a viewer then shows as radserve does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.pixels.processing import apply_modality_lut, apply_voi
from pydicom.uid import ColorSoftcopyPresentationStateStorage, GrayscaleSoftcopyPresentationStateStorage

from radserve.dicom_io.write_gsps import write_gsps
from radserve.errors import ErrorCode, RadserveError
from radserve.presentation import present_frame
from radserve.voi import VoiFunction, VoiLut, VoiWindow
from tests.support.dicoms import colour, cr, ct
from tests.support.results import sample_finding, sample_image, sample_result, sample_source
from tests.support.written import assert_valid, cr_images, read, result_of, us_images


def state(images: tuple, **fields: object) -> pydicom.Dataset:
    (data,) = write_gsps(sample_result(*images, **fields), images)
    return read(data)


def test_the_outline_the_label_and_the_tracking_of_a_positive_finding_are_drawn() -> None:
    images = us_images()
    finding = result_of(images).findings[0]
    ds = state(images)
    (annotation,) = ds.GraphicAnnotationSequence
    (graphic,) = annotation.GraphicObjectSequence
    assert (graphic.GraphicType, graphic.GraphicAnnotationUnits) == ("POLYLINE", "PIXEL")
    points = np.reshape(graphic.GraphicData, (-1, 2))
    np.testing.assert_allclose(points, finding.region.outline, rtol=1e-6)
    assert graphic.NumberOfGraphicPoints == len(points)
    assert (graphic.TrackingID, graphic.TrackingUID) == (finding.tracking_identifier, finding.tracking_uid)
    (text,) = annotation.TextObjectSequence
    assert text.UnformattedTextValue == "AI draft: Pneumonia 87%"
    np.testing.assert_allclose(text.AnchorPoint, finding.region.outline[0], rtol=1e-6)


def test_the_instance_and_the_frame_are_referenced_everywhere() -> None:
    images = us_images()
    ds = state(images)
    series = ds.ReferencedSeriesSequence[0]
    assert series.SeriesInstanceUID == images[0].instance.series_instance_uid
    places = (series, ds.GraphicAnnotationSequence[0], ds.DisplayedAreaSelectionSequence[0])
    for item in (place.ReferencedImageSequence[0] for place in places):
        assert item.ReferencedSOPInstanceUID == images[0].instance.sop_instance_uid
        assert item.ReferencedFrameNumber == 5
    area = ds.DisplayedAreaSelectionSequence[0]
    assert area.DisplayedAreaBottomRightHandCorner == [80, 60]


def test_single_frame_sources_are_referenced_without_a_frame_number() -> None:
    ds = state(cr_images())
    assert "ReferencedFrameNumber" not in ds.ReferencedSeriesSequence[0].ReferencedImageSequence[0]


def test_a_negative_frame_gets_words_and_no_outline() -> None:
    images = cr_images()
    (data,) = write_gsps(result_of(images, positive=False), images)
    (annotation,) = read(data).GraphicAnnotationSequence
    assert "GraphicObjectSequence" not in annotation
    text = annotation.TextObjectSequence[0].UnformattedTextValue
    assert text == "AI draft, not verified: No finding above threshold (Malignant lesion 3%)"


RAMP = np.arange(64 * 48, dtype=np.uint16).reshape(64, 48)
VOIS = [
    VoiWindow(500.0, 1000.0),
    VoiWindow(500.0, 1000.0, VoiFunction.LINEAR_EXACT),
    VoiWindow(500.0, 1000.0, VoiFunction.SIGMOID),
    VoiLut((np.arange(2048, dtype=np.uint16) * 2)[::-1].copy(), 100, 12),
    VoiLut(np.arange(1 << 16, dtype=np.uint16), -1000, 16),
]


@pytest.mark.parametrize("voi", VOIS, ids=lambda voi: getattr(voi, "function", "LUT"))
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_the_state_shows_the_image_as_radserve_does(voi: object, photometric: str, tmp_path: Path) -> None:
    ds = cr(RAMP, BitsStored=12, RescaleIntercept=-100, RescaleSlope=2, RescaleType="US")
    ds.PhotometricInterpretation = photometric
    image = replace(sample_image(ds, voi=voi, bits_stored=12), array=(RAMP * 2.0 - 100)[None].astype(np.float32))
    (data,) = write_gsps(sample_result(image), (image,))
    assert_valid(data, tmp_path)
    written = read(data)
    assert written.SOPClassUID == GrayscaleSoftcopyPresentationStateStorage
    values = apply_modality_lut(RAMP, written)  # the state's own modality LUT, by pydicom
    shown = _shown_by_pydicom(values, written.SoftcopyVOILUTSequence[0])
    if written.PresentationLUTShape == "INVERSE":
        shown = 1 - shown
    np.testing.assert_allclose(shown, present_frame(image, 0), atol=2e-3)


def _shown_by_pydicom(values: np.ndarray, item: pydicom.Dataset) -> np.ndarray:
    holder = pydicom.Dataset()
    holder.update(item)
    holder.set_original_encoding(is_implicit_vr=False, is_little_endian=True)
    holder.BitsStored, holder.BitsAllocated, holder.PixelRepresentation = 16, 16, 1
    holder.PhotometricInterpretation = "MONOCHROME2"
    if "VOILUTSequence" in holder:
        bits = holder.VOILUTSequence[0].LUTDescriptor[2]
        return apply_voi(values.astype(np.int32), holder).astype(float) / ((1 << int(bits)) - 1)
    holder.RescaleSlope, holder.RescaleIntercept = 1, 0
    shown = pydicom.pixels.processing.apply_windowing(values.astype(float), holder)
    low, high = -(1 << 15), (1 << 15) - 1
    return (shown - low) / (high - low)


def test_without_a_window_the_one_that_radserve_chooses_is_written() -> None:
    (image,) = cr_images()
    item = state((image,)).SoftcopyVOILUTSequence[0]
    assert float(item.WindowWidth) > 1 and item.VOILUTFunction == "LINEAR_EXACT"


def test_the_rescale_of_an_enhanced_frame_is_that_of_its_functional_group() -> None:
    frames = np.zeros((2, 64, 48), dtype=np.uint16)
    ds = cr(frames, Modality="CT")
    transformation = pydicom.Dataset()
    transformation.RescaleIntercept, transformation.RescaleSlope, transformation.RescaleType = -1024, 1, "HU"
    own = pydicom.Dataset()
    own.PixelValueTransformationSequence = [transformation]
    ds.PerFrameFunctionalGroupsSequence = [pydicom.Dataset(), own]
    written = state((sample_image(ds),))
    assert (written.RescaleIntercept, written.RescaleSlope, written.RescaleType) == (-1024, 1, "HU")


def test_a_colour_source_gets_a_colour_state_with_a_profile(tmp_path: Path) -> None:
    grey = sample_image(ct(RAMP.astype(np.int16)))
    ds = colour(np.zeros((64, 48, 3), dtype=np.uint8))
    image = replace(grey, source=sample_source(ds))
    (data,) = write_gsps(sample_result(image), (image,))
    assert_valid(data, tmp_path)
    written = read(data)
    assert written.SOPClassUID == ColorSoftcopyPresentationStateStorage
    assert written.ICCProfile[36:40] == b"acsp" and "SoftcopyVOILUTSequence" not in written


def test_a_frame_that_the_image_does_not_have_is_refused() -> None:
    images = us_images()
    with pytest.raises(RadserveError, match=r"Region\.frame") as caught:
        write_gsps(sample_result(*images, findings=(sample_finding(images[0], frame=6),)), images)
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT
