"""The files of a result as the workflow keeps and delivers them. Run it in a worker: it reads foreign headers."""

from __future__ import annotations

import io
from collections.abc import Collection, Sequence

from pydicom import dcmread

from radserve._checks import invalid
from radserve.dicom_io.write_base import DRAFT, OutputKind
from radserve.dicom_io.write_not_analysable import write_not_analysable
from radserve.dicom_io.write_outputs import MEDIA_TYPE, applicable, write_outputs
from radserve.image import Image
from radserve.references import InstanceRef, SourceContext
from radserve.results import Artifact, PackRef, StudyFailure, StudyResult
from radserve.work import ResultObject


def check_outputs(names: Collection[str]) -> tuple[OutputKind, ...]:
    """The kinds that are named. Raises RadserveError INVALID_ARGUMENT."""
    known = {kind.value for kind in OutputKind}
    if unknown := sorted(set(names) - known):
        raise invalid("outputs", unknown, f"some of {sorted(known)}")
    return tuple(OutputKind(name) for name in names)


def result_objects(result: StudyResult, images: Sequence[Image], outputs: Sequence[str]) -> tuple[ResultObject, ...]:
    """The DICOM objects of the named kinds that fit the result, and the report as text. Raises as `write_outputs`."""
    objects = [
        ResultObject(artifact, kind.value, _sop_instance_uid(artifact.data))
        for kind in applicable(result, images, check_outputs(outputs))
        for artifact in write_outputs(result, images, [kind])
    ]
    return (*objects, ResultObject(report_file(result), "report"))


def report_file(result: StudyResult) -> Artifact:
    """The draft as text, headed as what it is, and under it the warnings: many read the text alone."""
    parts = [DRAFT.upper()]
    if result.report:
        parts.append(result.report.text.rstrip("\n"))
    if result.warnings:
        parts.append("\n".join(["WARNINGS", *(f"- {warning.message}" for warning in result.warnings)]))
    text = "\n\n".join(parts) + "\n"
    return Artifact("report.txt", "text/plain; charset=utf-8", text.encode())


def failure_objects(failure: StudyFailure, sources: Sequence[SourceContext], pack: PackRef) -> tuple[ResultObject, ...]:
    """The SR that says that a study could not be analysed, and why. Raises as `write_not_analysable`."""
    data = write_not_analysable(failure, sources, pack)
    artifact = Artifact("sr.dcm", MEDIA_TYPE, data)
    return (ResultObject(artifact, OutputKind.SR.value, _sop_instance_uid(data)),)


def instance_of(data: bytes) -> InstanceRef:
    """Which instance a DICOM object of ours is."""
    ds = dcmread(io.BytesIO(data), stop_before_pixels=True)
    return InstanceRef(*map(str, (ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID, ds.SOPClassUID)))


def _sop_instance_uid(data: bytes) -> str:
    return str(dcmread(io.BytesIO(data), specific_tags=["SOPInstanceUID"]).SOPInstanceUID)
