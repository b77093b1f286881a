"""A result as a DICOM SR: a Comprehensive SR of template TID 1500 with a planar region for each finding.

Codes: Probability (122157, DCM) in percent is the calibrated probability, Score (246262008, SCT) without unit the
uncalibrated score; Presence of property (121052, DCM) is Present or Absent (CID 240) and is written for negative
findings too. Threshold, model version and pipeline digest are parameters of the algorithm identification (TID 4019).

TID 1500 has no place for the sections of a narrative report: the text goes out in report.txt and result.json. What the
requester said (write_request) and what the result warns of, as comments (121106, DCM), stand before the measurements.

Same result, same bytes: UIDs are derived from the study, its sources, the pipeline digest, the request and the
warnings; Content Date and Time are those of the study (of 1 January 1970 where it has none), not of the run; other
times of the run (type 3) are left out.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from highdicom import sr
from pydicom import Dataset
from pydicom.charset import python_encoding
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import UltrasoundImageStorage

from radserve._checks import invalid
from radserve.dicom_io.derived import COPIED, source_dataset
from radserve.dicom_io.requested import referenced_requests, texts_of_requests
from radserve.dicom_io.write_request import request_items, request_texts, text_item
from radserve.findings import CodedConcept, Finding
from radserve.references import InstanceRef
from radserve.results import PackRef, StudyResult, WarningCode
from radserve.uids import derive_uid

MANUFACTURER = "radserve"
SERIES_DESCRIPTION = "AI draft findings, not verified"
SERIES_NUMBER = 9901
FALLBACK_DATE, FALLBACK_TIME = "19700101", "000000"
PARTIAL_WARNINGS = (
    WarningCode.STUDY_INCOMPLETE,
    WarningCode.SERIES_NOT_ANALYSED,
    WarningCode.IMAGE_NOT_ANALYSED,
    WarningCode.FRAMES_SAMPLED,
    WarningCode.VOLUME_CUT,
)

PROBABILITY = Code("122157", "DCM", "Probability")
SCORE = Code("246262008", "SCT", "Score")
PRESENCE = Code("121052", "DCM", "Presence of property")
PRESENT = Code("52101004", "SCT", "Present")
ABSENT = Code("272519000", "SCT", "Absent")
UNDETERMINED = Code("373068000", "SCT", "Undetermined")
IMAGING = Code("363679005", "SCT", "Imaging")
ARTIFICIAL_INTELLIGENCE = Code("123110", "DCM", "Artificial Intelligence")
PERCENT = Code("%", "UCUM", "Percent")
NO_UNITS = Code("1", "UCUM", "no units")


def write_sr(result: StudyResult) -> bytes:
    """Return the SR of a result as Part 10 bytes, Explicit VR Little Endian.

    The SR lies in the source study with its patient and accession number, is PRELIMINARY and UNVERIFIED, and PARTIAL
    when instances were missing, or series, images or frames were left out. Raises RadserveError INVALID_ARGUMENT where
    a finding points to an instance that is not among `result.sources`, DicomError INVALID_HEADER where a source header
    cannot be read.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom and highdicom quote names and values in their warnings
        document = _document(result)
        out = io.BytesIO()
        document.save_as(out, enforce_file_format=True)
    return out.getvalue()


def _document(result: StudyResult) -> Dataset:
    sources = {source.instance.sop_instance_uid: source_dataset(source) for source in result.sources}
    missing = {finding.region.instance.sop_instance_uid for finding in result.findings} - set(sources)
    if missing:
        raise invalid("StudyResult.sources", f"none for {sorted(missing)}", "the instance of every region")
    evidence = list(sources.values())
    names = (result.study_instance_uid, result.pack.digest)
    first = evidence[0]
    requests = referenced_requests(result.sources)
    document = DraftSR(
        evidence=evidence,
        content=_report(result, sources),
        series_instance_uid=derive_uid("sr series", *names),
        series_number=SERIES_NUMBER,
        sop_instance_uid=derive_uid("sr", *names, *result.uid_parts, *_remarks(result)),
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=result.pack.name,
        software_versions=result.pack.version,
        is_complete=not any(warning.code in PARTIAL_WARNINGS for warning in result.warnings),
        is_final=False,
        is_verified=False,
        series_description=SERIES_DESCRIPTION,
        content_date=first.StudyDate or FALLBACK_DATE,
        content_time=(first.StudyTime or FALLBACK_TIME) if first.StudyDate else FALLBACK_TIME,
        requested_procedures=requests or None,
        previous_versions=previous_versions(result.predecessor),
        specific_character_set=None,  # highdicom refuses sets with an empty first value, which Japanese sources have
    )
    texts = [*texts_of(result), *request_texts(result.context), *_remarks(result), *texts_of_requests(requests)]
    if kept := character_set(first, texts):
        document.SpecificCharacterSet = kept
    del document.InstanceCreationDate, document.InstanceCreationTime
    return document


