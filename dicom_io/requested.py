"""The orders that a document answers (Referenced Request Sequence, PS3.3 C.17.2), as the headers of its sources say.

A modality writes what it got from the worklist into the Request Attributes Sequence (PS3.3 10.6) of its images. A
document that repeats it stands under its order in a RIS, one with a result and one without alike.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from pydicom import Dataset

from radserve._checks import check_uid
from radserve.dicom_io import attributes
from radserve.dicom_io.derived import read_header
from radserve.errors import RadserveError
from radserve.references import SourceContext

MOST_REQUESTS = 64
# Type 2 in the macro of the document, but for the reason (type 3), with the longest value of their VR (SH, LO).
TYPE_2 = {
    "AccessionNumber": 16,
    "PlacerOrderNumberImagingServiceRequest": 64,
    "FillerOrderNumberImagingServiceRequest": 64,
    "RequestedProcedureID": 16,
    "RequestedProcedureDescription": 64,
}
REASON, CODES = "ReasonForTheRequestedProcedure", "RequestedProcedureCodeSequence"
CODE = {"CodeValue": 16, "CodingSchemeDesignator": 16, "CodeMeaning": 64}
CONTROL = re.compile(r"[\x00-\x1f\x7f\\]")


def referenced_requests(sources: Iterable[SourceContext]) -> list[Dataset]:
    """One item for each request that a source names by its ID or accession number; of each series, one source is read.

    What breaks its VR is left empty. Raises DicomError INVALID_HEADER for a header that cannot be read.
    """
    of_series = {source.instance.series_instance_uid: source for source in reversed(list(sources))}
    found: list[Dataset] = []
    for _, source in sorted(of_series.items()):
        for item in _items(read_header(source.header)):
            made = _request(item, source.instance.study_instance_uid)
            if (made.RequestedProcedureID or made.AccessionNumber) and made not in found:
                found.append(made)
    return found[:MOST_REQUESTS]


def texts_of_requests(requests: Iterable[Dataset]) -> list[str]:
    """What the items hold of words, which their character set has to have."""
    return [str(element.value) for item in requests for element in item.iterall() if element.VR in ("SH", "LO")]


def _items(header: Dataset) -> list[Dataset]:
    try:
        return attributes.items(header, "RequestAttributesSequence")[:MOST_REQUESTS]
    except RadserveError:  # a damaged sequence costs the document its order, no more
        return []


def _request(item: Dataset, study_instance_uid: str) -> Dataset:
    made = Dataset()
    made.StudyInstanceUID = _uid(item) or study_instance_uid
    made.ReferencedStudySequence = []
    for keyword, longest in TYPE_2.items():
        setattr(made, keyword, _text(item, keyword, longest))
    if reason := _text(item, REASON, 64):
        setattr(made, REASON, reason)
    setattr(made, CODES, _codes(item))
    return made


def _codes(item: Dataset) -> list[Dataset]:
    try:
        stated = attributes.items(item, CODES)[:1]
    except RadserveError:
        return []
    made = [Dataset() for _ in stated]
    for code, new in zip(stated, made, strict=True):
        for keyword, longest in CODE.items():
            setattr(new, keyword, _text(code, keyword, longest))
    return [code for code in made if all(getattr(code, keyword) for keyword in CODE)]


def _text(item: Dataset, keyword: str, longest: int) -> str:
    found = attributes.text(item, keyword)
    return "" if len(found) > longest or CONTROL.search(found) else found


def _uid(item: Dataset) -> str:
    found = attributes.text(item, "StudyInstanceUID")
    try:
        check_uid("StudyInstanceUID", found)
    except RadserveError:
        return ""
    return found
