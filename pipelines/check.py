"""The checker of drafts: each sentence of a text against the findings, the headers and what may be claimed at all.

It reads by the pack's own assertion phrases, and what these leave by the names of the finding ontology with the
negations around them. It knows no grammar: it is made to miss little of what a decoder invents, and a text that it
doubts is held, for a draft from the findings says the same safely.
"""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib import resources
from typing import TypeVar

from radserve.findings import Finding
from radserve.models.decoding.constraint import normalised
from radserve.models.ontology import FindingNode, Ontology, built_in_ontology
from radserve.models.pack_types import PackLabel
from radserve.pipelines.claims import NeverAllowed

_SENTENCE_ENDS = re.compile(r"(?<!\d)\.|\.(?!\d)|[。;；!?！？\n]")  # noqa: RUF001  # the wide forms of Chinese text


_DENIED = " - "  # stands in place of a phrase that denies: it reaches what follows it in the clause
NO_FINDING = "no finding"
T = TypeVar("T")


class Verdict(StrEnum):
    """What a sentence is, or what a draft lacks (omitted)."""

    SUPPORTED = "supported"
    NEUTRAL = "neutral"
    UNSUPPORTED = "unsupported"
    CONTRADICTED = "contradicted"
    OMITTED = "omitted"
    INVENTED_COMPARISON = "invented_comparison"
    WRONG_LATERALITY = "wrong_laterality"
    WITHOUT_EVIDENCE = "without_evidence"


FAULTS = (
    Verdict.CONTRADICTED,
    Verdict.INVENTED_COMPARISON,
    Verdict.WRONG_LATERALITY,
    Verdict.UNSUPPORTED,
    Verdict.OMITTED,
    Verdict.WITHOUT_EVIDENCE,
)
"""Those for which a draft is held, the gravest first."""


@dataclass(frozen=True, slots=True)
class CheckedSentence:
    """A sentence, what it is (the gravest, where it is several), and the labels that it speaks of."""

    text: str
    verdict: Verdict
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DraftCheck:
    """The sentences of one text, the positive findings that no sentence states, and how many rest on nothing."""

    sentences: tuple[CheckedSentence, ...]
    omitted: tuple[str, ...]
    without_evidence: int = 0

    @property
    def faults(self) -> Mapping[Verdict, int]:
        """How many faults of each class there are, the gravest first; none means that the text may be delivered."""
        counts = Counter(each.verdict for each in self.sentences)
        counts[Verdict.OMITTED] = len(self.omitted)
        counts[Verdict.WITHOUT_EVIDENCE] = self.without_evidence
        return {verdict: counts[verdict] for verdict in FAULTS if counts[verdict]}

    @property
    def contradicted(self) -> tuple[str, ...]:
        """The labels whose findings the text contradicts."""
        wrong = [each.labels for each in self.sentences if each.verdict is Verdict.CONTRADICTED]
        return tuple(dict.fromkeys(label for labels in wrong for label in labels))


@dataclass(frozen=True, slots=True)
class _Cues:
    """The words of one language, normalised."""

    negation_before: tuple[str, ...]
    negation_after: tuple[str, ...]
    clause_breaks: tuple[str, ...]
    normal: tuple[str, ...]
    left: tuple[str, ...]
    right: tuple[str, ...]
    both: tuple[str, ...]
    units: tuple[str, ...]