def previous_versions(predecessor: InstanceRef | None) -> list[Dataset] | None:
    """What highdicom makes the Predecessor Documents Sequence of (PS3.3 C.17.2), None without a predecessor."""
    if predecessor is None:
        return None
    ds = Dataset()
    ds.StudyInstanceUID, ds.SeriesInstanceUID = predecessor.study_instance_uid, predecessor.series_instance_uid
    ds.SOPClassUID, ds.SOPInstanceUID = predecessor.sop_class_uid, predecessor.sop_instance_uid
    return [ds]


class DraftSR(sr.ComprehensiveSR):
    """highdicom looks up by the source's SOP class what to copy, and fails for retired classes: we say it ourselves."""

    def copy_patient_and_study_information(self, dataset: Dataset) -> None:
        for keyword in COPIED:
            if keyword in dataset:
                self.add(dataset[keyword])

    def _add_contributing_equipment(self, *_: Any) -> None:
        """Leave out highdicom itself (type 3), which is named with the time of the run."""


def texts_of(result: StudyResult) -> list[str]:
    """What the object quotes of a result."""
    texts = [result.pack.name, result.pack.version, *_origin(result)]
    for finding in result.findings:
        texts += [finding.label, finding.tracking_identifier, finding.code.meaning, finding.site.meaning]
    return texts


def character_set(source: Dataset, texts: Sequence[str]) -> Any:
    """The source's character set, so that names stay as they were; UTF-8 where our own texts need more than ASCII."""
    kept = source.get("SpecificCharacterSet")
    terms = [kept] if isinstance(kept, str) else kept or []
    usable = all(text.isascii() for text in texts) and all(term in python_encoding for term in terms)
    return kept if usable else "ISO_IR 192"


def device_observer(pack: PackRef) -> sr.ObserverContext:
    """TID 1004: the pack as the device that observed."""
    return sr.ObserverContext(
        observer_type=codes.DCM.Device,
        observer_identifying_attributes=sr.DeviceObserverIdentifyingAttributes(
            uid=derive_uid("device", pack.digest),
            name=MANUFACTURER,
            manufacturer_name=MANUFACTURER,
            model_name=pack.name,
        ),
    )


def _report(result: StudyResult, sources: dict[str, Dataset]) -> sr.MeasurementReport:
    pack = result.pack
    shown = {finding.region.instance.sop_instance_uid for finding in result.findings}  # of a CT, a few of hundreds
    report = sr.MeasurementReport(
        observation_context=sr.ObservationContext(observer_device_context=device_observer(pack)),
        procedure_reported=IMAGING,
        title=codes.DCM.ImagingMeasurementReport,
        imaging_measurements=[_group(finding, result, sources) for finding in result.findings],
        referenced_images=[sources[uid] for uid in sorted(shown) if _describable(sources[uid])] or None,
    )
    remarks = (text_item(codes.DCM.Comment, text) for text in _remarks(result))
    put_first(report, [*request_items(result.context), *remarks])
    return report


def put_first(report: sr.MeasurementReport, items: Sequence[sr.ContentItem]) -> None:
    """TID 1500 is extensible; what a reader is to know first stands before its own content."""
    content = report[0].ContentSequence
    at = next(n for n, item in enumerate(content) if item.RelationshipType == sr.RelationshipTypeValues.CONTAINS.value)
    for place, item in enumerate(items, start=at):
        content.insert(place, item)


