"""The annotations in a DICOM SR of template TID 1500: each measurement group with its finding, image and region."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from highdicom import sr
from pydicom import Dataset

from radserve.dicom_io.annotations import Annotation, Presence, outline_text
from radserve.dicom_io.part10 import quiet
from radserve.dicom_io.write_sr import ABSENT, PRESENCE, PRESENT, UNDETERMINED
from radserve.errors import DicomError, ErrorCode, RadserveError
from radserve.uids import derive_uid

SAID = {PRESENT.value: Presence.PRESENT, ABSENT.value: Presence.ABSENT, UNDETERMINED.value: Presence.UNDETERMINED}


def read_sr(path: Path) -> list[Annotation]:
    """Read a document. Run it in a worker: files are hostile.

    Groups whose region is no polygon keep their image alone. Raises DicomError NOT_DICOM, UNSUPPORTED_SOP_CLASS for
    what is no TID 1500 report, INVALID_HEADER.
    """
    with quiet():
        try:
            document = sr.srread(path)
        except Exception as error:  # pydicom and highdicom have no common base; their texts may quote values
            raise DicomError(ErrorCode.NOT_DICOM, f"not a DICOM SR that can be read ({type(error).__name__})") from None
        try:
            report = document.content
            if not isinstance(report, sr.MeasurementReport):
                raise DicomError(ErrorCode.UNSUPPORTED_SOP_CLASS, "the SR is no measurement report (TID 1500)")
            series = {str(entry[2]): (str(entry[0]), str(entry[1])) for entry in document.get_evidence()}
            groups = [*report.get_planar_roi_measurement_groups(), *report.get_image_measurement_groups()]
            annotator = annotator_of(document)
            return [
                _annotation(group, series, annotator, derive_uid("annotation", document.SOPInstanceUID, str(number)))
                for number, group in enumerate(groups)
                if group.finding_type is not None
            ]
        except RadserveError:
            raise
        except Exception as error:
            text = f"the measurement groups cannot be read ({type(error).__name__})"
            raise DicomError(ErrorCode.INVALID_HEADER, text) from None


def _annotation(group: Any, series: dict[str, tuple[str, str]], annotator: str, uid: str) -> Annotation:
    region = getattr(group, "roi", None)
    image = region.ContentSequence[0] if region is not None else group.source_images[0]
    reference = image.ReferencedSOPSequence[0]
    study_uid, series_uid = series[str(reference.ReferencedSOPInstanceUID)]
    frames = reference.get("ReferencedFrameNumber", 1)
    evaluations = group.get_qualitative_evaluations(name=PRESENCE)
    is_polygon = region is not None and region.graphic_type is sr.GraphicTypeValues.POLYLINE
    points = region.value if region is not None and is_polygon else ()
    return Annotation(
        annotation_uid=uid,  # not the tracking UID: that is the same in a later document on the same finding
        study_instance_uid=study_uid,
        series_instance_uid=series_uid,
        sop_instance_uid=str(reference.ReferencedSOPInstanceUID),
        frame=int(frames if isinstance(frames, (int, str)) else frames[0]),
        scheme=str(group.finding_type.scheme_designator),
        code=str(group.finding_type.value),
        meaning=str(group.finding_type.meaning),
        presence=SAID.get(evaluations[0].value.value, Presence.UNSAID) if evaluations else Presence.UNSAID,
        outline=outline_text((float(column), float(row)) for column, row in points),
        annotator=annotator,
    )


def annotator_of(document: Dataset) -> str:
    """Maker and model of a device; never the name of a person."""
    return " ".join(
        filter(None, (str(document.get("Manufacturer", "")), str(document.get("ManufacturerModelName", ""))))
    )
