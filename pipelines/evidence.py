"""What each sentence of a draft rests on: a finding, the headers of a series, the request, the check, the pack."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources

from radserve.findings import Finding
from radserve.models.decoding.constraint import normalised
from radserve.models.ontology import Ontology
from radserve.pipelines.wording import WITHHELD, Wording
from radserve.references import AcquisitionContext
from radserve.reports import Evidence, EvidenceKind, ReportSentence

LabelReader = Callable[[str, Sequence[Finding]], Sequence[str]]
"""The labels of findings that a sentence speaks of."""

REQUEST = (Evidence(EvidenceKind.REQUEST, "context"),)
CHECK = (Evidence(EvidenceKind.CHECK, "warnings"),)
_AFTER_SENTENCE = re.compile(r"(?<=[.;!?])\s+|(?<=[。；！？])|\n")  # noqa: RUF001  # the wide forms of Chinese text


@dataclass(frozen=True, slots=True, eq=False)
class Grounds:
    """What the written sentences of one series may rest on: its findings, its headers, what the pack answers at all."""

    findings: Sequence[Finding]
    acquisition: AcquisitionContext
    series_instance_uid: str
    pack_digest: str
    wording: Wording
    ontology: Ontology = field(repr=False)
    labels_of: LabelReader | None = None

    def of(self, sentence: str) -> tuple[Evidence, ...]:
        """What a sentence rests on; nothing where neither a finding nor the rules bear it out."""
        if sentence in _withheld():
            return CHECK
        named = self._named(sentence)
        return of_findings(named) if named else self._stated(sentence)

    def _named(self, sentence: str) -> list[Finding]:
        read = set(self.labels_of(sentence, self.findings)) if self.labels_of else set()
        words = normalised(sentence)
        return [
            each
            for each in self.findings
            if each.label in read
            or normalised(self.wording.name(each, self.ontology)).strip() in words
            or sentence == self.wording.no_impression
        ]

    def _stated(self, sentence: str) -> tuple[Evidence, ...]:
        """What headers and pack say, where that is all that the sentence says."""
        left, kinds = normalised(sentence), set()
        for phrase, rule in _phrases():
            if phrase in left and rule.fits(self.acquisition):
                left = left.replace(phrase, " ")
                kinds.add(rule.rests_on)
        if left.strip(" |"):
            return ()
        references = {EvidenceKind.SERIES: self.series_instance_uid, EvidenceKind.PACK: self.pack_digest}
        return tuple(Evidence(kind, reference) for kind, reference in references.items() if kind.value in kinds)


def sentences_of(text: str) -> tuple[str, ...]:
    """The sentences of a text with their marks, without empty ones."""
    return tuple(each.strip() for each in _AFTER_SENTENCE.split(text) if normalised(each).strip(" |"))


def lines(section: str, text: str, evidence: Sequence[Evidence]) -> list[ReportSentence]:
    """The lines of a text that rests on one thing as a whole."""
    return [ReportSentence(section, line, tuple(evidence)) for line in text.splitlines() if line.strip()]


def of_findings(findings: Iterable[Finding]) -> tuple[Evidence, ...]:
    """Findings as evidence."""
    return tuple(Evidence(EvidenceKind.FINDING, each.tracking_uid) for each in findings)


def written(section: str, text: str, grounds: Grounds) -> list[ReportSentence]:
    """The sentences that were written of one series. Raises DRAFT_WITHOUT_EVIDENCE for one that rests on nothing."""
    return [ReportSentence(section, sentence, grounds.of(sentence)) for sentence in sentences_of(text)]


def unborne(sections: Iterable[tuple[str, str]], grounds: Grounds) -> tuple[str, ...]:
    """The sentences of written sections that rest on nothing: with one of these no draft can be built."""
    return tuple(each for _, text in sections for each in sentences_of(text) if not grounds.of(each))


@dataclass(frozen=True, slots=True)
class _Phrases:
    """What some phrases of the rules rest on, and the headers that they fit."""

    rests_on: str
    modalities: tuple[str, ...]
    body_parts: tuple[str, ...]

    def fits(self, acquisition: AcquisitionContext) -> bool:
        if self.modalities and acquisition.modality not in self.modalities:
            return False
        return not (self.body_parts and acquisition.body_part) or acquisition.body_part.upper() in self.body_parts


@cache
def _withheld() -> frozenset[str]:
    """The sentences that say that a text was withheld."""
    return frozenset(sentence for text in WITHHELD for sentence in sentences_of(text))


@cache
def _phrases() -> tuple[tuple[str, _Phrases], ...]:
    """Every phrase of the rules, normalised, the longest first."""
    raw = resources.files("radserve.pipelines").joinpath("data/evidence_rules.toml").read_text(encoding="utf-8")
    found = [
        (normalised(word), _Phrases(each["rests_on"], *(tuple(each.get(name, ())) for name in _HEADERS)))
        for each in tomllib.loads(raw)["phrases"]
        for word in each["words"]
    ]
    return tuple(sorted(found, key=lambda each: -len(each[0])))


_HEADERS = ("modalities", "body_parts")