def _remarks(result: StudyResult) -> list[str]:
    """What the result warns of."""
    return [f"{warning.message} ({warning.code})" for warning in result.warnings]


def _group(finding: Finding, result: StudyResult, sources: dict[str, Dataset]) -> Any:
    """TID 1410 of one finding; TID 1501, with its image alone, where the model does not tell the place."""
    source = sources[finding.region.instance.sop_instance_uid]
    content = _content(finding, result)
    if finding.region.outline is None:
        return sr.MeasurementsAndQualitativeEvaluations(source_images=[_source_image(finding, source)], **content)
    return sr.PlanarROIMeasurementsAndQualitativeEvaluations(referenced_region=_region(finding, source), **content)


def _content(finding: Finding, result: StudyResult) -> dict[str, Any]:
    pack = result.pack
    return dict(  # noqa: C408  # the arguments that both templates take
        tracking_identifier=sr.TrackingIdentifier(uid=finding.tracking_uid, identifier=finding.tracking_identifier),
        finding_type=_code(finding.code),
        finding_sites=[sr.FindingSite(anatomic_location=_code(finding.site))],
        algorithm_id=sr.AlgorithmIdentification(
            name=pack.name,
            version=pack.version,
            family=ARTIFICIAL_INTELLIGENCE,
            parameters=[
                f"label={finding.label}",
                f"threshold={finding.threshold:.6g}",
                f"model_version={pack.model_version}",
                f"pipeline_digest=sha256:{pack.digest}",
                *_origin(result),
            ],
        ),
        measurements=[
            sr.Measurement(PROBABILITY, float(finding.probability) * 100, PERCENT),
            sr.Measurement(SCORE, float(finding.score), NO_UNITS),
            *(sr.Measurement(_code(each.name), float(each.value), _code(each.unit)) for each in finding.measurements),
        ],
        qualitative_evaluations=[sr.QualitativeEvaluation(PRESENCE, _presence(finding))],
    )


def _origin(result: StudyResult) -> list[str]:
    """The licence of the pack, and the plug-ins that had a hand in the result."""
    if result.provenance is None:
        return []
    plugins = result.provenance.plugins
    return [
        f"licence={result.provenance.licence}",
        *(f"plugin={each.group}:{each.name} of {each.package} {each.version}" for each in plugins),
    ]


def _presence(finding: Finding) -> Code:
    if finding.cannot_assess:
        return UNDETERMINED
    return PRESENT if finding.positive else ABSENT


def _region(finding: Finding, source: Dataset) -> sr.ImageRegion:
    region = sr.ImageRegion(
        graphic_type=sr.GraphicTypeValues.POLYLINE,
        graphic_data=np.array(finding.region.outline),
        source_image=sr.SourceImageForRegion(UltrasoundImageStorage, source.SOPInstanceUID, _frames(finding, source)),
    )
    # highdicom does not know retired classes: it was given a class that it checks nothing for.
    region.ContentSequence[0].ReferencedSOPSequence[0].ReferencedSOPClassUID = source.SOPClassUID
    return region


def _source_image(finding: Finding, source: Dataset) -> sr.SourceImageForMeasurementGroup:
    image = sr.SourceImageForMeasurementGroup(UltrasoundImageStorage, source.SOPInstanceUID, _frames(finding, source))
    image.ReferencedSOPSequence[0].ReferencedSOPClassUID = source.SOPClassUID
    return image


def _frames(finding: Finding, source: Dataset) -> list[int] | None:
    """A frame number is for multi-frame sources alone (PS3.3 C.17.3: Referenced Frame Number is 1C)."""
    return [finding.region.frame] if int(source.get("NumberOfFrames") or 1) > 1 else None


def _describable(source: Dataset) -> bool:
    """Whether the image library can hold this source: it has what TID 1602 to 1604 require of its modality."""
    try:
        sr.ImageLibraryEntryDescriptors(source)
    except (AttributeError, KeyError, TypeError, ValueError):  # what highdicom raises for a missing attribute or class
        return False
    return True


def _code(concept: CodedConcept) -> Code:
    return Code(concept.value, concept.scheme, concept.meaning)
