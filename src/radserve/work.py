"""What a study goes through here, as values: its revisions, their results, what is to be delivered, what went wrong.

A study is `receiving` while instances come. Closing it makes a revision: all instances that came until then. Late ones
open the study again and make the next revision. Times are seconds since 1970 (UTC).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from radserve._checks import check_uid, invalid
from radserve.errors import ErrorCode
from radserve.results import Artifact
from radserve.uids import derive_uid


class StudyState(StrEnum):
    """How far a study, or one of its revisions, has come.

    `NOT_ROUTED`: no rule takes it; there is nothing to do. `CALLED_OFF`: who asked for the analysis wants it no more.
    """

    RECEIVING = "receiving"
    COMPLETE = "complete"
    ANALYSED = "analysed"
    DELIVERED = "delivered"
    NOT_ROUTED = "not-routed"
    CALLED_OFF = "called-off"
    QUARANTINED = "quarantined"


class Signal(StrEnum):
    """What was said about a study that is being received."""

    NONE = ""
    COMPLETE = "complete"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True)
class OpenStudy:
    """A study that is being received: `opened_at`, `last_received_at` and `instances` are those since the last closing.

    `expected_instances` is how many the whole study is said to have, None where nobody said; `stored_instances` how
    many are here.
    """

    study_instance_uid: str
    opened_at: float
    last_received_at: float
    stored_instances: int
    signal: Signal = Signal.NONE
    expected_instances: int | None = None


@dataclass(frozen=True, slots=True)
class Revision:
    """A closed set of instances of a study, counted from 1. `incomplete`: more were expected than came.

    `generation` counts how often a person had it tried again, `attempts` the tries begun in this generation.
    """

    study_instance_uid: str
    revision: int
    state: StudyState = StudyState.COMPLETE
    incomplete: bool = False
    generation: int = 0
    attempts: int = 0

    def __post_init__(self) -> None:
        check_uid("study_instance_uid", self.study_instance_uid)
        if self.revision < 1:
            raise invalid("Revision.revision", self.revision, "at least 1")

    @property
    def work_id(self) -> str:
        """The name of the work on this revision; it tells nothing of the study, so that an erased one leaves none."""
        return derive_uid("work", self.study_instance_uid, str(self.revision), str(self.generation))


@dataclass(frozen=True, slots=True)
class ResultRecord:
    """A result on disk. `predecessor_uid` is the result it replaces, "" for a first one."""

    result_uid: str
    study_instance_uid: str
    revision: int
    pack: str
    pack_digest: str
    predecessor_uid: str = ""
    incomplete: bool = False

    def __post_init__(self) -> None:
        check_uid("result_uid", self.result_uid)
        check_uid("study_instance_uid", self.study_instance_uid)


@dataclass(frozen=True, slots=True)
class ResultObject:
    """A file of a result; `output` is its kind (sr, seg, report ...); what has a SOP Instance UID can be delivered."""

    artifact: Artifact
    output: str
    sop_instance_uid: str = ""

    def __post_init__(self) -> None:
        if self.sop_instance_uid:
            check_uid("sop_instance_uid", self.sop_instance_uid)


@dataclass(frozen=True, slots=True)
class DeliveryKey:
    """One object of one result on its way to one destination: it goes there once."""

    result_uid: str
    destination: str
    sop_instance_uid: str


@dataclass(frozen=True, slots=True)
class Delivery:
    """A delivery that is due. `interrupted`: it was begun and its end is not known (the process died)."""

    key: DeliveryKey
    artifact: str
    attempts: int = 0
    interrupted: bool = False
    study_instance_uid: str = ""


class QuarantineKind(StrEnum):
    """What is in quarantine: bytes under a UID that was taken, a study that could not be analysed, a delivery."""

    CONFLICT = "conflict"
    STUDY = "study"
    DELIVERY = "delivery"


@dataclass(frozen=True, slots=True)
class QuarantineEntry:
    """Something set aside with its reason. Fields that do not apply are empty."""

    quarantine_id: str
    kind: QuarantineKind
    study_instance_uid: str
    code: ErrorCode
    reason: str
    created_at: float
    sop_instance_uid: str = ""
    revision: int = 0
    result_uid: str = ""
    destination: str = ""
    calling_ae: str = ""
    sha256: str = ""
