"""ClinicalContext from FHIR R4 (R4B): a Bundle, or a single Patient, ServiceRequest, Observation, Condition, Allergy.

The resources are validated by fhir.resources. Nothing clinical is dropped: what is not understood stands as it came.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import date, datetime
from typing import Any

from radserve.clinical_context import ALLERGY, DIAGNOSIS, ClinicalContext, LaboratoryValue
from radserve.server.context.clinical import completed_years, joined
from radserve.server.context.hl7_message import MAX_BYTES, context_error

SEXES = {"male": "M", "female": "F", "other": "O", "unknown": "", None: ""}
READ = ("Bundle", "Patient", "ServiceRequest", "Observation", "Condition", "AllergyIntolerance")
# Who and where, and how a message is carried: nothing that a reader of images is told.
ADMINISTRATIVE = ("Practitioner", "PractitionerRole", "Organization", "Location", "MessageHeader", "Provenance")
FINAL = ("final", "amended", "corrected")
SIMPLE_VALUES = ("valueString", "valueInteger", "valueDateTime", "valueTime")


def read_fhir(data: bytes) -> ClinicalContext:
    """The context of a resource as JSON. Raises RequestError CONTEXT_INVALID, which names the element."""
    resources = _resources(data)
    by_type: dict[str, list[Any]] = {}
    for resource in resources:
        by_type.setdefault(resource.get_resource_type(), []).append(resource)
    patients = by_type.get("Patient", [])
    if len(patients) > 1:
        raise context_error("Bundle", f"{len(patients)} Patient resources, expected one")
    orders = by_type.get("ServiceRequest", [])
    age, age_line = _age(patients[0], orders, by_type) if patients else (None, "")
    return ClinicalContext(
        indication=joined((*_indication(orders, by_type), age_line, _left_out(by_type))),
        age_years=age,
        sex=SEXES[patients[0].gender] if patients else "",
        laboratory_values=tuple(
            value for observation in by_type.get("Observation", []) for value in _laboratory_values(observation)
        ),
    )


def _resources(data: bytes) -> list[Any]:
    """The resources, a Bundle's entries behind it."""
    from fhir.resources.R4B import get_fhir_model_class
    from pydantic import ValidationError

    if len(data) > MAX_BYTES:
        raise context_error("the document", f"it has {len(data)} bytes, expected at most {MAX_BYTES}")
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        raise context_error("the document", "it is not JSON") from None
    kind = document.get("resourceType") if isinstance(document, dict) else None
    if kind not in READ:
        raise context_error("resourceType", f"none of {', '.join(READ)}")
    _check_types(document)
    try:
        resource: Any = get_fhir_model_class(kind).model_validate(document)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        place = ".".join(map(str, (kind, *first["loc"])))
        raise context_error(place, f"not valid FHIR ({first['type']})") from None
    except Exception as error:  # fhir.resources lets errors of its own code through; their texts quote values
        raise context_error(kind, f"not valid FHIR ({type(error).__name__})") from None
    entries = (resource.entry or []) if kind == "Bundle" else []
    return [resource, *(entry.resource for entry in entries if entry.resource is not None)]


def _check_types(document: dict[str, Any]) -> None:
    """fhir.resources ends in errors of Python for a type that does not exist: name the entry instead."""
    from fhir.resources.R4B import get_fhir_model_class

    entries = document.get("entry")
    for at, entry in enumerate(entries if isinstance(entries, list) else []):
        resource = entry.get("resource") if isinstance(entry, dict) else None
        if isinstance(resource, dict):
            try:
                get_fhir_model_class(str(resource.get("resourceType")))
            except Exception:  # it has no error of its own for this
                raise context_error(f"Bundle.entry.{at}.resource", "an unknown type of resource") from None


def _age(patient: Any, orders: Sequence[Any], by_type: dict[str, list[Any]]) -> tuple[float | None, str]:
    """The age on the day of the order, else of the Bundle or the last observation."""
    if patient.birthDate is None:
        return None, ""
    birth = _day(patient.birthDate)
    times = [each for order in orders for each in (order.occurrenceDateTime, order.authoredOn)]
    times += [bundle.timestamp for bundle in by_type.get("Bundle", [])]
    times += [observation.effectiveDateTime for observation in by_type.get("Observation", [])]
    at = next((day for day in map(_day, times) if day), None)
    if birth is None:
        return None, "The date of birth is given without its day: the age is not known."
    if at is None:
        return None, "The request says no date: the age is not known."
    years = completed_years(birth, at)
    if years is None:
        raise context_error("Patient.birthDate", "a date of birth that gives no age")
    return years, ""