class DraftChecker:
    """Checks texts of a pack's labels; `claims` says what may never be claimed.

    `nothing_found` are phrases that say that all is normal, beside those of English and Chinese.
    """

    def __init__(
        self,
        labels: Iterable[PackLabel],
        claims: NeverAllowed,
        ontology: Ontology | None = None,
        *,
        nothing_found: Sequence[str] = (),
    ) -> None:
        self._ontology = ontology or built_in_ontology()
        self._cues = _cues_of_all_languages()
        self._normal = (*(cue for cues in self._cues for cue in cues.normal), *map(normalised, nothing_found))
        self._assertions = _longest_first(
            (normalised(phrase), (label.name, state))
            for label in labels
            if label.assertions
            for state, side in ((True, label.assertions.positive), (False, label.assertions.negative))
            for phrase in side
        )
        self._names = _longest_first(
            (normalised(name), node)
            for node in self._ontology.nodes.values()
            for names in node.names.values()
            for name in names
        )
        self._claimed = [(normalised(phrase), claim.when) for claim in claims.claims for phrase in claim.phrases]
        units = "|".join(re.escape(unit.strip()) for cues in self._cues for unit in cues.units)
        self._size = re.compile(rf"\d ?({units})(?![a-z])")

    def labels_of(self, sentence: str, findings: Sequence[Finding]) -> tuple[str, ...]:
        """The labels of `findings` that a sentence speaks of; all of them where it says that all is normal."""
        return self._sentence(sentence, findings, "").labels

    def check(self, text: str, findings: Sequence[Finding], laterality: str = "") -> DraftCheck:
        """Check a text of one series; `laterality` is L, R, B or nothing, as the header says (PS3.3 C.7.3.1)."""
        sentences = [each.strip() for each in _SENTENCE_ENDS.split(text)]
        checked = tuple(self._sentence(each, findings, laterality) for each in sentences if normalised(each).strip())
        stated = {label for each in checked if each.verdict is Verdict.SUPPORTED for label in each.labels}
        expected = [each.label for each in findings if each.positive and not each.cannot_assess]
        return DraftCheck(checked, tuple(label for label in expected if label not in stated))

    def _sentence(self, sentence: str, findings: Sequence[Finding], laterality: str) -> CheckedSentence:
        words = normalised(sentence)
        verdicts, labels = [], []
        rest = words
        for phrase, (label, state) in self._assertions:  # "no pneumonia" uses up the words of "pneumonia"
            if phrase in rest:
                rest = rest.replace(phrase, " | " if state else _DENIED)
                verdicts.append(_compare(label, state, findings))
                labels.append(label)
        for verdict, label in self._mentions(rest, findings):
            verdicts.append(verdict)
            labels += [label] if label else []
        if any(cue in rest for cue in self._normal):
            wrong = [each.label for each in findings if each.positive]
            verdicts += [Verdict.CONTRADICTED] if wrong else []
            labels += wrong
        verdicts += self._claims(words) + self._sides(words, laterality) + self._measures(words, findings)
        order = (*FAULTS, Verdict.SUPPORTED, Verdict.NEUTRAL)
        verdict = min(verdicts, key=order.index, default=Verdict.NEUTRAL)
        if not labels and verdict is Verdict.NEUTRAL and self._says_all_is_normal(words):
            labels = [each.label for each in findings]
        return CheckedSentence(sentence, verdict, tuple(dict.fromkeys(labels)))

    def _mentions(self, words: str, findings: Sequence[Finding]) -> list[tuple[Verdict, str]]:
        """What names of findings say that no phrase of the pack covers."""
        verdicts = []
        for name, node in self._names:
            while (place := words.find(name)) >= 0:
                negated = self._negated(words[:place] + " ", " " + words[place + len(name) :])
                words = words[:place] + " # " + words[place + len(name) :]
                verdicts.append(self._mention(node, negated=negated, findings=findings))
        return verdicts

    def _says_all_is_normal(self, words: str) -> bool:
        names = (name for name, node in self._names if node.id == NO_FINDING)
        return any(each in words for each in (*self._normal, *names))

    def _negated(self, before: str, after: str) -> bool:
        """Whether a negation reaches a mention: in its clause before it, or right after it."""
        for cues in self._cues:
            start = max((before.rfind(each) + len(each) for each in cues.clause_breaks if each in before), default=0)
            if any(cue in before[max(0, start - 1) :] for cue in (*cues.negation_before, _DENIED)):
                return True
            if any(0 <= after.find(cue) < 20 for cue in cues.negation_after):
                return True
        return False

    def _mention(self, node: FindingNode, *, negated: bool, findings: Sequence[Finding]) -> tuple[Verdict, str]:
        """A finding's own name is compared; a kind it belongs to may go with it; anything else nobody measured."""
        if node.id == NO_FINDING and not negated:
            wrong = next((each.label for each in findings if each.positive), "")
            return (Verdict.CONTRADICTED if wrong else Verdict.NEUTRAL), wrong
        for finding in findings:
            own = self._ontology.of_label(finding.label, (finding.code.scheme, finding.code.value))
            if own is None:
                continue
            if node.id == own.id:
                return _compare(finding.label, not negated, findings), finding.label
            if node.id in self._ontology.ancestors(own.id):
                if negated and finding.positive:
                    return Verdict.CONTRADICTED, finding.label
                return (Verdict.NEUTRAL if negated or finding.positive else Verdict.UNSUPPORTED), ""
            if not negated and finding.positive and self._ontology.exclusive(node.id, own.id):
                return Verdict.CONTRADICTED, finding.label
        return Verdict.UNSUPPORTED, ""

    def _claims(self, words: str) -> list[Verdict]:
        broken = {when for phrase, when in self._claimed if phrase in words}
        verdicts = {"without_prior": Verdict.INVENTED_COMPARISON, "always": Verdict.UNSUPPORTED}
        return [verdicts[when] for when in sorted(broken)]

    def _sides(self, words: str, laterality: str) -> list[Verdict]:
        """A named side that the header does not give is wrong, as is the other one."""
        named = set()
        for cues in self._cues:
            for side, those in (("B", cues.both), ("L", cues.left), ("R", cues.right)):
                named |= {side} if any(cue in words for cue in those) else set()
        given = {"L": {"L"}, "R": {"R"}, "B": {"L", "R", "B"}}.get(laterality, set())
        return [Verdict.WRONG_LATERALITY] if named - given else []

    def _measures(self, words: str, findings: Sequence[Finding]) -> list[Verdict]:
        """A size that no finding measured."""
        if not self._size.search(words) or any(each.measurements for each in findings):
            return []
        return [Verdict.UNSUPPORTED]


def _compare(label: str, state: bool, findings: Sequence[Finding]) -> Verdict:
    finding = next((each for each in findings if each.label == label), None)
    if finding is None:
        return Verdict.UNSUPPORTED
    if finding.cannot_assess:  # the draft says so, and is not delivered as text
        return Verdict.NEUTRAL
    return Verdict.SUPPORTED if finding.positive is state else Verdict.CONTRADICTED


def _longest_first(phrases: Iterable[tuple[str, T]]) -> list[tuple[str, T]]:
    return sorted(phrases, key=lambda each: -len(each[0]))


def _cues_of_all_languages() -> tuple[_Cues, ...]:
    raw = resources.files("radserve.pipelines").joinpath("data/check_rules.toml").read_text(encoding="utf-8")
    table = tomllib.loads(raw)
    return tuple(
        _Cues(**{name: tuple(normalised(word) for word in words) for name, words in table[language].items()})
        for language in ("en", "zh")
    )
