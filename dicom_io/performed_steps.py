"""The performed procedure steps of a series, and what was requested: keys of QIDO-RS (PS3.18 table 10.6.1-5)."""

from __future__ import annotations

from dataclasses import dataclass

from pydicom.dataset import Dataset

from radserve.dicom_io import attributes
from radserve.dicom_io.plain import Elements
from radserve.errors import RadserveError

REQUESTS = "RequestAttributesSequence"
REQUEST_KEYS = ("ScheduledProcedureStepID", "RequestedProcedureID")
MOST_REQUESTS = 64
MOST_CHARACTERS = 64  # of a value: four times what SH allows


@dataclass(frozen=True, slots=True)
class PerformedStep:
    """When the step of a series began, and one request that it answers; "" where it is not said."""

    start_date: str = ""
    start_time: str = ""
    scheduled_procedure_step_id: str = ""
    requested_procedure_id: str = ""


def steps_of(ds: Elements) -> tuple[PerformedStep, ...]:
    """One step for each request that an instance names (PS3.3 10.6), each once; none where nothing is said of it."""
    start = (_text(ds, "PerformedProcedureStepStartDate"), _text(ds, "PerformedProcedureStepStartTime"))
    requests = [[_text(item, key) for key in REQUEST_KEYS] for item in _requests(ds)[:MOST_REQUESTS]]
    found = dict.fromkeys(PerformedStep(*start, *request) for request in requests or [["", ""]])
    return tuple(step for step in found if step != PerformedStep())


def _requests(ds: Elements) -> list[Dataset]:
    try:
        return attributes.items(ds, REQUESTS)
    except RadserveError:  # no reason to refuse an image
        return []


def _text(ds: Elements, keyword: str) -> str:
    return attributes.text(ds, keyword)[:MOST_CHARACTERS]