def _day(value: object) -> date | None:
    """fhir.resources gives a date or datetime where the day is known, texts or other types of its own where not."""
    if isinstance(value, datetime):
        return value.date()
    return value if isinstance(value, date) else None


def _indication(orders: Sequence[Any], by_type: dict[str, list[Any]]) -> Iterator[str]:
    for order in orders:
        yield from map(_concept, order.reasonCode or ())
        yield from (note.text for note in order.note or ())
    for order in orders:
        if requested := _concept(order.code):
            yield f"Requested: {requested}"
    for condition in by_type.get("Condition", []):
        if text := _concept(condition.code):
            yield f"{DIAGNOSIS}{text}{_state(condition.verificationStatus)}{_state(condition.clinicalStatus)}"
    for allergy in by_type.get("AllergyIntolerance", []):
        if text := _concept(allergy.code):
            yield f"{ALLERGY}{text}{_state(allergy.verificationStatus)}"


def _laboratory_values(observation: Any) -> Iterator[LaboratoryValue]:
    state = "" if observation.status in FINAL else f" ({observation.status})"
    name = _concept(observation.code) or "[no name]"
    flags = [_concept(each) for each in observation.interpretation or ()]
    notes = f" ({', '.join(filter(None, flags))})" if any(flags) else ""
    value, unit = _value(observation)
    if value or not observation.component:
        yield LaboratoryValue(name, f"{value or '[no value]'}{notes}{state}", unit)
    for part in observation.component or ():
        value, unit = _value(part)
        yield LaboratoryValue(f"{name}: {_concept(part.code) or '[no name]'}", f"{value or '[no value]'}{state}", unit)


def _value(holder: Any) -> tuple[str, str]:
    """The value of an observation or of a component of one, and its unit."""
    if quantity := holder.valueQuantity:
        return _quantity(quantity), quantity.unit or quantity.code or ""
    return next((text for text in _values(holder) if text), ""), ""


def _values(holder: Any) -> Iterator[str]:
    """What stands in each of the other forms of a value, at most one of which is there (FHIR value[x])."""
    yield _concept(holder.valueCodeableConcept)
    if holder.valueBoolean is not None:
        yield "yes" if holder.valueBoolean else "no"
    if found := holder.valueRange:
        yield " to ".join(map(_with_unit, filter(None, (found.low, found.high))))
    if found := holder.valueRatio:
        yield " / ".join(map(_with_unit, filter(None, (found.numerator, found.denominator))))
    for value in (getattr(holder, name) for name in SIMPLE_VALUES):
        yield "" if value is None else str(value)
    if holder.valuePeriod or holder.valueSampledData:
        yield "[a period or a curve, not shown]"
    if holder.dataAbsentReason:
        yield f"[no value: {_concept(holder.dataAbsentReason)}]"


def _with_unit(quantity: Any) -> str:
    return " ".join(filter(None, (_quantity(quantity), quantity.unit or quantity.code)))


def _quantity(quantity: Any) -> str:
    return f"{quantity.comparator or ''}{'' if quantity.value is None else quantity.value}"


def _concept(concept: Any) -> str:
    """The text of a CodeableConcept, else the display or the code of its first coding."""
    if concept is None:
        return ""
    codings = concept.coding or ()
    return concept.text or next((each.display or each.code for each in codings if each.display or each.code), "")


def _state(concept: Any) -> str:
    text = _concept(concept)
    return f" ({text})" if text else ""


def _left_out(by_type: dict[str, list[Any]]) -> str:
    found = Counter({kind: len(each) for kind, each in by_type.items() if kind not in (*READ, *ADMINISTRATIVE)})
    listed = ", ".join(f"{count} {kind}" for kind, count in sorted(found.items()))
    return f"Not read from the request: {listed}." if listed else ""
