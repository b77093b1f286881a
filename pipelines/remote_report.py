"""The written part of a draft by a text service outside: it is told the findings and nothing else.

Neither pixels nor embeddings, no header but the side, no UID and nothing that the requester said leaves: what is sent
is put together here from the pack's own words and its measurements. What comes back is a text like a decoder's: it is
checked, and held where it has a fault.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Any

from radserve.errors import ErrorCode, ModelError
from radserve.findings import Finding
from radserve.models.pack import ModelPack
from radserve.pipelines.authoring import (
    FoundSeries,
    ReportOptions,
    ReportText,
    ReviewedText,
    generation_record,
    review,
)
from radserve.pipelines.check import DraftChecker
from radserve.pipelines.claims import NeverAllowed
from radserve.pipelines.deadline import Deadline
from radserve.pipelines.report import split_sections
from radserve.pipelines.wording import wording_of
from radserve.ports import TextGenerator
from radserve.reports import GenerationRecord

BACKEND = "text_service"
SECTIONS = ("Findings", "Impression")
SIDES = {"L": "left", "R": "right", "B": "both"}
INSTRUCTION = """\
You word the draft of a radiology report. The user message is JSON: the findings of one series, by an image model.
Answer in plain text with exactly two sections, in {language}, with the heads in English:
Findings: one short sentence for each finding.
Impression: one or two short sentences.
State each present finding as present and each absent one as absent; use the phrases given with a finding.
Say nothing else: no other finding, no cause, no size unless measured, no side unless given, no comparison, no
prognosis, no advice."""
LANGUAGES = {"en": "English", "zh": "Simplified Chinese"}


@dataclass(frozen=True, slots=True)
class RemoteAuthor:
    """Has the texts of a study written by `generator`, and keeps `claims` out of the draft."""

    pack: ModelPack
    generator: TextGenerator
    claims: NeverAllowed
    checker: DraftChecker

    @classmethod
    def of(cls, pack: ModelPack, generator: TextGenerator, claims: NeverAllowed) -> RemoteAuthor:
        """The author of a pack, with the checker of its labels."""
        return cls(pack, generator, claims, DraftChecker(pack.labels, claims))

    async def write(
        self, series: Sequence[FoundSeries], options: ReportOptions, deadline: Deadline
    ) -> AsyncGenerator[ReportText | ReviewedText, None]:
        """The text of each series and what the checker made of it, once all of them are there.

        So a reader of the stream never sees a text that another one replaces. Raises ModelError as
        TextGenerator.generate, MODEL_OUTPUT_INVALID for a text without its sections; RequestError DEADLINE_EXCEEDED.
        """
        written = [await self._written(each, options.language, deadline) for each in series]
        for each, (text, cut) in zip(series, written, strict=True):
            yield ReportText(each.series_instance_uid, text)
            yield review(
                self.checker,
                each,
                text,
                split_sections(text, SECTIONS),
                wording_of(options.language),
                cut=cut,
                writer=self.generator.model,
            )

    def record(self, options: ReportOptions, texts: Sequence[ReviewedText]) -> GenerationRecord:
        """How texts were written and what was found in them."""
        return generation_record(
            self.claims, options.language, texts, "greedy", (), backend=BACKEND, model=self.generator.model
        )

    async def _written(self, series: FoundSeries, language: str, deadline: Deadline) -> tuple[str, bool]:
        instruction = INSTRUCTION.format(language=LANGUAGES[language])
        material = json.dumps(self._material(series), ensure_ascii=False)
        left_s = deadline.remaining_s()
        try:
            answer = await self.generator.generate(instruction, material, left_s)
        except ModelError:
            deadline.remaining_s()  # it was the request's time that ran out: nothing else can be tried
            raise
        text = _plain(answer.text)
        sections = dict(split_sections(text, SECTIONS))
        lacking = [name for name in SECTIONS if not sections.get(name)]
        if lacking:
            message = f"the text service: its text lacks the section {lacking[0]}"
            raise ModelError(ErrorCode.MODEL_OUTPUT_INVALID, message)
        return text, answer.cut

    def _material(self, series: FoundSeries) -> dict[str, Any]:
        """All that the service is told of a series."""
        told: dict[str, Any] = {"findings": [self._told(finding) for finding in series.findings]}
        return told | ({"side": SIDES[series.laterality]} if series.laterality in SIDES else {})

    def _told(self, finding: Finding) -> dict[str, Any]:
        assertions = self.pack.label(finding.label).assertions
        phrases = (assertions.positive if finding.positive else assertions.negative) if assertions else ()
        return {
            "name": finding.label,
            "state": finding.verdict,
            "phrases": [] if finding.cannot_assess else list(phrases),
            "measurements": [
                {"name": each.name.meaning, "value": float(f"{each.value:.3g}"), "unit": each.unit.value}
                for each in finding.measurements
            ],
        }


def _plain(text: str) -> str:
    """Text without marks of Markdown and without characters that cannot be printed."""
    kept = "".join(each for each in text if each == "\n" or (each.isprintable() and each not in "*#`"))
    return kept.strip()
