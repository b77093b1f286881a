"""What readers made of drafts, as preference data for whoever trains a text service: prompt, chosen, rejected.

The prompt is what a text service is told of a study (pipelines/remote_report.py): the findings and nothing else, so
nothing of the patient is in it. Draft and final text are Findings and Impression alone; a text in which something may
tell of a person is left out (pipelines/personal.py). Source of the two forms: the dataset formats of TRL, "preference"
(DPO) and "unpaired preference" (KTO), conversational.
"""

from __future__ import annotations

import json
import re
import secrets
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from radserve._checks import check_uid, invalid
from radserve.models.decoding.constraint import is_ideograph
from radserve.pipelines.personal import says_any, traits
from radserve.pipelines.remote_report import INSTRUCTION, LANGUAGES, SECTIONS
from radserve.pipelines.wording import WITHHELD

MOST_CHARACTERS = 16_000
_LANGUAGE = re.compile(r"[a-z]{2}")


class Decision(StrEnum):
    """What a reader did with a draft."""

    ACCEPTED = "accepted"
    EDITED = "edited"
    REJECTED = "rejected"


class Form(StrEnum):
    """How preferences are given out: a chosen and a rejected text together, or each text with whether it was wanted."""

    PAIRED = "paired"
    UNPAIRED = "unpaired"


@dataclass(frozen=True, slots=True)
class ToldFinding:
    """A finding as the writer of a text is told of it: state in words; measurements as (name, value, unit)."""

    series_instance_uid: str
    label: str
    state: str
    measurements: tuple[tuple[str, float, str], ...] = ()

    @property
    def words(self) -> tuple[str, ...]:
        return (self.label, *(word for name, _, unit in self.measurements for word in (name, unit)))


@dataclass(frozen=True, slots=True)
class Review:
    """A reader's decision on a draft. `material` is JSON, as a text service is told it; `id` is random.

    `words` are the names of findings and measurements that stand in `material`. `draft` and `final` are texts with the
    heads Findings and Impression; `final` is empty where there is none. Valid on construction: INVALID_ARGUMENT for a
    decision that does not go with the texts.
    """

    study_instance_uid: str
    decision: Decision
    language: str
    pack: str
    material: str
    words: tuple[str, ...]
    draft: str
    final: str = ""
    id: str = field(default_factory=lambda: secrets.token_hex(16))

    def __post_init__(self) -> None:
        check_uid("study_instance_uid", self.study_instance_uid)
        if not _LANGUAGE.fullmatch(self.language):
            raise invalid("language", self.language[:8], "two small letters (ISO 639-1)")
        if not self.draft:
            raise invalid("draft", "no text", f"one with the sections {', '.join(SECTIONS)}")
        if max(len(self.draft), len(self.final)) > MOST_CHARACTERS:
            raise invalid("text", f"{len(self.final)} characters", f"at most {MOST_CHARACTERS}")
        if self.decision is Decision.EDITED and self.final in ("", self.draft):
            raise invalid("final text of an edited draft", "none of its own", "one that differs from the draft")
        if self.decision is Decision.ACCEPTED and self.final:
            raise invalid("final text of an accepted draft", "a text", "none: the draft is the final text")
        if self.decision is Decision.REJECTED and self.final == self.draft:
            raise invalid("final text of a rejected draft", "the draft", "another text or none")


def review_of(
    study_instance_uid: str,
    pack: str,
    findings: Sequence[ToldFinding],
    draft: Mapping[str, str],
    decision: Decision,
    final: Mapping[str, str],
    language: str = "",
) -> Review:
    """The review of a draft by its sections; what other sections hold is not kept. Raises INVALID_ARGUMENT.

    `language` (ISO 639-1) is that of the draft; where nobody says, Chinese characters tell Chinese from English.
    """
    given = {name: text for name, text in final.items() if text.strip()}
    if unknown := sorted(set(given) - set(SECTIONS)):
        raise invalid("sections of the final text", unknown, f"{', '.join(SECTIONS)} only")
    if given and len(given) < len(SECTIONS):
        raise invalid("sections of the final text", sorted(given), f"{', '.join(SECTIONS)}")
    text = _text(draft)
    return Review(
        study_instance_uid=study_instance_uid,
        decision=decision,
        language=language or ("zh" if any(map(is_ideograph, text)) else "en"),
        pack=pack,
        material=json.dumps(_material(findings), ensure_ascii=False),
        words=tuple(dict.fromkeys(word for each in findings for word in each.words)),
        draft=text,
        final=_text(given),
    )


@dataclass(frozen=True, slots=True)
class Exported:
    """Records of one form, by their random ids, and how many reviews are not among them, by the reason."""

    records: tuple[Mapping[str, Any], ...]
    left_out: Mapping[str, int]


def export(reviews: Iterable[tuple[Review, Sequence[str]]], form: Form) -> Exported:
    """The records of reviews, each with the header values of its patient that no text may hold."""
    records: list[Mapping[str, Any]] = []
    left_out: Counter[str] = Counter()
    for review, known in reviews:
        texts = (review.draft, review.final, *review.words)
        usual = (*review.words, *SECTIONS)
        found = sorted({trait for text in texts for trait in traits(text, known, usual)})
        found += ["known"] if says_any(review.pack, known) and not found else []  # a version looks like a date
        made = [] if found else _records(review, form)
        records += made
        left_out.update(found or ([] if made else [f"{review.decision} without another text"]))
    return Exported(tuple(sorted(records, key=lambda each: str(each["id"]))), dict(sorted(left_out.items())))


def _records(review: Review, form: Form) -> list[Mapping[str, Any]]:
    prompt = [
        {"role": "system", "content": INSTRUCTION.format(language=LANGUAGES.get(review.language, review.language))},
        {"role": "user", "content": review.material},
    ]
    about = {"decision": review.decision.value, "language": review.language, "pack": review.pack}
    if form is Form.PAIRED:
        if not review.final:
            return []
        texts = {"chosen": _answer(review.final), "rejected": _answer(review.draft)}
        return [{"id": review.id, "prompt": prompt, **texts, **about}]
    wanted = [(review.draft, review.decision is Decision.ACCEPTED)] + ([(review.final, True)] if review.final else [])
    return [
        {"id": f"{review.id}-{number}", "prompt": prompt, "completion": _answer(text), "label": label, **about}
        for number, (text, label) in enumerate(wanted)
    ]


def _answer(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def _text(sections: Mapping[str, str]) -> str:
    """Findings and Impression under their heads, without the sentences that say that a text was withheld."""
    lines = []
    for name in SECTIONS:
        body = sections.get(name, "")
        for sentence in WITHHELD:
            body = body.replace(sentence, "")
        if body.strip():
            lines.append(f"{name}: {body.strip()}")
    return "\n".join(lines)


def _material(findings: Sequence[ToldFinding]) -> dict[str, Any]:
    by_series: dict[str, list[dict[str, Any]]] = {}
    for each in findings:
        by_series.setdefault(each.series_instance_uid, []).append(
            {
                "name": each.label,
                "state": each.state,
                "measurements": [
                    {"name": name, "value": float(f"{value:.3g}"), "unit": unit}
                    for name, value, unit in each.measurements
                ],
            }
        )
    series = [{"findings": told} for told in by_series.values()]
    return series[0] if len(series) == 1 else {"series": series}
