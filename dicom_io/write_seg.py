"""Positive findings as DICOM segmentations: a BINARY SEG for each CT or MR series, a segment for each finding.

A segment is the inside of the finding's outline, which is the level line of its heat map at half of its maximum: the
same as the region of the SR, and with the same tracking UID. Radiographs get none (PLANE_MODALITIES).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import highdicom as hd
import numpy as np
from highdicom import seg
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from radserve.dicom_io.part10 import quiet
from radserve.dicom_io.write_base import (
    CONTENT_LABEL,
    DRAFT,
    LONG_STRING,
    OutputKind,
    identify,
    image_of,
    join_study,
    positives,
    sources_of,
    to_bytes,
)
from radserve.dicom_io.write_planes import (
    lies_in_plane,
    mask_of,
    plane_of,
    require_planes,
    settle_frames,
)
from radserve.dicom_io.write_sr import ARTIFICIAL_INTELLIGENCE, MANUFACTURER, texts_of
from radserve.findings import Finding, PackRef, StudyResult
from radserve.image import Image

SEGMENT_RGB = (0, 220, 255)


def write_seg(result: StudyResult, images: Sequence[Image]) -> tuple[bytes, ...]:
    """Return a SEG as Part 10 bytes for each CT or MR series with a positive finding; none where all are negative.

    `images` holds those that positive findings stand on. Raises RadserveError INVALID_ARGUMENT for a study without CT
    and MR and for an image or source that is missing, GeometryError GEOMETRY_MISSING for slices without a place,
    DicomError INVALID_HEADER.
    """
    with quiet():
        sources = sources_of(result)
        require_planes("SEG", list(sources.values()))
        placed = [each for each in positives(result) if lies_in_plane(sources[each.region.instance.sop_instance_uid])]
        series = groupby(sorted(placed, key=_series_of), key=_series_of)
        return tuple(to_bytes(_segmentation(result, list(found), images, sources)) for _, found in series)


def _series_of(finding: Finding) -> str:
    return finding.region.instance.series_instance_uid


def _segmentation(
    result: StudyResult,
    findings: Sequence[Finding],
    images: Sequence[Image],
    sources: dict[str, Dataset],
) -> Dataset:
    regions = [finding.region for finding in findings]
    keys = sorted({(region.instance.sop_instance_uid, region.frame) for region in regions})
    of_key = {(each.region.instance.sop_instance_uid, each.region.frame): image_of(each, images) for each in findings}
    planes = [plane_of(sources[uid], of_key[uid, frame], frame, images) for uid, frame in keys]
    rows, columns = planes[0].Rows, planes[0].Columns
    masks = np.zeros((len(keys), rows, columns, len(findings)), dtype=np.uint8)
    for at, region in enumerate(regions):
        place = keys.index((region.instance.sop_instance_uid, region.frame))
        masks[place, :, :, at] = mask_of(region.outline, rows, columns)
    identity = identify(result, OutputKind.SEG, of_series=_series_of(findings[0]))
    document = seg.Segmentation(
        source_images=planes,
        pixel_array=masks,
        segmentation_type=seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[_segment(at, each, result.pack) for at, each in enumerate(findings, start=1)],
        series_instance_uid=identity.series_instance_uid,
        series_number=identity.series_number,
        sop_instance_uid=identity.sop_instance_uid,
        instance_number=identity.instance_number,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=result.pack.name[:LONG_STRING],
        software_versions=result.pack.version[:LONG_STRING],
        device_serial_number=result.pack.digest[:LONG_STRING],
        content_label=CONTENT_LABEL,
        content_description=DRAFT,
        specific_character_set=None,
    )
    settle_frames(document, sources, {uid: [(f, of_key[u, f]) for u, f in keys if u == uid] for uid, _ in keys})
    return join_study(document, planes[0], result.pack, identity.series_description, texts_of(result))


def _segment(number: int, finding: Finding, pack: PackRef) -> seg.SegmentDescription:
    description = seg.SegmentDescription(
        segment_number=number,
        segment_label=f"AI: {finding.label}"[:LONG_STRING],
        segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
        segmented_property_type=Code(finding.code.value, finding.code.scheme, finding.code.meaning),
        algorithm_type=seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=hd.AlgorithmIdentificationSequence(
            name=pack.name, version=pack.version, family=ARTIFICIAL_INTELLIGENCE
        ),
        tracking_uid=finding.tracking_uid,
        tracking_id=finding.tracking_identifier,
        anatomic_regions=[Code(finding.site.value, finding.site.scheme, finding.site.meaning)],
        display_color=hd.color.CIELabColor.from_rgb(*SEGMENT_RGB),
    )
    description.SegmentDescription = f"{DRAFT}; probability {finding.probability:.3f}"
    return description
