"""What surrounds a finding's words in a sentence: negation, uncertainty and side.

A cue word opens a reach to its right (or left) that ends at a terminator or at the end of the sentence, as in NegEx
(Chapman et al., J Biomed Inform 34:301-310, 2001); the words are those of labeller_rules.toml.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

_FINITE_VERB = re.compile(r"\b(?:is|are|was|were|has|have|may|might|remains?)\b")
_SEPARATOR = re.compile(r",|\b(?:and|or|with|versus|vs|but|without)\b")
_NOT_SHARING = re.compile(
    r"[^\w\s,/-]|\b(?:no|not|without|despite|following|after|but|is|are|was|were|has|have|remains?)\b", re.IGNORECASE
)
_JOINED = re.compile(r"\b(?:and|with)\b", re.IGNORECASE)
_WITHOUT = re.compile(r"\s*without(?:\s+\w+){0,2}\s*$", re.IGNORECASE)
_DOUBTS = {"uncertain_before", "suggestive_before", "uncertain_between"}


class Status(StrEnum):
    """What a report says of a finding."""

    POSITIVE = "positive"
    UNCERTAIN = "uncertain"
    NEGATIVE = "negative"


class Side(StrEnum):
    """Where the report places a finding, as the patient's side."""

    LEFT = "left"
    RIGHT = "right"
    BILATERAL = "bilateral"
    UNSTATED = "unstated"


@dataclass(frozen=True)
class Span:
    """A piece of one sentence: character offsets (end excluded) and what kind of words stand there."""

    start: int
    end: int
    kind: str


def compiled(phrases: Sequence[str]) -> re.Pattern[str]:
    """Return one pattern for any of the phrases, whole words only; a blank matches any white space."""
    alternatives = "|".join(phrase.replace(" ?", r"\s*").replace(" ", r"\s+") for phrase in phrases)
    return re.compile(rf"(?:(?<![\w-])|(?=\W))(?:{alternatives})(?!\w)", re.IGNORECASE)


def longest_spans(text: str, patterns: Mapping[str, re.Pattern[str]]) -> list[Span]:
    """Return the matches of every pattern in `text`, in order; of two that overlap the longer stays."""
    found = [Span(*match.span(), kind) for kind, pattern in patterns.items() for match in pattern.finditer(text)]
    taken, kept = bytearray(len(text)), []
    for span in sorted(found, key=lambda each: (each.start - each.end, each.start)):
        if not any(taken[span.start : span.end]):
            taken[span.start : span.end] = b"\x01" * (span.end - span.start)
            kept.append(span)
    return sorted(kept, key=lambda each: each.start)


def status_of(mention: Span, text: str, cues: Sequence[Span]) -> Status | None:
    """Return the status of a mention in its sentence, or None when the words are not about this study.

    `cues` are the spans of the cue words of the sentence (kinds of labeller_rules.toml), in order.
    """
    before = _reaching(mention, cues)
    kinds = [cue.kind for cue in before]
    if "dropped_before" in kinds:
        return None
    after = _after(mention, text, cues)
    if _negated(before, text) or (after == "negation_after" and "uncertain_before" not in kinds):
        return Status.NEGATIVE
    if after == "uncertain_after" or not _DOUBTS.isdisjoint(kinds):
        return Status.UNCERTAIN
    return Status.POSITIVE


def _reaching(mention: Span, cues: Sequence[Span]) -> list[Span]:
    """Return the cues before the mention whose reach is not ended by a terminator, the nearest first."""
    reaching: list[Span] = []
    for cue in reversed([each for each in cues if each.end <= mention.start]):
        if cue.kind == "terminators":
            break
        reaching.append(cue)
    return reaching


def _negated(before: Sequence[Span], text: str) -> bool:
    """Whether the nearest telling cue negates: doubt beats a negation further off, unless it only hints."""
    for position, cue in enumerate(before):
        if cue.kind == "negation_before":
            return True
        if cue.kind in {"uncertain_before", "uncertain_between"}:
            follower = before[position + 1] if position + 1 < len(before) else None
            directly = follower is not None and not text[follower.end : cue.start].strip()
            return directly and follower is not None and follower.kind == "negation_before"
    return False


def _after(mention: Span, text: str, cues: Sequence[Span]) -> str | None:
    """Return the kind of the first cue that looks back on the mention, if one does."""
    for cue in (each for each in cues if each.start >= mention.end):
        if cue.kind == "terminators":
            return None
        if cue.kind in {"negation_after", "uncertain_after"}:
            return None if _FINITE_VERB.search(text[mention.end : cue.start]) else cue.kind
        if cue.kind == "uncertain_between":
            return None if _SEPARATOR.search(text, mention.end, cue.start) else "uncertain_after"
    return None


def sides_of(mentions: Sequence[Span], text: str, sides: Sequence[Span]) -> list[Side]:
    """Return the side of each mention of a sentence (mentions in order; `sides` the spans of side words).

    Each mention owns the words up to the separator before the next one. A mention without a side word of its own
    shares that of a neighbour it is listed with: "right effusion and atelectasis", "atelectasis or scar on the left",
    "opacity on the left, possibly atelectasis".
    """
    if not mentions:
        return []
    borders = _borders(mentions, text)
    own = [_own(mention, *border, sides) for mention, border in zip(mentions, borders, strict=True)]
    resolved = [Side(word.kind) if word else Side.UNSTATED for word in own]
    for index in range(1, len(mentions)):
        word, between = own[index - 1], text[mentions[index - 1].end : mentions[index].start]
        shared = own[index] is None and word is not None and _listed(between)
        if shared and word is not None and (word.end <= mentions[index - 1].start or not _JOINED.search(between)):
            resolved[index] = resolved[index - 1]
    for index in range(len(mentions) - 2, -1, -1):
        word, between = own[index + 1], text[mentions[index].end : mentions[index + 1].start]
        if own[index] is None and word is not None and word.start >= mentions[index + 1].end:
            if _listed(between):
                resolved[index] = resolved[index + 1]
            elif _WITHOUT.match(between):  # "consolidation without effusion on the left": the place of what is there
                resolved[index], resolved[index + 1] = resolved[index + 1], Side.UNSTATED
    return resolved


def _borders(mentions: Sequence[Span], text: str) -> list[tuple[int, int]]:
    cuts = [0]
    for earlier, later in pairwise(mentions):
        separators = list(_SEPARATOR.finditer(text, earlier.end, later.start))
        cuts.append(separators[-1].start() if separators else later.start)
    cuts.append(len(text))
    return list(pairwise(cuts))


def _own(mention: Span, start: int, end: int, sides: Sequence[Span]) -> Span | None:
    """Return the side word of the mention's own words: the nearest before it, else the nearest after it."""
    inside = [each for each in sides if each.start >= start and each.end <= end]
    before = [each for each in inside if each.end <= mention.start]
    after = [each for each in inside if each.start >= mention.start]
    if before:
        return before[-1]
    return after[0] if after else None


def _listed(between: str) -> bool:
    return _NOT_SHARING.search(between) is None
