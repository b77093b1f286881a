"""Heat maps of positive findings as DICOM Parametric Maps: one frame of 32-bit floats on the pixels of the source.

The values are those of the heat map, unscaled: how much each place spoke for the finding (and, below zero, against it),
as the difference of similarities. Of a segment they are its probabilities in the slice with most of it. The window
shows what speaks for it, from 0 to the greatest value.
"""

from __future__ import annotations

from collections.abc import Sequence

import highdicom as hd
import numpy as np
import numpy.typing as npt
from pydicom import Dataset

from radserve._checks import invalid
from radserve.dicom_io.part10 import quiet
from radserve.dicom_io.write_base import (
    CONTENT_LABEL,
    DRAFT,
    LONG_STRING,
    OutputKind,
    identify,
    image_of,
    join_study,
    origin_of,
    positives,
    sources_of,
    to_bytes,
)
from radserve.dicom_io.write_planes import (
    check_shape,
    heat_on_source,
    image_place,
    lies_in_plane,
    plane_of,
    planes_of_series,
    require_planes,
    settle_frames,
)
from radserve.dicom_io.write_sr import NO_UNITS, texts_of
from radserve.findings import Finding
from radserve.image import Image
from radserve.results import StudyResult

LUT_LABEL = 16  # characters of VR SH
WIDEST = float(np.finfo(np.float32).max)


def has_map(finding: Finding) -> bool:
    """Whether a finding has values to map."""
    return finding.region.heat_map is not None or _of_segment(finding) is not None


def write_parametric_map(result: StudyResult, images: Sequence[Image]) -> tuple[bytes, ...]:
    """Return a Parametric Map as Part 10 bytes for each positive finding on CT or MR; none where all are negative.

    `images` holds those that positive findings stand on. Raises as `write_seg`.
    """
    with quiet():
        sources = sources_of(result)
        require_planes("Parametric Map", list(sources.values()))
        placed = [
            each
            for each in positives(result)
            if has_map(each) and lies_in_plane(sources[each.region.instance.sop_instance_uid])
        ]
        return tuple(
            to_bytes(_map(result, finding, images, sources, number)) for number, finding in enumerate(placed, start=1)
        )


def _of_segment(finding: Finding) -> npt.NDArray[np.float32] | None:
    return finding.mask.key_probabilities if finding.mask else None


def _values(finding: Finding, image: Image) -> tuple[str, npt.NDArray[np.float32]]:
    """What the values are, and they themselves on the pixels of the finding's frame."""
    if finding.region.heat_map:
        check_shape(finding.region.heat_map, image)
        return "Difference of similarities", heat_on_source(finding.region.heat_map)
    probabilities = _of_segment(finding)
    if probabilities is None or probabilities.shape != image.array.shape[1:]:
        raise invalid("SegmentMask.key_probabilities", finding.label, f"those of an image of {image.array.shape[1:]}")
    return "Probability", probabilities


def _map(
    result: StudyResult,
    finding: Finding,
    images: Sequence[Image],
    sources: dict[str, Dataset],
    number: int,
) -> Dataset:
    region, image = finding.region, image_of(finding, images)
    meaning, values = _values(finding, image)
    uid, place = region.instance.sop_instance_uid, image_place(image, region.frame)
    plane = plane_of(sources[uid], place, planes_of_series(image, images))
    identity = identify(result, OutputKind.PARAMETRIC_MAP, number, of_series=region.instance.series_instance_uid)
    greatest = max(float(values.max()), 0.0) or 1.0
    document = hd.pm.ParametricMap(
        source_images=[plane],
        pixel_array=values[None],
        **origin_of(identity, result.pack),
        contains_recognizable_visual_features=False,
        real_world_value_mappings=[
            hd.pm.RealWorldValueMapping(
                lut_label=finding.label[:LUT_LABEL],
                lut_explanation=f"{meaning}: {finding.label}"[:LONG_STRING],
                unit=NO_UNITS,
                value_range=(-WIDEST, WIDEST),
                slope=1.0,
                intercept=0.0,
            )
        ],
        voi_lut_transformations=[_window(greatest)],
        content_label=CONTENT_LABEL,
        content_description=f"{finding.label}: {DRAFT}"[:LONG_STRING],
        content_qualification=hd.ContentQualificationValues.RESEARCH,
        image_flavor=hd.pm.ImageFlavorValues.VOLUME,
        derived_pixel_contrast=hd.pm.DerivedPixelContrastValues.QUANTITY,
        specific_character_set=None,
    )
    settle_frames(document, sources, {uid: [(region.frame, place.plane)]})
    document.Laterality = ""  # type 2C of General Series: not known here
    return join_study(document, plane, result.pack, identity.series_description, texts_of(result))


def _window(greatest: float) -> hd.VOILUTTransformation:
    exact = hd.VOILUTFunctionValues.LINEAR_EXACT  # a plain linear window may not be narrower than 1
    return hd.VOILUTTransformation(window_center=greatest / 2, window_width=greatest, voi_lut_function=exact)
