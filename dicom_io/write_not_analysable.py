"""A study that has no result as a small SR that says so: silence in a PACS would look like a negative study.

A Comprehensive SR of TID 1500 with one measurement group (TID 1501): Summary of Analyses (111065, DCM) is Failed
(111224) or, where the pack does not take the study, Not Attempted (111225), both of CID 6042; a Comment (121106, DCM)
names the error code and the reason, the group points to the images it speaks of. The request stands in it as in the SR
of a result (write_request), and the orders of its sources (requested). TID 1501 is extensible, which is what
allows the comment. A qualitative evaluation was chosen over a Key Object note because programs can read it: it stands
where they look for findings, with the same tracking and algorithm items.
"""

from __future__ import annotations

from collections.abc import Sequence

from highdicom import sr
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import UltrasoundImageStorage

from radserve._checks import invalid
from radserve.clinical_context import ClinicalContext
from radserve.dicom_io.derived import source_dataset
from radserve.dicom_io.part10 import quiet
from radserve.dicom_io.requested import referenced_requests, texts_of_requests
from radserve.dicom_io.write_base import DRAFT, content_date, join_study, reference, to_bytes
from radserve.dicom_io.write_request import request_items, request_texts
from radserve.dicom_io.write_sr import (
    ARTIFICIAL_INTELLIGENCE,
    IMAGING,
    MANUFACTURER,
    SERIES_NUMBER,
    DraftSR,
    device_observer,
    previous_versions,
    put_first,
)
from radserve.errors import ErrorCode
from radserve.references import SourceContext
from radserve.results import PackRef, StudyFailure
from radserve.uids import derive_uid

SUMMARY_OF_ANALYSES = Code("111065", "DCM", "Summary of Analyses")
FAILED = Code("111224", "DCM", "Failed")
NOT_ATTEMPTED = Code("111225", "DCM", "Not Attempted")
OUT_OF_SCOPE = (
    ErrorCode.NO_APPLICABLE_INPUT,
    ErrorCode.OUTSIDE_INTENDED_USE,
    ErrorCode.UNSUPPORTED_SOP_CLASS,
    ErrorCode.UNSUPPORTED_TRANSFER_SYNTAX,
    ErrorCode.UNSUPPORTED_PIXELS,
)
SERIES_DESCRIPTION = "Not analysed by AI"


def write_not_analysable(failure: StudyFailure, sources: Sequence[SourceContext], pack: PackRef) -> bytes:
    """Return the SR of a failure as Part 10 bytes, in the study of `sources`: the headers of one image or more.

    `pack` is the one that was asked for. Same input, same bytes. Raises RadserveError INVALID_ARGUMENT without sources
    or where they are of another study than the failure's, DicomError INVALID_HEADER.
    """
    studies = sorted({source.instance.study_instance_uid for source in sources})
    if len(studies) != 1 or failure.study_instance_uid not in ("", *studies):
        raise invalid(
            "sources", f"those of studies {studies}", f"one or more of one study, {failure.study_instance_uid}"
        )
    with quiet():
        return to_bytes(_document(failure, sources, pack))


def _document(failure: StudyFailure, sources: Sequence[SourceContext], pack: PackRef) -> Dataset:
    evidence = [source_dataset(source) for source in sources]
    first = evidence[0]
    requests = referenced_requests(sources)
    uids = sorted(source.SOPInstanceUID for source in evidence)
    names = (first.StudyInstanceUID, pack.digest)
    later = [f"revision {failure.revision}"] if failure.revision > 1 else []
    if failure.context != ClinicalContext():
        later.append(repr(failure.context))
    date, time = content_date(first)
    document = DraftSR(
        evidence=evidence,
        content=_report(failure, evidence, pack, derive_uid("failure", *names, *uids)),
        series_instance_uid=derive_uid("failure series", *names),
        series_number=SERIES_NUMBER,
        sop_instance_uid=derive_uid("failure sr", *names, failure.code, failure.message, *uids, *later),
        instance_number=1,
        manufacturer=MANUFACTURER,
        is_complete=False,
        is_final=False,
        is_verified=False,
        content_date=date,
        content_time=time,
        requested_procedures=requests or None,
        previous_versions=previous_versions(failure.predecessor),
        specific_character_set=None,
    )
    document.CompletionFlagDescription = f"{failure.code}"
    texts = [pack.name, pack.version, failure.message, *request_texts(failure.context), *texts_of_requests(requests)]
    return join_study(document, first, pack, SERIES_DESCRIPTION, texts)


def _report(
    failure: StudyFailure, evidence: Sequence[Dataset], pack: PackRef, tracking_uid: str
) -> sr.MeasurementReport:
    status = NOT_ATTEMPTED if failure.code in OUT_OF_SCOPE else FAILED
    group = sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(uid=tracking_uid, identifier=f"{pack.name} analysis"),
        algorithm_id=sr.AlgorithmIdentification(
            name=pack.name,
            version=pack.version,
            family=ARTIFICIAL_INTELLIGENCE,
            parameters=[f"model_version={pack.model_version}", f"pipeline_digest=sha256:{pack.digest}"],
        ),
        qualitative_evaluations=[sr.QualitativeEvaluation(SUMMARY_OF_ANALYSES, status)],
        source_images=[_source_image(source) for source in evidence],
    )
    group[0].ContentSequence.append(
        sr.TextContentItem(
            name=codes.DCM.Comment,
            value=f"{DRAFT}. Not analysed: {failure.message} ({failure.code})",
            relationship_type=sr.RelationshipTypeValues.CONTAINS,
        )
    )
    report = sr.MeasurementReport(
        observation_context=sr.ObservationContext(observer_device_context=device_observer(pack)),
        procedure_reported=IMAGING,
        title=codes.DCM.ImagingMeasurementReport,
        imaging_measurements=[group],
    )
    put_first(report, list(request_items(failure.context)))
    return report


def _source_image(source: Dataset) -> sr.SourceImageForMeasurementGroup:
    # highdicom does not know retired classes: it is given one that it checks nothing for.
    item = sr.SourceImageForMeasurementGroup(UltrasoundImageStorage, source.SOPInstanceUID)
    item.ReferencedSOPSequence = [reference(source)]
    return item
