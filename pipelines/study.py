"""One study from stored instances to a result: the same code live and in a batch."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from itertools import groupby

import numpy as np

from radserve.clinical_context import ClinicalContext
from radserve.errors import (
    DicomError,
    DraftError,
    ErrorCode,
    GeometryError,
    ModelError,
    RadserveError,
    RequestError,
    WorkerError,
)
from radserve.findings import Finding
from radserve.image import Image
from radserve.models.ontology import built_in_ontology
from radserve.models.pack import ModelPack
from radserve.models.pack_types import PackInput, PromptScoring
from radserve.pipelines.authoring import (
    DescribedSeries,
    FoundSeries,
    ReportAuthor,
    ReportOptions,
    ReportText,
    ReviewedText,
    held_without_evidence,
)
from radserve.pipelines.classify import EncodedFrame, encode_frames, find_label
from radserve.pipelines.consistency import consistency_warnings
from radserve.pipelines.deadline import Deadline
from radserve.pipelines.draft import SeriesDraft, compose_draft, grounds_of, template_sections
from radserve.pipelines.evidence import LabelReader, unborne
from radserve.pipelines.foreign import check_findings, gauge
from radserve.pipelines.intended_use import IntendedUsePolicy, check_conflicts, check_intended_use, input_for
from radserve.pipelines.prompts import PromptEmbeddings
from radserve.pipelines.quality import quality_problems
from radserve.pipelines.remote_report import RemoteAuthor
from radserve.pipelines.report import check_language, languages
from radserve.pipelines.stopwatch import Stopwatch
from radserve.pipelines.template_report import TemplateAuthor
from radserve.pipelines.volumes import cut_warnings, find_in_volume
from radserve.pipelines.wording import ENGLISH, WORDINGS, Wording, wording_of
from radserve.ports import InstanceSource, ModelRunner, Preprocessor
from radserve.references import AcquisitionContext, InstanceRef, SourceContext, StudyRef
from radserve.reports import GenerationRecord, Report
from radserve.results import ProvenanceRecord, ResultWarning, SeriesSummary, StudyResult, TaskAnswer, WarningCode

NOT_OF_THE_INPUT = (ErrorCode.CANCELLED, ErrorCode.INTERNAL)  # errors that say nothing against an image


@dataclass(frozen=True, slots=True)
class AnalysisRequest:
    """What to analyse: a study, or one series of it; what the requester says; whether a report is wanted.

    `warnings` go into the result: what is known already of this request.
    """

    study: StudyRef
    series_instance_uid: str = ""
    context: ClinicalContext = field(default_factory=ClinicalContext)
    report: bool = True
    options: ReportOptions = field(default_factory=ReportOptions)
    warnings: tuple[ResultWarning, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Analysis:
    """The end of an analysis: the result, and the images its findings stand on (for overlays)."""

    result: StudyResult
    images: tuple[Image, ...]


Writer = TemplateAuthor | RemoteAuthor | ReportAuthor
AnalysisObserver = Callable[[InstanceSource, AnalysisRequest, Analysis], None]


@dataclass(frozen=True, slots=True)
class AnalysisLimits:
    """Bounds of one analysis."""

    max_frames_per_instance: int = 64
    max_instances: int = 512


@dataclass(frozen=True, slots=True)
class _SeriesPlan:
    """A series as found in the store, and the pack's input it fits, if any."""

    series_instance_uid: str
    acquisition: AcquisitionContext
    instances: tuple[InstanceRef, ...]
    use: PackInput | None


