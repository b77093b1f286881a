"""write_secondary_capture: the overlay's very pixels, and a plain frame with words where all is negative."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image as Pillow

from radserve.dicom_io.overlay import BAND_PX, OUTLINE_RGB, TEXT_RGB, picture_size, render_overlay
from radserve.dicom_io.write_secondary_capture import write_secondary_capture
from radserve.presentation import present_frame
from tests.support.written import cr_images, read, result_of, us_images


def test_the_pixels_are_those_of_the_overlay() -> None:
    images = us_images()
    result = result_of(images)
    (data,) = write_secondary_capture(result, images)
    ((_, png),) = render_overlay(images[0], result.findings[:1])
    shown = read(data).pixel_array
    np.testing.assert_array_equal(shown, np.asarray(Pillow.open(io.BytesIO(png))))
    assert (shown == OUTLINE_RGB).all(axis=2).any()


def test_a_negative_result_gives_one_picture_with_words_and_nothing_drawn_on_it() -> None:
    images = cr_images()
    (data,) = write_secondary_capture(result_of(images, positive=False), images)
    ds = read(data)
    shown = ds.pixel_array
    frame = shown[BAND_PX:-BAND_PX]
    assert (frame == frame[..., :1]).all()  # grey: no outline, no heat map
    assert (shown[:BAND_PX] == TEXT_RGB).all(axis=2).any() and (shown[-BAND_PX:] == TEXT_RGB).all(axis=2).any()
    width, height = picture_size(images[0])
    assert frame.shape[:2] == (height, max(width, 360))
    left = (frame.shape[1] - width) // 2
    grey = Pillow.fromarray(frame[:, left : left + width, 0]).resize((48, 64), Pillow.Resampling.BOX)
    np.testing.assert_allclose(np.asarray(grey) / 255, present_frame(images[0], 0), atol=0.05)
    assert "No finding above threshold (Malignant lesion 3%)" in ds.ImageComments


@pytest.mark.parametrize(("said", "written"), [("NO", "NO"), ("YES", "YES"), (None, "YES")])
def test_burned_in_annotation_is_no_only_where_the_source_says_so(said: str | None, written: str) -> None:
    images = cr_images(BurnedInAnnotation=said)
    (data,) = write_secondary_capture(result_of(images), images)
    assert read(data).BurnedInAnnotation == written


def test_the_source_and_the_derivation_are_named() -> None:
    images = us_images()
    ds = read(write_secondary_capture(result_of(images), images)[0])
    (source,) = ds.SourceImageSequence
    assert (source.ReferencedSOPInstanceUID, source.ReferencedFrameNumber) == (images[0].instance.sop_instance_uid, 5)
    assert list(ds.ImageType) == ["DERIVED", "SECONDARY"]
    assert "AI finding" in ds.DerivationDescription and "not verified" in ds.DerivationDescription
