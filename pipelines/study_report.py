"""The report of a study: who writes its texts, which of them are kept, and the draft that is composed of them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

from radserve.clinical_context import ClinicalContext
from radserve.errors import DraftError, ErrorCode, ModelError, RadserveError
from radserve.models.ontology import built_in_ontology
from radserve.models.pack import ModelPack
from radserve.pipelines.authoring import (
    DescribedSeries,
    FoundSeries,
    ReportAuthor,
    ReportOptions,
    ReportText,
    ReviewedText,
    held_without_evidence,
)
from radserve.pipelines.deadline import Deadline
from radserve.pipelines.draft import SeriesDraft, compose_draft, grounds_of, template_sections
from radserve.pipelines.evidence import LabelReader, unborne
from radserve.pipelines.prior import PriorReading
from radserve.pipelines.remote_report import RemoteAuthor
from radserve.pipelines.report import check_language, languages
from radserve.pipelines.series import SeriesOutcome, cause_of
from radserve.pipelines.template_report import TemplateAuthor
from radserve.pipelines.wording import ENGLISH, WORDINGS, Wording, wording_of
from radserve.reports import GenerationRecord, Report
from radserve.results import ProvenanceRecord, ResultWarning, WarningCode

Writer = TemplateAuthor | RemoteAuthor | ReportAuthor


@dataclass(frozen=True, slots=True)
class WrittenReport:
    """What became of a report: None where no draft could be built. `warnings` are those of its texts.

    `provenance` is the pack's, with the template that worded the draft.
    """

    report: Report | None
    generation: GenerationRecord | None
    warnings: tuple[ResultWarning, ...]
    provenance: ProvenanceRecord


@dataclass(frozen=True, slots=True, eq=False)
class StudyWriter:
    """Writes reports of studies by the site's template, else its text service `remote`, else the pack's decoder."""

    pack: ModelPack
    author: ReportAuthor | None
    remote: RemoteAuthor | None
    templates: Mapping[str, TemplateAuthor]

    def check(self, language: str) -> None:
        """Raise RequestError INVALID_ARGUMENT where nothing can write in a language."""
        if language not in self.templates:
            wording_of(language)
            if self.pack.decoder:
                check_language(self.pack, language)

    async def write(
        self,
        outcomes: Sequence[SeriesOutcome],
        context: ClinicalContext,
        left_out: Sequence[str],
        options: ReportOptions,
        deadline: Deadline,
        prior: PriorReading | None = None,
    ) -> AsyncGenerator[ReportText | WrittenReport, None]:
        """Yield the text as it is written, then what became of it.

        `left_out` says, a sentence each, what of the study could not be read; `prior` is set beside the
        findings. Raises ModelError, RadserveError of what writes last.
        """
        writer: Writer | None = self.templates.get(options.language) or self.remote or self.author
        wording = WORDINGS.get(options.language, ENGLISH)
        warnings: list[ResultWarning] = []
        texts: dict[str, ReviewedText] = {}
        async with aclosing(self._texts(outcomes, options, deadline)) as events:
            async for event in events:
                if isinstance(event, ReportText):
                    yield event
                elif isinstance(event, ResultWarning):
                    warnings.append(event)
                    writer = self.remote if isinstance(writer, TemplateAuthor) and self.remote else self.author
                else:
                    texts[event.series_instance_uid] = event
        labels_of = writer.checker.labels_of if writer else None
        texts = self._borne_out(outcomes, texts, wording, labels_of)
        warnings += [warning for text in texts.values() for warning in text.warnings]
        drafts = [_draft(each, texts.get(each.plan.series_instance_uid), wording) for each in outcomes]
        report: Report | None = None
        try:
            report = compose_draft(context, drafts, self.pack.ref, left_out, wording, labels_of, prior)
        except DraftError as error:  # the findings are delivered without it
            text = f"No draft was built: {error.client_message}."
            warnings.append(ResultWarning(WarningCode.REPORT_WITHOUT_EVIDENCE, text))
        generation = writer.record(options, list(texts.values())) if writer and texts else None
        provenance = self.pack.provenance
        if generation and isinstance(writer, TemplateAuthor):
            provenance = replace(provenance, plugins=(*provenance.plugins, writer.site.ref))
        yield WrittenReport(report, generation, tuple(warnings), provenance)

    async def _texts(
        self, outcomes: Sequence[SeriesOutcome], options: ReportOptions, deadline: Deadline
    ) -> AsyncGenerator[ReportText | ReviewedText | ResultWarning, None]:
        """The texts of all series by the site's template, else its text service, else the pack's decoder.

        One that fails is named in a warning, and the next one writes, where it knows the language.
        """
        found = [
            FoundSeries(each.plan.series_instance_uid, each.findings, each.plan.acquisition.laterality)
            for each in outcomes
        ]
        if template := self.templates.get(options.language):
            try:
                async with aclosing(template.write(found, options, deadline)) as events:
                    async for event in events:
                        yield event
                return
            except RadserveError as error:
                if error.code is not ErrorCode.PLUGIN_FAILED:
                    raise
                text = f"The report template did not write this draft ({cause_of(error)})."
                yield ResultWarning(WarningCode.REPORT_TEMPLATE_FAILED, text)
        if self.remote and options.language in WORDINGS:
            try:
                async with aclosing(self.remote.write(found, options, deadline)) as events:
                    async for event in events:
                        yield event
                return
            except ModelError as error:
                text = f"The text service did not write this draft ({cause_of(error)})."
                yield ResultWarning(WarningCode.TEXT_SERVICE_FAILED, text)
        if self.author is None or options.language not in languages(self.pack):
            return
        described = [
            DescribedSeries(
                each.plan.series_instance_uid,
                each.key_frame.image_tokens,
                each.findings,
                each.plan.acquisition.laterality,
            )
            for each in outcomes
            if each.key_frame
        ]
        async with aclosing(self.author.write(described, options, deadline)) as events:
            async for event in events:
                yield event

    def _borne_out(
        self,
        outcomes: Sequence[SeriesOutcome],
        texts: Mapping[str, ReviewedText],
        wording: Wording,
        labels_of: LabelReader | None,
    ) -> dict[str, ReviewedText]:
        """The texts by series, those with a sentence that rests on nothing withheld."""
        found = dict(texts)
        ontology = built_in_ontology()
        for outcome in outcomes:
            if text := found.get(outcome.plan.series_instance_uid):
                grounds = grounds_of(_series_draft(outcome, text.sections), self.pack.ref, wording, ontology, labels_of)
                if count := len(unborne(text.sections, grounds)):
                    found[text.series_instance_uid] = held_without_evidence(text, count, wording)
        return found


def _draft(outcome: SeriesOutcome, text: ReviewedText | None, wording: Wording) -> SeriesDraft:
    if text is None:
        return _series_draft(outcome, template_sections(outcome.findings, wording), template=True)
    draft = _series_draft(outcome, text.sections, withheld=text.withheld, template=text.by_template)
    return replace(draft, writer=text.writer)


def _series_draft(
    outcome: SeriesOutcome, sections: tuple[tuple[str, str], ...], *, withheld: str = "", template: bool = False
) -> SeriesDraft:
    plan, unread = outcome.plan, outcome.unread
    images = len(plan.instances) - unread
    uid = plan.series_instance_uid
    return SeriesDraft(plan.acquisition, images, sections, outcome.findings, uid, withheld, template, unread)
