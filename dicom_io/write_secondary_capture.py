"""Findings as pictures that every viewer shows: a colour Secondary Capture of the overlay of each positive finding.

A result without positive findings gives one picture, of the frame with the highest probability, with a line that says
so and nothing drawn on it. BurnedInAnnotation speaks of identifying text (PS3.3 C.7.6.1): ours is none, so
that it is NO where the source says NO, and YES where the source says otherwise or nothing.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont
from pydicom import Dataset
from pydicom.uid import SecondaryCaptureImageStorage

from radserve.dicom_io.overlay import (
    BAND_PX,
    BANNER,
    BANNER_RGB,
    FONT_PX,
    LEAST_WIDTH_PX,
    TEXT_RGB,
    picture_size,
    render_overlay,
)
from radserve.dicom_io.part10 import quiet
from radserve.dicom_io.write_base import (
    DRAFT,
    OutputKind,
    content_date,
    full_header,
    identify,
    image_of,
    join_study,
    negative_text,
    new_object,
    on_image,
    positives,
    reference,
    sources_of,
    to_bytes,
)
from radserve.dicom_io.write_sr import texts_of
from radserve.findings import Finding
from radserve.image import Image
from radserve.presentation import present_frame
from radserve.results import StudyResult


def write_secondary_capture(result: StudyResult, images: Sequence[Image]) -> tuple[bytes, ...]:
    """Return a Secondary Capture as Part 10 bytes for each positive finding, or one that says there is none.

    `images` holds those that the findings stand on. Raises RadserveError INVALID_ARGUMENT for an image, a frame or a
    source that is missing, DicomError INVALID_HEADER.
    """
    with quiet():
        sources = sources_of(result)
        found = positives(result) or (max(result.findings, key=lambda finding: finding.probability),)
        return tuple(
            to_bytes(_capture(result, finding, image_of(finding, images), sources, number))
            for number, finding in enumerate(found, start=1)
        )


def _capture(result: StudyResult, finding: Finding, image: Image, sources: dict[str, Dataset], number: int) -> Dataset:
    source = sources[finding.region.instance.sop_instance_uid]
    identity = identify(result, OutputKind.SECONDARY_CAPTURE, number)
    ds = new_object(SecondaryCaptureImageStorage, "OT", identity)
    ds.ConversionType = "WSD"
    ds.Laterality = ""  # type 2C of General Series: not known here
    ds.ContentDate, ds.ContentTime = content_date(source)
    ds.ImageType = ["DERIVED", "SECONDARY"]
    ds.PatientOrientation = source.get("PatientOrientation", "")
    ds.BurnedInAnnotation = "NO" if full_header(image.source).get("BurnedInAnnotation") == "NO" else "YES"
    ds.DerivationDescription = f"Outline and heat map of an AI finding drawn over the image: {DRAFT}"
    ds.ImageComments = f"{DRAFT}: {on_image(finding) if finding.positive else negative_text(result.findings)}"
    ds.SourceImageSequence = [reference(source, finding.region.frame)]
    _set_pixels(ds, _picture(result, finding, image))
    return join_study(ds, source, result.pack, identity.series_description, texts_of(result))


def _picture(result: StudyResult, finding: Finding, image: Image) -> Pillow.Image:
    if not finding.positive:
        return _negative_picture(result, finding, image)
    ((_, png),) = render_overlay(image, [finding])
    return Pillow.open(io.BytesIO(png))


def _negative_picture(result: StudyResult, finding: Finding, image: Image) -> Pillow.Image:
    """The frame alone, between the bands: an outline or a heat map would look like a finding."""
    width, height = picture_size(image)
    levels = (present_frame(image, finding.region.frame - 1) * 255 + 0.5).astype(np.uint8)
    grey = Pillow.fromarray(levels).resize((width, height), Pillow.Resampling.BILINEAR)
    picture = Pillow.new("RGB", (max(width, LEAST_WIDTH_PX), height + 2 * BAND_PX))
    picture.paste(grey, ((picture.width - width) // 2, BAND_PX))
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(FONT_PX)
    for top, text in ((0, BANNER), (BAND_PX + height, negative_text(result.findings))):
        pen.rectangle((0, top, picture.width, top + BAND_PX - 1), fill=BANNER_RGB)
        pen.text((8, top + BAND_PX // 2), text, fill=TEXT_RGB, font=font, anchor="lm")
    return picture


def _set_pixels(ds: Dataset, picture: Pillow.Image) -> None:
    pixels = np.asarray(picture.convert("RGB"))
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PlanarConfiguration = 3, "RGB", 0
    ds.Rows, ds.Columns = pixels.shape[:2]
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 8, 8, 7, 0
    data = pixels.tobytes()
    ds.PixelData = data + b"\0" * (len(data) % 2)
    ds["PixelData"].VR = "OB"
