"""Rule-based findings of a radiology report: the 14 CheXpert labels with negation, uncertainty and side.

The labels and the order "positive beats uncertain beats negative" are those of Irvin et al., CheXpert, AAAI 2019; the
rules are this project's own and stand in labeller_rules.toml, so that a site can read and change them. English only.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any

from radserve.evaluation.labeller_context import Side, Span, Status, compiled, longest_spans, sides_of, status_of
from radserve.evaluation.tables import refusal

NO_FINDING = "No Finding"
SUPPORT_DEVICES = "Support Devices"
LABELS = (
    NO_FINDING,
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    SUPPORT_DEVICES,
)

_HEADING = re.compile(r"(?:^|(?<=[\n.]))[ \t]*([A-Za-z][A-Za-z /&()]{2,40}):")
_READ_SECTIONS = re.compile(r"finding|impression|conclusion|opinion|report|lungs?|heart|pleura|bones?|mediastin", re.I)
_SKIPPED_SECTIONS = re.compile(
    r"indication|history|comparison|technique|exam|procedure|reason|clinical|recommendation|views?", re.I
)
_SENTENCE_END = re.compile(r"(?<!\bDr)[.;!?](?=\s|$|[A-Z])|(?<=\s)\d{1,2}[.)](?=\s)|\n\s*\n|\n\s*[-*•]|<br ?/?>", re.I)
_SEVERITY = {Status.NEGATIVE: 0, Status.UNCERTAIN: 1, Status.POSITIVE: 2}


@dataclass(frozen=True)
class Mention:
    """One place where a report speaks of a finding: characters [start, end) of the text that was given."""

    label: str
    status: Status
    side: Side
    start: int
    end: int


@dataclass(frozen=True)
class ReportLabels:
    """What a whole report says: the status of each of LABELS (None: not mentioned) and the mentions it rests on."""

    status: Mapping[str, Status | None]
    mentions: tuple[Mention, ...]

    def entities(self) -> frozenset[tuple[str, Status, Side]]:
        """Return the distinct (label, status, side) triples, what `entity_f1` compares."""
        return frozenset((each.label, each.status, each.side) for each in self.mentions)


class Labeller:
    """Finds mentions by the rules of a TOML table (labeller_rules.toml is the default and shows the form).

    Raises RadserveError INVALID_ARGUMENT when a label, a cue kind or a pattern of the rules is not understood.
    """

    def __init__(self, rules: Mapping[str, Any] | None = None) -> None:
        rules = rules if rules is not None else _shipped_rules()
        try:
            self.version = str(rules["version"])
            self._cues = {kind: compiled(phrases) for kind, phrases in rules["cues"].items()}
            self._sides = {kind: compiled(phrases) for kind, phrases in rules["laterality"].items()}
            tables = {_known(table["label"]): table for table in rules["findings"]}
            self._lateral = {label: bool(table["lateral"]) for label, table in tables.items()}
            self._worded = {
                (label, status): compiled(table[key])
                for label, table in tables.items()
                for key, status in (("normal", Status.NEGATIVE), ("uncertain", Status.UNCERTAIN))
                if key in table
            }
            ignored = {"": compiled(rules["ignored"]["patterns"])}
            self._patterns = ignored | {label: compiled(each["patterns"]) for label, each in tables.items()}
        except KeyError as error:
            raise refusal(f"labeller rules: the entry {error.args[0]!r} is missing") from error
        except re.error as error:
            raise refusal(f"labeller rules: the pattern {error.pattern!r} is not valid: {error}") from error

    @classmethod
    def from_file(cls, path: Path) -> Labeller:
        """Read rules from a TOML file."""
        try:
            return cls(tomllib.loads(path.read_text(encoding="utf-8")))
        except (OSError, tomllib.TOMLDecodeError) as error:
            raise refusal(f"labeller rules: {path.name!r} cannot be read: {error}") from error

    def label(self, report: str) -> ReportLabels:
        """Return the labels of a report: of its findings and impression where it has headings, else of all of it.

        Where mentions of one finding disagree, positive beats uncertain beats negative. "No Finding" is positive when
        no other label but Support Devices is positive or uncertain, else it is None.
        """
        mentions = self.mentions(report)
        status: dict[str, Status | None] = dict.fromkeys(LABELS)
        for mention in mentions:
            known = status[mention.label]
            if known is None or _SEVERITY[mention.status] > _SEVERITY[known]:
                status[mention.label] = mention.status
        abnormal = [label for label, each in status.items() if each in {Status.POSITIVE, Status.UNCERTAIN}]
        if report.strip() and not set(abnormal) - {SUPPORT_DEVICES}:
            status[NO_FINDING] = Status.POSITIVE
        return ReportLabels(status, mentions)

    def mentions(self, report: str) -> tuple[Mention, ...]:
        """Return every mention of a finding in the sections of `report` that describe the study, in order."""
        text = _without_other_sections(report)
        return tuple(
            mention for start, end in _sentences(text) for mention in self._in_sentence(text[start:end], start)
        )

    def _in_sentence(self, sentence: str, offset: int) -> list[Mention]:
        found = longest_spans(sentence, self._patterns)
        cues = [cue for cue in longest_spans(sentence, self._cues) if not _inside_any(cue, found)]
        listed = [each for each in found if each.kind]
        sides = sides_of(listed, sentence, longest_spans(sentence, self._sides))
        mentions = [
            Mention(span.kind, status, side if self._lateral[span.kind] else Side.UNSTATED, *_shifted(span, offset))
            for span, side in zip(listed, sides, strict=True)
            if (status := status_of(span, sentence, cues)) is not None
        ]
        return sorted([*mentions, *self._worded_mentions(sentence, offset, listed)], key=lambda each: each.start)

    def _worded_mentions(self, sentence: str, offset: int, listed: list[Span]) -> Iterator[Mention]:
        """Yield the mentions whose wording is itself the status ("heart size normal"), where no other stands there."""
        for (label, status), pattern in self._worded.items():
            taken = [each for each in listed if each.kind == label]
            for match in pattern.finditer(sentence):
                span = Span(*match.span(), label)
                if not _inside_any(span, taken):
                    yield Mention(label, status, Side.UNSTATED, *_shifted(span, offset))


def _shipped_rules() -> dict[str, Any]:
    return tomllib.loads(files("radserve.evaluation").joinpath("labeller_rules.toml").read_text(encoding="utf-8"))


def _known(label: str) -> str:
    if label not in LABELS:
        raise refusal(f"labeller rules: the label {label!r} is none of the 14")
    return label


def _inside_any(cue: Span, found: list[Span]) -> bool:
    return any(cue.start < span.end and cue.end > span.start for span in found)


def _shifted(span: Span, offset: int) -> tuple[int, int]:
    return offset + span.start, offset + span.end


def _without_other_sections(report: str) -> str:
    """Return `report` with indication, history, comparison and the like blanked, so that offsets stay."""
    headings = list(_HEADING.finditer(report))
    text = report
    for index, heading in enumerate(headings):
        title = heading.group(1)
        if _SKIPPED_SECTIONS.search(title) and not _READ_SECTIONS.search(title):
            end = headings[index + 1].start() if index + 1 < len(headings) else len(report)
            text = text[: heading.start()] + re.sub(r"[^\n]", " ", text[heading.start() : end]) + text[end:]
    return text


def _sentences(text: str) -> list[tuple[int, int]]:
    """Return the (start, end) offsets of the sentences of `text`."""
    ends = [match.end() for match in _SENTENCE_END.finditer(text)]
    borders = [0, *ends, len(text)]
    return [(start, end) for start, end in pairwise(borders) if text[start:end].strip()]
