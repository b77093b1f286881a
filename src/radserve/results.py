"""The end of a study: its result or its failure, with what made it and what is to be read with care."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from radserve._checks import check_uid, invalid
from radserve.clinical_context import ClinicalContext
from radserve.errors import ErrorCode
from radserve.findings import Finding
from radserve.plugins import PluginRef
from radserve.references import InstanceRef, SourceContext
from radserve.reports import GenerationRecord, Report


class WarningCode(StrEnum):
    """Why a result is to be read with care."""

    OUTSIDE_INTENDED_USE = "OUTSIDE_INTENDED_USE"
    INTENDED_USE_UNKNOWN = "INTENDED_USE_UNKNOWN"
    CONTEXT_CONFLICT = "CONTEXT_CONFLICT"
    CONTEXT_UNREADABLE = "CONTEXT_UNREADABLE"
    REPORT_CONTRADICTS_FINDING = "REPORT_CONTRADICTS_FINDING"
    REPORT_UNSUPPORTED = "REPORT_UNSUPPORTED"
    REPORT_WITHOUT_EVIDENCE = "REPORT_WITHOUT_EVIDENCE"
    REPORT_CUT = "REPORT_CUT"
    TEXT_SERVICE_FAILED = "TEXT_SERVICE_FAILED"
    REPORT_TEMPLATE_FAILED = "REPORT_TEMPLATE_FAILED"
    PRIOR_NOT_COMPARED = "PRIOR_NOT_COMPARED"
    STUDY_INCOMPLETE = "STUDY_INCOMPLETE"
    SERIES_NOT_ANALYSED = "SERIES_NOT_ANALYSED"
    IMAGE_NOT_ANALYSED = "IMAGE_NOT_ANALYSED"
    FRAMES_SAMPLED = "FRAMES_SAMPLED"
    VOLUME_CUT = "VOLUME_CUT"
    PIXELS = "PIXELS"
    IMAGE_QUALITY = "IMAGE_QUALITY"
    PACK_DEPRECATED = "PACK_DEPRECATED"
    PACK_NOT_PROMOTED = "PACK_NOT_PROMOTED"
    OUT_OF_DISTRIBUTION = "OUT_OF_DISTRIBUTION"
    CANNOT_ASSESS = "CANNOT_ASSESS"
    INCONSISTENT_FINDINGS = "INCONSISTENT_FINDINGS"
    PROMPTS_NOT_CALIBRATED = "PROMPTS_NOT_CALIBRATED"


@dataclass(frozen=True, slots=True)
class ResultWarning:
    """A plain sentence for the reader with a code for programs."""

    code: WarningCode
    message: str


@dataclass(frozen=True, slots=True)
class PackRef:
    """Which pack made a result: name, version, Triton model version and the pipeline digest (sha256, hex).

    `parity` says in a few words how near its graphs are to what they were exported from; empty where that is not known.
    """

    name: str
    version: str
    model_version: int
    digest: str
    parity: str = ""


@dataclass(frozen=True, slots=True)
class ProvenanceRecord:
    """Whose work a result rests on: the licence of the pack, what its weights began from, the data it learned from.

    `data` are what the pack states of its data sets (source, doi, licence, splits ...), by key. `model_card_sha256`
    (hex) names the card. `plugins` are parts of other packages that had a hand in it: pre-processors, a template.
    """

    licence: str
    initialised_from: str
    data: tuple[tuple[str, str], ...]
    model_card_sha256: str
    plugins: tuple[PluginRef, ...] = ()


@dataclass(frozen=True, slots=True)
class LabelPromptRecord:
    """The texts by which a label was asked for: those of the prompt set, and those that knowledge added to them."""

    label: str
    positive: tuple[str, ...]
    negative: tuple[str, ...]
    added_positive: tuple[str, ...] = ()
    added_negative: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PromptRecord:
    """Which prompt set was used: id, version, the SHA-256 (hex) over all of it; `ontology_version` where expanded."""

    id: str
    version: str
    sha256: str
    language: str
    mode: str
    ontology_version: str
    labels: tuple[LabelPromptRecord, ...]


@dataclass(frozen=True, slots=True)
class TaskAnswer:
    """The answer to a further task of a prompt set for one series: `scores` by option, not calibrated, sum 1."""

    task: str
    series_instance_uid: str
    option: str
    scores: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class SeriesSummary:
    """A series of the study as the result lists it: what it is and whether the pack analysed it."""

    series_instance_uid: str
    modality: str
    body_part: str
    instances: int
    analysed: bool
    input_name: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class StudyResult:
    """Everything concluded of one study by one pack. Always a draft.

    `generation` is there where a decoder or a text service wrote. `revision` counts the sets of instances that were
    analysed, from 1: objects of a later one have UIDs of their own. `predecessor` is the SR of the result that this one
    replaces.
    """

    study_instance_uid: str
    series: tuple[SeriesSummary, ...]
    findings: tuple[Finding, ...]
    report: Report | None
    pack: PackRef
    context: ClinicalContext
    sources: tuple[SourceContext, ...] = field(repr=False)
    timings_ms: tuple[tuple[str, float], ...] = ()
    warnings: tuple[ResultWarning, ...] = ()
    revision: int = 1
    generation: GenerationRecord | None = None
    prompts: PromptRecord | None = None
    tasks: tuple[TaskAnswer, ...] = ()
    predecessor: InstanceRef | None = None
    provenance: ProvenanceRecord | None = None

    def __post_init__(self) -> None:
        check_uid("study_instance_uid", self.study_instance_uid)
        if self.revision < 1:
            raise invalid("StudyResult.revision", self.revision, "at least 1")
        if not self.findings:
            raise invalid("StudyResult.findings", "none", "at least one finding; a study without is a StudyFailure")

    @property
    def uid_parts(self) -> tuple[str, ...]:
        """What the UIDs of its objects are derived from besides their kind and place.

        The sources, a later revision, and what the requester said, which some of them quote.
        """
        parts = sorted(source.instance.sop_instance_uid for source in self.sources)
        if self.revision > 1:
            parts.append(f"revision {self.revision}")
        if self.context != ClinicalContext():
            parts.append(repr(self.context))
        return tuple(parts)


@dataclass(frozen=True, slots=True)
class StudyFailure:
    """Why an input has no result. `reference` is the caller's own name for it (a file, a UID).

    `revision`, `predecessor` and `context` are as in a StudyResult.
    """

    code: ErrorCode
    message: str
    reference: str = ""
    study_instance_uid: str = ""
    revision: int = 1
    predecessor: InstanceRef | None = None
    context: ClinicalContext = field(default_factory=ClinicalContext)


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file made from a result: its name in the result folder, media type and bytes."""

    name: str
    media_type: str
    data: bytes = field(repr=False)
