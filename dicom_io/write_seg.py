"""Positive findings as DICOM segmentations: BINARY SEGs for each CT or MR series, a segment for each finding.

A segment is the finding's mask where the model segments, else the inside of its outline, which is the level line of its
heat map at half of its maximum: the same as the region of the SR, and with the same tracking UID. Radiographs get none
(PLANE_MODALITIES), nor do findings without a place.

Segments of one object may overlap as long as that is small; many large ones, as of a whole CT, are spread over
objects in which they do not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import highdicom as hd
import numpy as np
import numpy.typing as npt
from highdicom import seg
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from radserve._checks import invalid
from radserve.dicom_io.derived import source_dataset
from radserve.dicom_io.part10 import quiet
from radserve.dicom_io.write_base import (
    CONTENT_LABEL,
    DRAFT,
    LONG_STRING,
    OutputKind,
    full_header,
    identify,
    image_of,
    join_study,
    origin_of,
    positives,
    sources_of,
    to_bytes,
)
from radserve.dicom_io.write_planes import (
    FramePlace,
    header_place,
    image_place,
    lies_in_plane,
    mask_of,
    plane_of,
    require_planes,
    settle_frames,
)
from radserve.dicom_io.write_sr import ARTIFICIAL_INTELLIGENCE, texts_of
from radserve.findings import Finding
from radserve.image import Image, PlanePosition
from radserve.results import PackRef, StudyResult

LABEL_PREFIX = "AI: "
SEGMENT_RGB = (0, 220, 255)
MOST_STACKED = 64 << 20  # pixels of all segments of an object in which segments may overlap


def has_segment(finding: Finding) -> bool:
    """Whether a finding has pixels to segment."""
    return finding.mask is not None or finding.region.outline is not None


def write_seg(result: StudyResult, images: Sequence[Image]) -> tuple[bytes, ...]:
    """Return SEGs as Part 10 bytes, for each CT or MR series with a positive finding; none where all are negative.

    `images` holds those that positive findings stand on. Raises RadserveError INVALID_ARGUMENT for a study without CT
    and MR and for an image or source that is missing, GeometryError GEOMETRY_MISSING for slices without a place,
    DicomError INVALID_HEADER.
    """
    with quiet():
        sources = sources_of(result)
        require_planes("SEG", list(sources.values()))
        placed = [
            each
            for each in positives(result)
            if has_segment(each) and lies_in_plane(sources[each.region.instance.sop_instance_uid])
        ]
        objects = []
        for _, found in groupby(sorted(placed, key=_series_of), key=_series_of):
            frames = _frames(result, list(found), images)
            for number, layer in enumerate(_layers(frames), start=1):
                objects.append(to_bytes(_segmentation(result, layer, frames, number)))
        return tuple(objects)


def _series_of(finding: Finding) -> str:
    return finding.region.instance.series_instance_uid


@dataclass(frozen=True, slots=True)
class _Frames:
    """The frames of one series that its findings stand on, with their headers and places, by (instance UID, frame)."""

    findings: Sequence[Finding]
    sources: dict[str, Dataset]
    places: dict[tuple[str, int], FramePlace]

    @property
    def shape(self) -> tuple[int, int]:
        return next(iter(self.places.values())).shape

    def masks(self, finding: Finding) -> Iterator[tuple[tuple[str, int], npt.NDArray[np.bool_]]]:
        """The frames of a finding, each with its pixels (rows, columns)."""
        if finding.mask:
            for at, (instance, frame) in enumerate(finding.mask.frames):
                yield (instance.sop_instance_uid, frame), finding.mask.frame(at)
        elif finding.region.outline is not None:
            key = finding.region.instance.sop_instance_uid, finding.region.frame
            yield key, mask_of(finding.region.outline, *self.shape)


def _frames(result: StudyResult, findings: Sequence[Finding], images: Sequence[Image]) -> _Frames:
    contexts = {source.instance.sop_instance_uid: source for source in result.sources}
    sources: dict[str, Dataset] = {}
    places: dict[tuple[str, int], FramePlace] = {}
    for finding in findings:
        region = finding.region
        named = finding.mask.frames if finding.mask else ((region.instance, region.frame),)
        for instance, frame in named:
            uid = instance.sop_instance_uid
            if uid not in contexts:
                raise invalid("StudyResult.sources", f"none for {uid}", "the instance of every frame of a mask")
            if uid not in sources:
                sources[uid] = source_dataset(contexts[uid])
            if (uid, frame) not in places:
                found = finding.mask and header_place(full_header(contexts[uid]), frame)
                places[uid, frame] = found or image_place(image_of(finding, images), frame)
    return _Frames(findings, sources, dict(sorted(places.items())))


def _layers(frames: _Frames) -> list[Sequence[Finding]]:
    """The findings of each object: all of them where that is small, else such that none overlap in one."""
    rows, columns = frames.shape
    if len(frames.places) * rows * columns * len(frames.findings) <= MOST_STACKED:
        return [frames.findings]
    layers: list[tuple[list[Finding], dict[tuple[str, int], npt.NDArray[np.bool_]]]] = []
    for finding in frames.findings:
        own = dict(frames.masks(finding))
        free = (layer for layer in layers if not any((layer[1][key] & own[key]).any() for key in layer[1].keys() & own))
        layer = next(free, None)
        if layer is None:
            layers.append(layer := ([], {}))
        layer[0].append(finding)
        for key, mask in own.items():
            layer[1][key] = layer[1][key] | mask if key in layer[1] else mask
    return [members for members, _ in layers]


def _pixels(frames: _Frames, findings: Sequence[Finding], keys: Sequence[tuple[str, int]]) -> npt.NDArray[np.uint8]:
    """(frames, rows, columns, segments) of 0 and 1; of several that do not overlap, (frames, rows, columns) numbers."""
    shape = (len(keys), *frames.shape)
    stacked = int(np.prod(shape)) * len(findings) <= MOST_STACKED
    pixels = np.zeros((*shape, len(findings)) if stacked else shape, dtype=np.uint8)
    at = {key: index for index, key in enumerate(keys)}
    for number, finding in enumerate(findings, start=1):
        for key, mask in frames.masks(finding):
            if stacked:
                pixels[at[key], :, :, number - 1] = mask
            else:
                pixels[at[key]][mask] = number
    return pixels


def _segmentation(result: StudyResult, findings: Sequence[Finding], frames: _Frames, number: int) -> Dataset:
    used = {key for finding in findings for key, _ in frames.masks(finding)}
    keys = [key for key in frames.places if key in used]
    others = [place.plane for place in frames.places.values()]
    planes = [plane_of(frames.sources[key[0]], frames.places[key], others) for key in keys]
    identity = identify(result, OutputKind.SEG, number, of_series=_series_of(findings[0]))
    document = seg.Segmentation(
        source_images=planes,
        pixel_array=_pixels(frames, findings, keys),
        segmentation_type=seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[_segment(at, each, result.pack) for at, each in enumerate(findings, start=1)],
        **origin_of(identity, result.pack),
        content_label=CONTENT_LABEL,
        content_description=DRAFT,
        specific_character_set=None,
    )
    of_instance: dict[str, list[tuple[int, PlanePosition]]] = {}
    for uid, frame in keys:
        of_instance.setdefault(uid, []).append((frame, frames.places[uid, frame].plane))
    settle_frames(document, frames.sources, of_instance)
    return join_study(document, planes[0], result.pack, identity.series_description, texts_of(result))


def _segment(number: int, finding: Finding, pack: PackRef) -> seg.SegmentDescription:
    whole = finding.code == finding.site  # the structure itself, and nothing found in it
    description = seg.SegmentDescription(
        segment_number=number,
        segment_label=f"{LABEL_PREFIX}{finding.label}"[:LONG_STRING],
        segmented_property_category=codes.SCT.AnatomicalStructure
        if whole
        else codes.SCT.MorphologicallyAbnormalStructure,
        segmented_property_type=Code(finding.code.value, finding.code.scheme, finding.code.meaning),
        algorithm_type=seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=hd.AlgorithmIdentificationSequence(
            name=pack.name, version=pack.version, family=ARTIFICIAL_INTELLIGENCE
        ),
        tracking_uid=finding.tracking_uid,
        tracking_id=finding.tracking_identifier,
        anatomic_regions=None if whole else [Code(finding.site.value, finding.site.scheme, finding.site.meaning)],
        display_color=hd.color.CIELabColor.from_rgb(*SEGMENT_RGB),
    )
    description.SegmentDescription = f"{DRAFT}; probability {finding.probability:.3f}"
    return description
