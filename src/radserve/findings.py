"""What is concluded from a study: coded findings with a place, a draft report, the result or the failure."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from radserve._checks import check_uid, check_unit_interval, invalid, read_only
from radserve.errors import DraftError, ErrorCode
from radserve.geometry import SpatialTransform
from radserve.plugins import PluginRef
from radserve.references import InstanceRef, SourceContext


@dataclass(frozen=True, slots=True)
class CodedConcept:
    """A code with its scheme designator (SCT, RADLEX, DCM ...) and meaning (PS3.3 section 8.8)."""

    value: str
    scheme: str
    meaning: str

    def __post_init__(self) -> None:
        if not (self.value and self.scheme and self.meaning):
            raise invalid("CodedConcept", (self.value, self.scheme, self.meaning), "value, scheme and meaning")


@dataclass(frozen=True, slots=True, eq=False)
class HeatMap:
    """How much each place spoke for a finding: `values` (rows, columns) float32 on a coarse grid.

    `grid_to_source` maps grid indices (row, column) to those of the source frame. The values add up to what the score
    is made of: for prompts, the difference of the image's similarity to the positive and to the negative ones; for a
    classifier, its logit less the bias.
    """

    values: npt.NDArray[np.float32] = field(repr=False)
    grid_to_source: SpatialTransform

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or self.values.shape != self.grid_to_source.prepared_shape:
            raise invalid("HeatMap.values", self.values.shape, f"{self.grid_to_source.prepared_shape}")
        object.__setattr__(self, "values", read_only(self.values.astype(np.float32)))


@dataclass(frozen=True, slots=True, eq=False)
class Region:
    """The frame a finding stands on and, where the model tells it, the place in that frame.

    `outline` (points, 2) float64 is a closed polygon of (column, row) pixel coordinates as SCOORD has them (PS3.3
    C.18.6.1.1): the top left corner of the top left pixel is (0, 0), its centre (0.5, 0.5). The first point is repeated
    as the last. None: the model does not tell where. `heat_map` is there where one was measured. `frame` counts from 1.
    """

    instance: InstanceRef
    frame: int
    outline: npt.NDArray[np.float64] | None = None
    heat_map: HeatMap | None = None

    def __post_init__(self) -> None:
        if self.frame < 1:
            raise invalid("Region.frame", self.frame, "at least 1")
        if self.outline is None:
            return
        outline = np.array(self.outline, dtype=np.float64)
        if outline.ndim != 2 or outline.shape[1] != 2 or len(outline) < 4 or (outline[0] != outline[-1]).any():
            raise invalid("Region.outline", outline.shape, "a closed polygon of at least 3 (column, row) points")
        object.__setattr__(self, "outline", read_only(outline))


@dataclass(frozen=True, slots=True, eq=False)
class SegmentMask:
    """The pixels of a segmented finding: `array` (frames, rows, columns) bool, a part of each of the `frames`.

    `frames` names the source frames as (instance, frame counted from 1), along the normal of a volume, those with a
    pixel alone. The part begins at the pixel (`top`, `left`) of frames of `shape` (rows, columns). `key_probabilities`,
    where they were kept, are those of the whole frame with the most pixels (the first, when equal): `shape` float32.
    """

    frames: tuple[tuple[InstanceRef, int], ...]
    array: npt.NDArray[np.bool_] = field(repr=False)
    top: int
    left: int
    shape: tuple[int, int]
    key_probabilities: npt.NDArray[np.float32] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.array.dtype != np.bool_ or self.array.ndim != 3 or len(self.array) != len(self.frames):
            got = (str(self.array.dtype), self.array.shape)
            raise invalid("SegmentMask.array", got, f"bool ({len(self.frames)}, rows, columns)")
        ends = (self.top + self.array.shape[1], self.left + self.array.shape[2])
        if not self.frames or min(self.top, self.left) < 0 or any(np.array(ends) > self.shape):
            raise invalid("SegmentMask", (self.top, self.left, self.array.shape), f"a part of {self.shape}")
        if self.key_probabilities is not None:
            if self.key_probabilities.shape != self.shape:
                raise invalid("SegmentMask.key_probabilities", self.key_probabilities.shape, f"{self.shape}")
            object.__setattr__(self, "key_probabilities", read_only(self.key_probabilities.astype(np.float32)))
        object.__setattr__(self, "array", read_only(self.array))

    @property
    def key_frame(self) -> int:
        """The index of the frame with the most pixels (the first, when equal)."""
        return int(np.count_nonzero(self.array, axis=(1, 2)).argmax())

    def frame(self, index: int) -> npt.NDArray[np.bool_]:
        """The whole mask (rows, columns) of the frame `self.frames[index]`."""
        whole = np.zeros(self.shape, dtype=np.bool_)
        rows, columns = self.array.shape[1:]
        whole[self.top : self.top + rows, self.left : self.left + columns] = self.array[index]
        return whole


@dataclass(frozen=True, slots=True)
class Measurement:
    """A measured quantity of a finding: what (a code), how much, in which unit (UCUM)."""

    name: CodedConcept
    value: float
    unit: CodedConcept

    def __post_init__(self) -> None:
        if not np.isfinite(self.value):
            raise invalid("Measurement.value", self.value, "a finite number")


@dataclass(frozen=True, slots=True)
class Exemplar:
    """A labelled example that the image is like: its name in the pack (nothing of a patient), whether the finding is
    there in it, and the cosine of the two embeddings.
    """

    id: str
    positive: bool
    cosine: float


@dataclass(frozen=True, slots=True, eq=False)
class Finding:
    """One question a pack answers about one series, answered on the frame that speaks most for it.

    `score` is uncalibrated, `probability` calibrated; higher means more likely. `positive` is `probability >=
    threshold`. `region` is the frame and, where known, where the model looked; for a negative finding too. `mask` is
    there for a positive segmented finding, with its `measurements`.

    `ood_score` says how unlike the images of training its frame is (out of distribution), on the scale of the pack's
    gate; None for a pack without one. `cannot_assess`: the probability lies where the model was wrong too often on
    validation images, so that neither state is its answer. `exemplars` are the pack's examples most like its frame.
    """

    label: str
    code: CodedConcept
    site: CodedConcept
    score: float
    probability: float
    threshold: float
    region: Region
    tracking_identifier: str
    tracking_uid: str
    mask: SegmentMask | None = None
    measurements: tuple[Measurement, ...] = ()
    ood_score: float | None = None
    cannot_assess: bool = False
    exemplars: tuple[Exemplar, ...] = ()

    def __post_init__(self) -> None:
        if self.ood_score is not None and not np.isfinite(self.ood_score):
            raise invalid(f"{self.label} ood_score", self.ood_score, "a finite number")
        for name in ("score", "probability", "threshold"):
            check_unit_interval(f"{self.label} {name}", getattr(self, name))
        check_uid("tracking_uid", self.tracking_uid)

    @property
    def positive(self) -> bool:
        return self.probability >= self.threshold

    @property
    def verdict(self) -> str:
        """The answer in words for people."""
        return verdict(positive=self.positive, cannot_assess=self.cannot_assess)


def verdict(*, positive: bool, cannot_assess: bool) -> str:
    """The state of a finding in words for people."""
    if cannot_assess:
        return "cannot be assessed"
    return "present" if positive else "absent"


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
class LaboratoryValue:
    """A laboratory value as the requester gave it."""

    name: str
    value: str
    unit: str = ""


DIAGNOSIS, ALLERGY = "Diagnosis: ", "Allergy: "
HISTORY_LINES = (DIAGNOSIS, ALLERGY)


@dataclass(frozen=True, slots=True)
class ClinicalContext:
    """What the requester said of the patient. It stands in the draft word for word and is never silently dropped.

    `indication` may have several lines; those that begin with one of HISTORY_LINES are of the patient's history.
    """

    indication: str = ""
    age_years: float | None = None
    sex: str = ""
    laboratory_values: tuple[LaboratoryValue, ...] = ()
    prior_study_instance_uid: str = ""

    def __post_init__(self) -> None:
        if self.age_years is not None:
            if not 0 <= self.age_years < 200:
                raise invalid("context age_years", self.age_years, "a number from 0 to 200")
            object.__setattr__(self, "age_years", float(self.age_years))
        if self.sex not in ("", "M", "F", "O"):
            raise invalid("context sex", self.sex, "M, F, O (PS3.3 C.7.1.1) or nothing")
        if self.prior_study_instance_uid:
            check_uid("context prior_study_instance_uid", self.prior_study_instance_uid)


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

    `revision` and `predecessor` are as in a StudyResult.
    """

    code: ErrorCode
    message: str
    reference: str = ""
    study_instance_uid: str = ""
    revision: int = 1
    predecessor: InstanceRef | None = None


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file made from a result: its name in the result folder, media type and bytes."""

    name: str
    media_type: str
    data: bytes = field(repr=False)
