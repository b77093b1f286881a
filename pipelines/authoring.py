"""The written part of a draft: the decoder's text of each series, held to the rules while it is written."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from radserve.decoding import DecodeJob, DecodingOptions
from radserve.findings import Finding
from radserve.models.pack import ModelPack
from radserve.models.tokenizer import PackTokenizer
from radserve.pipelines.check import DraftCheck, DraftChecker, Verdict
from radserve.pipelines.claims import NeverAllowed
from radserve.pipelines.deadline import Deadline
from radserve.pipelines.decoders import ReportDecoder
from radserve.pipelines.report import WrittenText, decoder_of, split_sections, text_rules
from radserve.pipelines.wording import Wording, wording_of
from radserve.reports import GenerationRecord
from radserve.results import ResultWarning, WarningCode


@dataclass(frozen=True, slots=True)
class ReportText:
    """A piece of the report of one series, as the decoder writes it. Preliminary: the draft in the result counts."""

    series_instance_uid: str
    text: str


@dataclass(frozen=True, slots=True, eq=False)
class DescribedSeries:
    """A series to be written of: what the decoder sees, `image_tokens` (P, C), and what its text is held against."""

    series_instance_uid: str
    image_tokens: npt.NDArray[np.float32]
    findings: tuple[Finding, ...]
    laterality: str = ""


@dataclass(frozen=True, slots=True)
class FoundSeries:
    """A series to be written of by one who is told the findings alone: it has nothing of the image."""

    series_instance_uid: str
    findings: tuple[Finding, ...]
    laterality: str = ""


@dataclass(frozen=True, slots=True)
class ReviewedText:
    """The text of one series as it may be delivered, and what the checker found in it.

    `withheld` says why the text is not delivered, in the language of the report; it is empty for one that is. `writer`
    names the model of a text service or, `by_template`, a report template; it is empty for the pack's decoder.
    """

    series_instance_uid: str
    sections: tuple[tuple[str, str], ...]
    check: DraftCheck
    withheld: str
    warnings: tuple[ResultWarning, ...]
    writer: str = ""
    by_template: bool = False


@dataclass(frozen=True, slots=True)
class ReportOptions:
    """What a request wants of the report: its language (ISO 639-1) and how it is decoded."""

    language: str = "en"
    decoding: DecodingOptions = field(default_factory=DecodingOptions)


@dataclass(frozen=True, slots=True)
class ReportAuthor:
    """Writes the texts of a study with a pack's decoder, and keeps `claims` out of them."""

    pack: ModelPack
    tokenizer: PackTokenizer
    decoder: ReportDecoder
    claims: NeverAllowed
    checker: DraftChecker

    @classmethod
    def of(
        cls, pack: ModelPack, tokenizer: PackTokenizer, decoder: ReportDecoder, claims: NeverAllowed
    ) -> ReportAuthor:
        """The author of a pack, with the checker of its labels."""
        return cls(pack, tokenizer, decoder, claims, DraftChecker(pack.labels, claims))

    async def write(
        self, series: Sequence[DescribedSeries], options: ReportOptions, deadline: Deadline
    ) -> AsyncGenerator[ReportText | ReviewedText, None]:
        """Write of each series: pieces of its text as they come, then each text as the checker lets it through.

        The series are decoded side by side; their pieces come one series after the other, so that what is read as one
        text makes sense. Raises as ReportDecoder.decode, LANGUAGE_NOT_AVAILABLE for a language the pack does not write.
        """
        if not series:
            return
        rules = text_rules(self.pack, self.tokenizer, options.language, options.decoding, self.claims.phrases())
        texts = [WrittenText(self.tokenizer, rules) for _ in series]
        jobs = [DecodeJob(each.image_tokens, rules, options.decoding) for each in series]
        waiting: list[list[str]] = [[] for _ in series]
        ended: set[int] = set()
        front = 0
        async with aclosing(self.decoder.decode(jobs, deadline)) as steps:
            async for step in steps:
                waiting[step.job] += texts[step.job].add(step.token_ids)
                ended |= {step.job} if step.finished else set()
                while front < len(series):
                    for piece in waiting[front]:
                        yield ReportText(series[front].series_instance_uid, piece)
                    waiting[front] = []
                    if front not in ended:
                        break
                    front += 1
        for each, text in zip(series, texts, strict=True):
            sections = split_sections(text.text, decoder_of(self.pack).sections)
            yield review(self.checker, each, text.text, sections, wording_of(options.language), cut=text.cut)

    def record(self, options: ReportOptions, texts: Sequence[ReviewedText]) -> GenerationRecord:
        """How texts were written and what was found in them."""
        strategy = options.decoding.strategy.value
        parameters = tuple(options.decoding.parameters.items())
        return generation_record(self.claims, options.language, texts, strategy, parameters)


def generation_record(
    claims: NeverAllowed,
    language: str,
    texts: Sequence[ReviewedText],
    strategy: str,
    parameters: tuple[tuple[str, float], ...],
    *,
    backend: str = "decoder",
    model: str = "",
) -> GenerationRecord:
    """The record of texts that one writer wrote."""
    faults: Counter[str] = Counter()
    for text in texts:
        faults.update({verdict.value: count for verdict, count in text.check.faults.items()})
    return GenerationRecord(
        language=language,
        strategy=strategy,
        parameters=parameters,
        never_allowed_version=claims.version,
        never_allowed_sha256=claims.sha256,
        texts=len(texts),
        withheld=sum(bool(text.withheld) for text in texts),
        sentences=sum(len(text.check.sentences) for text in texts),
        faults=tuple(sorted(faults.items())),
        backend=backend,
        model=model,
    )


def review(
    checker: DraftChecker,
    series: DescribedSeries | FoundSeries,
    text: str,
    sections: tuple[tuple[str, str], ...],
    wording: Wording,
    *,
    cut: bool,
    writer: str = "",
) -> ReviewedText:
    """A text with a fault, or of an image that cannot be assessed, is withheld, with warnings that say why."""
    check = checker.check(text, series.findings, series.laterality)
    warnings = [
        ResultWarning(
            WarningCode.REPORT_CONTRADICTS_FINDING,
            f"The written text contradicted the finding {label!r} and was withheld from the draft.",
        )
        for label in check.contradicted
    ]
    others = {verdict.value: n for verdict, n in check.faults.items() if verdict is not Verdict.CONTRADICTED}
    if others:
        counted = ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in others.items())
        message = f"The written text was withheld from the draft: {counted}."
        warnings.append(ResultWarning(WarningCode.REPORT_UNSUPPORTED, message))
    if cut:
        message = "The written text was cut at the greatest length that a text may have."
        warnings.append(ResultWarning(WarningCode.REPORT_CUT, message))
    unsure = any(each.cannot_assess for each in series.findings)
    withheld = wording.withheld if check.faults else wording.unsure if unsure else ""
    return ReviewedText(series.series_instance_uid, sections, check, withheld, tuple(warnings), writer)


def held_without_evidence(text: ReviewedText, count: int, wording: Wording) -> ReviewedText:
    """A text of which `count` sentences rest on nothing: no draft is built with it, and a warning says so."""
    message = f"The written text was withheld from the draft: {count} of its sentences rest on nothing in the result."
    return replace(
        text,
        check=replace(text.check, without_evidence=count),
        withheld=text.withheld or wording.withheld,
        warnings=(*text.warnings, ResultWarning(WarningCode.REPORT_WITHOUT_EVIDENCE, message)),
    )
