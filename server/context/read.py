"""A document of clinical context, whatever its form, as ClinicalContext."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from radserve.clinical_context import ClinicalContext
from radserve.server.context.clinical import joined
from radserve.server.context.fhir_context import read_fhir
from radserve.server.context.hl7_context import read_hl7
from radserve.server.context.hl7_message import START_BLOCK, context_error

BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def read_context(data: bytes) -> ClinicalContext:
    """Read an HL7 v2 message (ORM, OMG, OMI, OML, ORU) or FHIR R4 JSON. Raises RequestError CONTEXT_INVALID."""
    body = data.removeprefix(BYTE_ORDER_MARK).strip()
    if body.removeprefix(START_BLOCK).startswith(b"MSH"):
        return read_hl7(body)
    if body.startswith(b"{"):
        return read_fhir(body)
    raise context_error("the document", "neither an HL7 v2 message (MSH) nor FHIR as JSON")


def read_context_file(path: Path) -> ClinicalContext:
    """`read_context` of a file."""
    try:
        return read_context(path.read_bytes())
    except OSError as error:
        raise context_error("the context file", f"it cannot be read ({error.strerror or 'I/O error'})") from None


def combined(stated: ClinicalContext, document: ClinicalContext) -> ClinicalContext:
    """Both together: for age, sex and prior study what was stated itself holds; texts and values add up."""
    return replace(
        stated,
        indication=joined((stated.indication, document.indication)),
        age_years=document.age_years if stated.age_years is None else stated.age_years,
        sex=stated.sex or document.sex,
        laboratory_values=(*stated.laboratory_values, *document.laboratory_values),
        prior_study_instance_uid=stated.prior_study_instance_uid or document.prior_study_instance_uid,
    )
