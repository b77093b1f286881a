"""ClinicalContext from an order or a result message of HL7 version 2: PID, ORC, OBR, OBX, DG1, AL1, NTE.

Nothing clinical is dropped: a code, a unit or a value that is not understood stands in the context as it came.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from datetime import date

from radserve.clinical_context import ALLERGY, DIAGNOSIS, ClinicalContext, LaboratoryValue
from radserve.server.context.clinical import completed_years, joined
from radserve.server.context.hl7_message import Message, Segment, context_error, read_message

MESSAGE_TYPES = ("ORM", "OMG", "OMI", "OML", "ORU")
# HL7 table 0001 to PS3.3 C.7.1.1; A (ambiguous) is O, U (unknown) and N (not applicable) say nothing.
SEXES = {"F": "F", "M": "M", "O": "O", "A": "O", "U": "", "N": "", "": ""}
# HL7 table 0085: results that are no longer, or not yet, what they say.
OBSERVATION_STATES = {
    "D": "deleted",
    "I": "pending",
    "N": "not asked for",
    "O": "order only",
    "R": "not verified",
    "S": "partial",
    "W": "withdrawn as wrong",
    "X": "could not be obtained",
}
NOT_TEXT = {"ED": "encapsulated data, not shown", "RP": "a pointer to data, not shown"}
CODED = ("CE", "CWE", "CF", "CNE")
TEXTS = ("TX", "FT", "ST")
READ = frozenset({"MSH", "PID", "ORC", "OBR", "OBX", "DG1", "AL1", "NTE"})
# Of the visit, the payer and the software, or of how an order is carried out: nothing that a reader of images is told.
ADMINISTRATIVE = frozenset(
    (
        *("SFT", "EVN", "PD1", "PV1", "PV2", "NK1", "GT1", "IN1", "IN2", "IN3", "ACC", "MSA", "QRD", "QRF", "DSC"),
        *("TQ1", "TQ2", "IPC", "SPM", "SAC", "CTI", "BLG", "CTD", "FT1", "TCD", "SID"),
    )
)


def read_hl7(data: bytes) -> ClinicalContext:
    """The context of a message. Raises RequestError CONTEXT_INVALID, which names the segment and the field."""
    message = read_message(data)
    header = message.header
    if not header.text(12).startswith("2."):
        raise context_error(header.where(12), "the version is not 2.x")
    if header.text(9) not in MESSAGE_TYPES:
        raise context_error(header.where(9), f"the message is none of {', '.join(MESSAGE_TYPES)}")
    patient = _patient(message)
    age, age_line = _age(message, patient) if patient else (None, "")
    sex, sex_line = _sex(patient) if patient else ("", "")
    return ClinicalContext(
        indication=joined((*_indication(message), age_line, sex_line, _left_out(message))),
        age_years=age,
        sex=sex,
        laboratory_values=tuple(_laboratory_values(message)),
    )


def _patient(message: Message) -> Segment | None:
    found = list(message.named("PID"))
    if len({segment.fields[2] if len(segment.fields) > 2 else "" for segment in found}) > 1:
        raise context_error(found[-1].where(3), "the message speaks of more than one patient")
    return found[0] if found else None


def _age(message: Message, patient: Segment) -> tuple[float | None, str]:
    """The age on the day of the order, else of the message; a line for the reader where it cannot be told."""
    birth = _day(patient, 7)
    if birth is None:
        return None, "The date of birth is given without its day: the age is not known." if patient.text(7) else ""
    days = [_day(segment, field) for name, field in (("OBR", 7), ("ORC", 9)) for segment in message.named(name)]
    at = next((day for day in days if day), None) or _day(message.header, 7)
    if at is None:
        return None, "The message says no date: the age is not known."
    years = completed_years(birth, at)
    if years is None:
        raise context_error(patient.where(7), "a date of birth that gives no age")
    return years, ""


def _day(segment: Segment, field: int) -> date | None:
    """The day of a time stamp (YYYY[MM[DD[HHMM...]]]); None where there is none or it is less exact."""
    text = segment.text(field)
    if not text:
        return None
    if not re.fullmatch(r"\d{4}(\d\d){0,5}(\.\d{1,4})?([+-]\d{4})?", text):
        raise context_error(segment.where(field), "not a time stamp")
    digits = re.match(r"\d+", text)
    if digits is None or len(digits.group()) < 8:
        return None
    try:
        return date(int(text[:4]), int(text[4:6]), int(text[6:8]))
    except ValueError:
        raise context_error(segment.where(field), "not a day of the calendar") from None


def _sex(patient: Segment) -> tuple[str, str]:
    code = patient.text(8).upper()
    return SEXES.get(code, ""), "" if code in SEXES else f"Administrative sex: {code}"


def _indication(message: Message) -> Iterator[str]:
    for order in message.named("OBR"):
        yield from map(_coded, order.repetitions(31))  # reason for study
        yield from map(_coded, order.repetitions(13))  # relevant clinical information
    for order in message.named("ORC"):
        yield from map(_coded, order.repetitions(16))  # why it was ordered
    for order in message.named("OBR"):
        if requested := _coded(next(iter(order.repetitions(4)), ())):
            yield f"Requested: {requested}"
    for diagnosis in message.named("DG1"):
        if text := _coded(next(iter(diagnosis.repetitions(3)), ())) or diagnosis.text(4):
            yield f"{DIAGNOSIS}{text}"
    for allergy in message.named("AL1"):
        parts = [_coded(next(iter(allergy.repetitions(field)), ())) for field in (3, 4)]
        reactions = [_coded(each) for each in allergy.repetitions(5)]
        if any(parts + reactions):
            yield f"{ALLERGY}{', '.join(filter(None, parts + reactions))}"
    for note in message.named("NTE"):
        text = "\n".join(" ".join(filter(None, each)) for each in note.repetitions(3))
        if text:
            yield f"Note: {text}"


def _laboratory_values(message: Message) -> Iterator[LaboratoryValue]:
    for segment in message.named("OBX"):
        name = _coded(next(iter(segment.repetitions(3)), ()))
        if not name:
            raise context_error(segment.where(3), "an observation without a name")
        kind, state = segment.text(2), segment.text(11)
        if kind in NOT_TEXT:
            value = f"[{NOT_TEXT[kind]}]"
        else:
            value = "; ".join(_value(kind, each) for each in segment.repetitions(5))
        flags = [f"flag {each[0]}" for each in segment.repetitions(8) if each[0]]
        notes = ", ".join(filter(None, (*flags, OBSERVATION_STATES.get(state, ""))))
        value = (value or "[no value]") + (f" ({notes})" if notes else "")
        yield LaboratoryValue(name, value, _coded(next(iter(segment.repetitions(6)), ()), code_first=True))


def _value(kind: str, components: tuple[str, ...]) -> str:
    if kind == "SN":  # structured numeric: comparator, number, separator, number
        return "".join(components)
    return _coded(components) if kind in CODED else " ".join(filter(None, components))


def _coded(components: tuple[str, ...], *, code_first: bool = False) -> str:
    """The text of a coded element (code, text, system, ...), its code where it has no text; or the other way round."""
    code, text = (*components[:2], "", "")[:2]
    return (code or text) if code_first else (text or code)


def _left_out(message: Message) -> str:
    """Which segments were not read, for the reader: nothing is left out silently."""
    names = Counter(segment.name for segment in message.segments if segment.name not in READ | ADMINISTRATIVE)
    listed = ", ".join(f"{count} {name}" for name, count in sorted(names.items()))
    return f"Not read from the message: {listed}." if listed else ""