@dataclass(frozen=True, slots=True, eq=False)
class _SeriesOutcome:
    """`key_frame` is what the decoder describes; `sources` are the headers of all instances that findings stand on.

    `unread`: how many images could not be read.
    """

    plan: _SeriesPlan
    findings: tuple[Finding, ...]
    key_frame: EncodedFrame | None
    images: tuple[Image, ...]
    sources: tuple[SourceContext, ...]
    warnings: tuple[ResultWarning, ...]
    unread: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class StudyAnalyser:
    """Runs one pack on studies. Holds no state of a study: many analyses may run at once.

    `notices` stand among the warnings of every result. `observer` is told of each analysis when it is done. `remote`, a
    text service, writes before `author`, who writes where it fails.
    """

    pack: ModelPack
    author: ReportAuthor | None
    prompts: PromptEmbeddings
    source: InstanceSource
    preprocessor: Preprocessor
    runner: ModelRunner
    policy: IntendedUsePolicy
    limits: AnalysisLimits = AnalysisLimits()
    notices: tuple[ResultWarning, ...] = ()
    observer: AnalysisObserver | None = None
    remote: RemoteAuthor | None = None
    templates: Mapping[str, TemplateAuthor] = field(default_factory=dict)

    async def analyse(
        self, request: AnalysisRequest, deadline: Deadline
    ) -> AsyncGenerator[ReportText | Analysis, None]:
        """Yield the report's text as it is written, then the Analysis.

        Raises RadserveError: STUDY_NOT_FOUND, SERIES_NOT_FOUND, NO_APPLICABLE_INPUT, OUTSIDE_INTENDED_USE (strict
        sites), ModelError, and what reading the first image raised where none could be read. An image or a volume that
        cannot be read does not hold up the others: warnings and the draft name it, and the result is incomplete.
        """
        watch = Stopwatch()
        template = self.templates.get(request.options.language)
        wording = WORDINGS.get(request.options.language, ENGLISH) if template else wording_of(request.options.language)
        if request.report and self.pack.decoder and not template:
            check_language(self.pack, request.options.language)
        plans = await self._plan(request)
        warnings = [*self.notices, *request.warnings, *self._check(plans, request.context)]
        outcomes, unread = await self._find_all(plans, watch, deadline)
        warnings += [warning for outcome in outcomes for warning in outcome.warnings] + unread
        warnings += [warning for outcome in outcomes for warning in consistency_warnings(outcome.findings)]
        report: Report | None = None
        generation: GenerationRecord | None = None
        writer: Writer | None = template or self.remote or self.author
        if request.report:
            texts: dict[str, ReviewedText] = {}
            with watch.stage("report"):
                async with aclosing(self._write(outcomes, request.options, deadline)) as events:
                    async for event in events:
                        if isinstance(event, ReportText):
                            yield event
                        elif isinstance(event, ResultWarning):
                            warnings.append(event)
                            writer = self.remote if writer is template and self.remote else self.author
                        else:
                            texts[event.series_instance_uid] = event
            labels_of = writer.checker.labels_of if writer else None
            texts = self._borne_out(outcomes, texts, wording, labels_of)
            drafts = [self._draft(each, texts.get(each.plan.series_instance_uid), wording) for each in outcomes]
            warnings += [warning for text in texts.values() for warning in text.warnings]
            if writer and texts:
                generation = writer.record(request.options, list(texts.values()))
            try:
                left_out = [warning.message for warning in unread]
                report = compose_draft(request.context, drafts, self.pack.ref, left_out, wording, labels_of)
            except DraftError as error:  # the findings are delivered without it
                text = f"No draft was built: {error.client_message}."
                warnings.append(ResultWarning(WarningCode.REPORT_WITHOUT_EVIDENCE, text))
        images = tuple(image for outcome in outcomes for image in outcome.images)
        analysed = [outcome.plan for outcome in outcomes]
        analysis = Analysis(
            StudyResult(
                study_instance_uid=request.study.study_instance_uid,
                series=tuple(_summary(plan, analysed=plan in analysed) for plan in plans),
                findings=tuple(finding for outcome in outcomes for finding in outcome.findings),
                report=report,
                pack=self.pack.ref,
                context=request.context,
                sources=tuple(source for outcome in outcomes for source in outcome.sources),
                timings_ms=watch.timings_ms(),
                warnings=tuple(dict.fromkeys(warnings)),
                generation=generation,
                prompts=self.prompts.record,
                tasks=self._tasks(outcomes),
                provenance=self._provenance(writer if generation else None),
            ),
            images,
        )
        if self.observer:
            self.observer(self.source, request, analysis)
        yield analysis

    async def _plan(self, request: AnalysisRequest) -> list[_SeriesPlan]:
        found = await self.source.list_instances(request.study)
        plans = []
        for uid, members in groupby(found, key=lambda pair: pair[0].series_instance_uid):
            if request.series_instance_uid not in ("", uid):
                continue
            instances = list(members)
            acquisition = instances[0][1]
            refs = tuple(instance for instance, _ in instances)
            plans.append(_SeriesPlan(uid, acquisition, refs, input_for(self.pack, acquisition)))
        if not plans:
            message = f"the study has no series {request.series_instance_uid}"
            raise RequestError(ErrorCode.SERIES_NOT_FOUND, message)
        analysed = [plan for plan in plans if plan.use]
        if not analysed:
            found_modalities = sorted({plan.acquisition.modality or "(none)" for plan in plans})
            taken = sorted({modality for each in self.pack.inputs for modality in each.modalities})
            message = f"pack {self.pack.name} takes modality {taken}; the study has {found_modalities}"
            raise RequestError(ErrorCode.NO_APPLICABLE_INPUT, message)
        count = sum(len(plan.instances) for plan in analysed if plan.use and plan.use.kind == "image")
        if count > self.limits.max_instances:
            message = f"got {count} images to analyse, expected at most {self.limits.max_instances}"
            raise RequestError(ErrorCode.REQUEST_TOO_LARGE, message)
        return plans

    def _check(self, plans: Sequence[_SeriesPlan], context: ClinicalContext) -> list[ResultWarning]:
        warnings: list[ResultWarning] = []
        for plan in plans:
            if plan.use is None:
                message = (
                    f"A series of modality {plan.acquisition.modality or '(none)'} was not analysed by this model."
                )
                warnings.append(ResultWarning(WarningCode.SERIES_NOT_ANALYSED, message))
                continue
            warnings += check_intended_use(plan.use, plan.acquisition, context, self.policy)
            warnings += check_conflicts(plan.acquisition, context)
        if not self.prompts.calibrated:
            message = "The prompt set of the request is not the pack's own: its thresholds were not set with it."
            warnings.append(ResultWarning(WarningCode.PROMPTS_NOT_CALIBRATED, message))
        if context.prior_study_instance_uid:
            message = "The prior study named in the request was not compared: this model reads one study."
            warnings.append(ResultWarning(WarningCode.PRIOR_NOT_COMPARED, message))
        return warnings

    async def _find_all(
        self, plans: Sequence[_SeriesPlan], watch: Stopwatch, deadline: Deadline
    ) -> tuple[list[_SeriesOutcome], list[ResultWarning]]:
        """The outcomes of the series, and warnings for those that cannot be read; the first error where none can."""
        outcomes: list[_SeriesOutcome] = []
        errors: list[RadserveError] = []
        warnings: list[ResultWarning] = []
        for plan in plans:
            if plan.use is None:
                continue
            try:
                outcomes.append(await self._find(plan, plan.use, watch, deadline))
            except (DicomError, GeometryError, WorkerError) as error:
                if error.code in NOT_OF_THE_INPUT:
                    raise
                errors.append(error)
                text = f"A series of modality {plan.acquisition.modality} was not analysed ({_cause(error)})."
                warnings.append(ResultWarning(WarningCode.SERIES_NOT_ANALYSED, text))
        if not outcomes:
            raise errors[0]
        return outcomes, warnings

    async def _find(self, plan: _SeriesPlan, use: PackInput, watch: Stopwatch, deadline: Deadline) -> _SeriesOutcome:
        if use.kind == "volume":
            return await self._find_in_volume(plan, use, watch, deadline)
        return await self._find_in_images(plan, use, watch, deadline)

    async def _find_in_volume(
        self, plan: _SeriesPlan, use: PackInput, watch: Stopwatch, deadline: Deadline
    ) -> _SeriesOutcome:
        with watch.stage("decode"):
            volume = await self.source.read_volume(plan.instances)
        with watch.stage("preprocess"):
            prepared = await self.preprocessor.prepare_volume(volume, use.name)
        with watch.stage("classify"):
            directions = self.prompts.directions
            found = await find_in_volume(self.pack, use, directions, self.runner, volume, prepared, deadline)
        images = await self._images(found, watch)
        warnings = [ResultWarning(WarningCode.PIXELS, text) for text in volume.provenance.warnings]
        warnings += cut_warnings(volume.geometry, prepared.transform)
        return _SeriesOutcome(plan, found, None, images, volume.sources, tuple(warnings))

    async def _find_in_images(
        self, plan: _SeriesPlan, use: PackInput, watch: Stopwatch, deadline: Deadline
    ) -> _SeriesOutcome:
        encoded: list[EncodedFrame] = []
        graphs = self.pack.graphs_of(use)
        warnings: list[ResultWarning] = []
        errors: list[RadserveError] = []
        for instance in plan.instances:
            deadline.remaining_s()
            try:
                with watch.stage("decode"):
                    image = await self.source.read_image(instance)
            except (DicomError, WorkerError) as error:
                if error.code in NOT_OF_THE_INPUT:
                    raise
                errors.append(error)
                text = f"The image {instance.sop_instance_uid} was not analysed ({_cause(error)})."
                warnings.append(ResultWarning(WarningCode.IMAGE_NOT_ANALYSED, text))
                continue
            frames = _sample(image.frames, self.limits.max_frames_per_instance)
            warnings += _image_warnings(image, frames)
            with watch.stage("preprocess"):
                prepared = await self.preprocessor.prepare(image, use.name, frames)
            with watch.stage("classify"):
                encoding = encode_frames(self.pack, self.runner, instance, frames, prepared, deadline, graphs)
                encoded += [frame async for frame in encoding]
        if not encoded:
            raise errors[0]
        found = [
            find_label(self.pack, label, self.prompts.directions.get(label.name), encoded)
            for label in self.pack.labels
            if label.name in use.labels
        ]
        findings = gauge(self.pack, use, found)
        warnings += check_findings(use, findings, self.policy)
        images = await self._images(findings, watch, image)
        sources = tuple(each.source for each in images)
        return _SeriesOutcome(plan, findings, found[0][1], images, sources, tuple(warnings), len(errors))

    async def _images(
        self, findings: Sequence[Finding], watch: Stopwatch, last: Image | None = None
    ) -> tuple[Image, ...]:
        """The images that findings stand on. A long series is not held in memory: they are read again."""
        shown = dict.fromkeys(finding.region.instance for finding in findings)
        with watch.stage("decode"):
            kept = [last if last and each == last.instance else await self.source.read_image(each) for each in shown]
        return tuple(kept)

    async def _write(
        self, outcomes: Sequence[_SeriesOutcome], options: ReportOptions, deadline: Deadline
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
                text = f"The report template did not write this draft ({_cause(error)})."
                yield ResultWarning(WarningCode.REPORT_TEMPLATE_FAILED, text)
        if self.remote and options.language in WORDINGS:
            try:
                async with aclosing(self.remote.write(found, options, deadline)) as events:
                    async for event in events:
                        yield event
                return
            except ModelError as error:
                text = f"The text service did not write this draft ({_cause(error)})."
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

    def _provenance(self, writer: Writer | None) -> ProvenanceRecord:
        """That of the pack, and of the template that worded the draft."""
        found = self.pack.provenance
        if not isinstance(writer, TemplateAuthor):
            return found
        return replace(found, plugins=(*found.plugins, writer.site.ref))

    def _tasks(self, outcomes: Sequence[_SeriesOutcome]) -> tuple[TaskAnswer, ...]:
        """The further tasks of the prompt set, answered on each series' key frame: the encoder does not run again."""
        scales = [label.scoring.logit_scale for label in self.pack.labels if isinstance(label.scoring, PromptScoring)]
        if not (self.prompts.tasks and scales):
            return ()
        return tuple(
            answer
            for each in outcomes
            if each.key_frame
            for answer in self.prompts.answer(each.plan.series_instance_uid, each.key_frame.embedding, scales[0])
        )

    def _borne_out(
        self,
        outcomes: Sequence[_SeriesOutcome],
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

    def _draft(self, outcome: _SeriesOutcome, text: ReviewedText | None, wording: Wording) -> SeriesDraft:
        if text is None:
            return _series_draft(outcome, template_sections(outcome.findings, wording), template=True)
        draft = _series_draft(outcome, text.sections, withheld=text.withheld, template=text.by_template)
        return replace(draft, writer=text.writer)


def _sample(frames: int, most: int) -> list[int]:
    """At most `most` of the frame indices 0 .. frames - 1, evenly spread, first and last among them."""
    if frames <= most:
        return list(range(frames))
    return sorted({round(index) for index in np.linspace(0, frames - 1, most)})


def _image_warnings(image: Image, analysed: Sequence[int]) -> list[ResultWarning]:
    warnings = [ResultWarning(WarningCode.PIXELS, text) for text in image.provenance.warnings]
    warnings += [ResultWarning(WarningCode.IMAGE_QUALITY, text) for text in quality_problems(image, analysed)]
    if len(analysed) < image.frames:
        message = f"{len(analysed)} of the {image.frames} frames of an image were analysed, evenly spread."
        warnings.append(ResultWarning(WarningCode.FRAMES_SAMPLED, message))
    return warnings


def _cause(error: RadserveError) -> str:
    return f"{error.code}: {error.client_message}"


def _series_draft(
    outcome: _SeriesOutcome, sections: tuple[tuple[str, str], ...], *, withheld: str = "", template: bool = False
) -> SeriesDraft:
    plan, unread = outcome.plan, outcome.unread
    images = len(plan.instances) - unread
    uid = plan.series_instance_uid
    return SeriesDraft(plan.acquisition, images, sections, outcome.findings, uid, withheld, template, unread)


def _summary(plan: _SeriesPlan, *, analysed: bool) -> SeriesSummary:
    return SeriesSummary(
        series_instance_uid=plan.series_instance_uid,
        modality=plan.acquisition.modality,
        body_part=plan.acquisition.body_part,
        instances=len(plan.instances),
        analysed=analysed,
        input_name=plan.use.name if plan.use and analysed else "",
    )
