"""What each sentence of a draft rests on: a finding, the headers of a series, the request, the check, the pack."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from radserve.findings import Evidence, EvidenceKind, Finding, ReportSentence
from radserve.models.decoding.constraint import normalised
from radserve.models.ontology import Ontology
from radserve.pipelines.wording import WITHHELD, Wording

LabelReader = Callable[[str, Sequence[Finding]], Sequence[str]]
"""The labels of findings that a sentence speaks of."""

REQUEST = (Evidence(EvidenceKind.REQUEST, "context"),)
CHECK = (Evidence(EvidenceKind.CHECK, "warnings"),)
_AFTER_SENTENCE = re.compile(r"(?<=[.;!?])\s+|(?<=[。；！？])|\n")  # noqa: RUF001  # the wide forms of Chinese text


def sentences_of(text: str) -> tuple[str, ...]:
    """The sentences of a text with their marks, without empty ones."""
    return tuple(each.strip() for each in _AFTER_SENTENCE.split(text) if normalised(each).strip(" |"))


def lines(section: str, text: str, evidence: Sequence[Evidence]) -> list[ReportSentence]:
    """The lines of a text that rests on one thing as a whole."""
    return [ReportSentence(section, line, tuple(evidence)) for line in text.splitlines() if line.strip()]


def of_findings(findings: Iterable[Finding]) -> tuple[Evidence, ...]:
    """Findings as evidence."""
    return tuple(Evidence(EvidenceKind.FINDING, each.tracking_uid) for each in findings)


def written(
    section: str,
    text: str,
    findings: Sequence[Finding],
    wording: Wording,
    ontology: Ontology,
    labels_of: LabelReader | None,
) -> list[ReportSentence]:
    """The sentences that were written of one series. Each rests on the findings that it names."""
    found = []
    for sentence in sentences_of(text):
        if sentence in WITHHELD:
            found.append(ReportSentence(section, sentence, CHECK))
            continue
        read = set(labels_of(sentence, findings)) if labels_of else set()
        words = normalised(sentence)
        named = [
            each
            for each in findings
            if each.label in read
            or normalised(wording.name(each, ontology)).strip() in words
            or sentence == wording.no_impression
        ]
        found.append(ReportSentence(section, sentence, of_findings(named)))
    return found
