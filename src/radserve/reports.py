"""The draft of a report, and what each of its sentences rests on."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from radserve._checks import invalid
from radserve.errors import DraftError, ErrorCode


@dataclass(frozen=True, slots=True)
class ReportSection:
    """A headed part of a report."""

    name: str
    text: str


class EvidenceKind(StrEnum):
    """What a sentence of a draft may rest on, and what `Evidence.reference` then is."""

    FINDING = "finding"
    """A finding of the result, by its tracking_uid: its score, its probability and its region."""
    SERIES = "series"
    """A series of the study, by its UID: what its headers say."""
    REQUEST = "request"
    """What the requester said; the reference is "context"."""
    PRIOR = "prior"
    """A prior study of the patient that the model read too, by its UID."""
    CHECK = "check"
    """The check that withheld a text, or what could not be read; the reference is "warnings"."""
    PACK = "pack"
    """The pack, by its pipeline digest."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """Something in the result that a sentence rests on."""

    kind: EvidenceKind
    reference: str


@dataclass(frozen=True, slots=True)
class ReportSentence:
    """A sentence of a section and what it rests on: one that rests on nothing in the result cannot be in a draft."""

    section: str
    text: str
    evidence: tuple[Evidence, ...]

    def __post_init__(self) -> None:
        if not self.evidence:
            message = f"a sentence of {self.section} rests on nothing in the result"
            raise DraftError(ErrorCode.DRAFT_WITHOUT_EVIDENCE, message)


@dataclass(frozen=True, slots=True)
class Report:
    """A structured report of a study. It is a draft: only a person's signature makes it more."""

    sections: tuple[ReportSection, ...]
    status: str = "draft"
    sentences: tuple[ReportSentence, ...] = ()

    def __post_init__(self) -> None:
        if self.status != "draft":
            raise invalid("Report.status", self.status, "'draft': nothing is final without a signature")

    @property
    def text(self) -> str:
        """The whole report as plain text, a headed paragraph for each section."""
        return "\n\n".join(f"{section.name.upper()}\n{section.text}" for section in self.sections) + "\n"


@dataclass(frozen=True, slots=True)
class GenerationRecord:
    """How the texts of a report were written, and what the checker found in them.

    `parameters` are those of the decoding strategy. `never_allowed_version` and `_sha256` name the claims that were
    kept out. Of `texts` texts with `sentences` sentences `withheld` were not delivered; `faults` counts by class.
    `backend` is "decoder" (the pack's own), "text_service", and then `model` is what the service was asked for, or
    "template", and then `model` names the template and its package.
    """

    language: str
    strategy: str
    parameters: tuple[tuple[str, float], ...]
    never_allowed_version: str
    never_allowed_sha256: str
    texts: int
    withheld: int
    sentences: int
    faults: tuple[tuple[str, int], ...] = ()
    backend: str = "decoder"
    model: str = ""
