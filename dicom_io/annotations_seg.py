"""The annotations in a DICOM segmentation: the outer outlines of each segment on each image, exactly along its pixels.

Holes of a segment are filled, and a segment whose parts do not touch gives an outline for each part.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import Dataset, dcmread

from radserve.dicom_io.annotations import MAX_TEXT, Annotation, Presence, outline_text
from radserve.dicom_io.annotations_sr import annotator_of
from radserve.dicom_io.part10 import quiet
from radserve.errors import DicomError, ErrorCode, RadserveError
from radserve.uids import derive_uid

SEGMENTATION, LABEL_MAP = "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7"
BACKGROUND = 0
Point = tuple[int, int]  # column, row
Loop = list[Point]


def read_seg(path: Path) -> list[Annotation]:
    """Read a segmentation, binary, fractional (from half of the maximum on) or a label map. Run it in a worker.

    Raises DicomError NOT_DICOM, UNSUPPORTED_SOP_CLASS, INVALID_HEADER.
    """
    with quiet():
        try:
            document = dcmread(path)
        except Exception as error:  # pydicom has no common base; its texts may quote values
            raise DicomError(
                ErrorCode.NOT_DICOM, f"not a DICOM file that can be read ({type(error).__name__})"
            ) from None
        if document.get("SOPClassUID") not in (SEGMENTATION, LABEL_MAP):
            raise DicomError(ErrorCode.UNSUPPORTED_SOP_CLASS, "the object is no segmentation")
        try:
            return list(_annotations(document))
        except RadserveError:
            raise
        except Exception as error:
            text = f"the segments cannot be read ({type(error).__name__})"
            raise DicomError(ErrorCode.INVALID_HEADER, text) from None


def _annotations(document: Dataset) -> Iterator[Annotation]:
    series = _series_of_instances(document)
    annotator = annotator_of(document)
    segments = {int(each.SegmentNumber): each for each in document.SegmentSequence}
    for number, (source, mask, segment_number) in enumerate(_masks(document)):
        if segment_number not in segments or not mask.any():
            continue
        code = segments[segment_number].SegmentedPropertyTypeCodeSequence[0]
        study_uid, series_uid = series[str(source.ReferencedSOPInstanceUID)]
        for part, loop in enumerate(outer_loops(mask)):
            yield Annotation(
                derive_uid("annotation", document.SOPInstanceUID, str(number), str(segment_number), str(part)),
                study_uid,
                series_uid,
                str(source.ReferencedSOPInstanceUID),
                frame=_first(source.get("ReferencedFrameNumber", 1)),
                scheme=str(code.CodingSchemeDesignator),
                code=str(code.CodeValue),
                meaning=str(code.CodeMeaning)[:MAX_TEXT],
                presence=Presence.PRESENT,
                outline=outline_text((float(column), float(row)) for column, row in loop),
                annotator=annotator,
            )


def _masks(document: Dataset) -> Iterator[tuple[Dataset, npt.NDArray[np.bool_], int]]:
    """The source image, the mask (rows, columns) and the segment number of each frame; a label map has several each."""
    pixels = document.pixel_array
    frames = pixels.reshape(-1, *pixels.shape[-2:])
    shared = (document.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    for frame, groups in zip(frames, document.PerFrameFunctionalGroupsSequence, strict=True):
        source = _group(groups, shared, "DerivationImageSequence").SourceImageSequence[0]
        if document.SOPClassUID == LABEL_MAP:
            for value in np.unique(frame):
                if value != BACKGROUND:
                    yield source, frame == value, int(value)
            continue
        least = document.MaximumFractionalValue / 2 if document.SegmentationType == "FRACTIONAL" else 1
        identification = _group(groups, shared, "SegmentIdentificationSequence")
        yield source, frame >= least, int(identification.ReferencedSegmentNumber)


def _group(groups: Dataset, shared: Dataset, keyword: str) -> Dataset:
    found = groups.get(keyword) or shared.get(keyword)
    if not found:
        raise DicomError(ErrorCode.INVALID_HEADER, f"a frame has no {keyword}")
    return Dataset(found[0])


def _series_of_instances(document: Dataset) -> dict[str, tuple[str, str]]:
    """Study and series of each instance that is referred to."""
    here = (str(document.StudyInstanceUID), document.get("ReferencedSeriesSequence") or ())
    elsewhere = document.get("StudiesContainingOtherReferencedInstancesSequence") or ()
    studies = [here, *((str(each.StudyInstanceUID), each.ReferencedSeriesSequence) for each in elsewhere)]
    return {
        str(instance.ReferencedSOPInstanceUID): (study, str(series.SeriesInstanceUID))
        for study, listed in studies
        for series in listed
        for instance in series.get("ReferencedInstanceSequence") or series.ReferencedSOPSequence
    }


def _first(value: Any) -> int:
    return int(value if isinstance(value, (int, str)) else value[0])


def outer_loops(mask: npt.NDArray[np.bool_]) -> list[Loop]:
    """The closed outlines (first point again at the end) around the parts of a mask, along the edges of its pixels.

    The pixel (row, column) covers [column, column + 1] by [row, row + 1]. Pixels that only touch at a corner are two
    parts. Corners alone are points.
    """
    set_ = np.pad(mask, 1)
    steps: dict[Point, list[Point]] = {}
    # Clockwise on the screen around what is set: right along the top, down on the right, left below, up on the left.
    for (row_shift, column_shift), begin, end in (
        ((-1, 0), (0, 0), (1, 0)),
        ((0, 1), (1, 0), (1, 1)),
        ((1, 0), (1, 1), (0, 1)),
        ((0, -1), (0, 1), (0, 0)),
    ):
        beside = np.roll(set_, (-row_shift, -column_shift), (0, 1))[1:-1, 1:-1]
        for row, column in np.argwhere(mask & ~beside).tolist():
            steps.setdefault((column + begin[0], row + begin[1]), []).append((column + end[0], row + end[1]))
    loops = []
    while steps:
        start = min(steps, key=lambda point: (point[1], point[0]))
        loop = [start]
        while len(loop) == 1 or loop[-1] != start:
            loop.append(_next(steps, loop))
        corners = [
            point
            for before, point, after in zip([loop[-2], *loop], loop[:-1], loop[1:], strict=False)
            if (point[0] - before[0]) * (after[1] - point[1]) != (point[1] - before[1]) * (after[0] - point[0])
        ]
        if _is_clockwise(corners):  # else a hole
            loops.append([*corners, corners[0]])
    return loops


def _next(steps: dict[Point, list[Point]], loop: Loop) -> Point:
    """The next point, which is taken; where two ways lead on, the one to the right, which stays with the pixel."""
    at = loop[-1]
    ways = steps[at]
    chosen = ways[0]
    if len(ways) > 1:
        came = at[0] - loop[-2][0], at[1] - loop[-2][1]
        chosen = next(each for each in ways if came[0] * (each[1] - at[1]) - came[1] * (each[0] - at[0]) > 0)
    ways.remove(chosen)
    if not ways:
        del steps[at]
    return chosen


def _is_clockwise(corners: Loop) -> bool:
    """On the screen, where rows count downwards."""
    following = [*corners[1:], corners[0]]
    return sum(a[0] * b[1] - b[0] * a[1] for a, b in zip(corners, following, strict=True)) > 0
