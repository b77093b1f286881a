"""What the requester said of the patient, as content items of an SR: nothing of it may get lost on the way to a reader.

A container (55752-0, LN, "Clinical Information") of CID 7001 holds the words of the request, one TEXT for each line:
diagnoses and allergies as History (11329-0, LN), all else as Indications for Procedure (18785-6, LN); laboratory values
as Relevant Diagnostic Tests and/or Laboratory Data (30954-2, LN); age and sex with the concepts of TID 1007. The study
to compare with stands in a container (55114-3, LN, "Prior Procedure Descriptions"). TID 1500 is extensible: these
containers stand before its own, as a report of TID 2000 has them.

TEXT is of VR UT: control characters other than tab and form feed, and what no character set can hold, become "?".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from types import MappingProxyType

from highdicom import sr
from pydicom.sr.coding import Code

from radserve.clinical_context import HISTORY_LINES, ClinicalContext, LaboratoryValue

CLINICAL_INFORMATION = Code("55752-0", "LN", "Clinical Information")
INDICATION = Code("18785-6", "LN", "Indications for Procedure")
HISTORY = Code("11329-0", "LN", "History")
LABORATORY = Code("30954-2", "LN", "Relevant Diagnostic Tests and/or Laboratory Data")
PRIOR = Code("55114-3", "LN", "Prior Procedure Descriptions")
PRIOR_STUDY = Code("121018", "DCM", "Procedure Study Instance UID")
AGE, YEARS = Code("121033", "DCM", "Subject Age"), Code("a", "UCUM", "year")
SEX = Code("121032", "DCM", "Subject Sex")
SEXES = MappingProxyType(  # CID 7455
    {"F": Code("F", "DCM", "Female"), "M": Code("M", "DCM", "Male"), "O": Code("121102", "DCM", "Other sex")}
)
NOT_TEXT = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
CONTAINS = sr.RelationshipTypeValues.CONTAINS


def request_items(context: ClinicalContext) -> Iterator[sr.ContentItem]:
    """What the requester said, as content of the root of a report; nothing where nothing was said."""
    for heading, items in ((CLINICAL_INFORMATION, list(_information(context))), (PRIOR, list(_prior(context)))):
        if items:
            container = sr.ContainerContentItem(name=heading, relationship_type=CONTAINS)
            container.ContentSequence = sr.ContentSequence(items)
            yield container


def request_texts(context: ClinicalContext) -> list[str]:
    """The texts of the request as an SR has them, in their order."""
    laboratory = map(_laboratory, context.laboratory_values)
    return [_plain(text) for text in (*context.indication.splitlines(), *laboratory) if text.strip()]


def _information(context: ClinicalContext) -> Iterator[sr.ContentItem]:
    for line in filter(str.strip, context.indication.splitlines()):
        yield text_item(HISTORY if line.startswith(HISTORY_LINES) else INDICATION, line)
    if context.age_years is not None:
        yield sr.NumContentItem(AGE, float(context.age_years), YEARS, relationship_type=CONTAINS)
    if context.sex:
        yield sr.CodeContentItem(SEX, SEXES[context.sex], relationship_type=CONTAINS)
    for each in context.laboratory_values:
        yield text_item(LABORATORY, _laboratory(each))


def _prior(context: ClinicalContext) -> Iterator[sr.ContentItem]:
    if context.prior_study_instance_uid:
        yield sr.UIDRefContentItem(PRIOR_STUDY, context.prior_study_instance_uid, relationship_type=CONTAINS)


def text_item(name: Code, text: str) -> sr.TextContentItem:
    """A text in one line, of characters that VR UT takes."""
    return sr.TextContentItem(name, _plain(text), relationship_type=CONTAINS)


def _laboratory(each: LaboratoryValue) -> str:
    return f"{each.name}: {' '.join(filter(None, (each.value, each.unit)))}"


def _plain(text: str) -> str:
    return NOT_TEXT.sub("?", " ".join(text.splitlines())).strip()
