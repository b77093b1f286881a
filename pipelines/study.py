"""One study from stored instances to a result: the same code live and in a batch."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from itertools import groupby

from radserve.clinical_context import ClinicalContext
from radserve.errors import DicomError, ErrorCode, GeometryError, RequestError, WorkerError
from radserve.image import Image
from radserve.models.pack import ModelPack
from radserve.models.pack_types import PromptScoring
from radserve.pipelines.authoring import ReportAuthor, ReportOptions, ReportText
from radserve.pipelines.consistency import consistency_warnings
from radserve.pipelines.deadline import Deadline
from radserve.pipelines.intended_use import IntendedUsePolicy, check_conflicts, check_intended_use, input_for
from radserve.pipelines.prior import PriorReading
from radserve.pipelines.prompts import PromptEmbeddings
from radserve.pipelines.remote_report import RemoteAuthor
from radserve.pipelines.series import SeriesFinder, SeriesOutcome, SeriesPlan
from radserve.pipelines.stopwatch import Stopwatch
from radserve.pipelines.study_report import StudyWriter, WrittenReport
from radserve.pipelines.template_report import TemplateAuthor
from radserve.ports import InstanceSource, ModelRunner, Preprocessor
from radserve.references import StudyRef
from radserve.results import ResultWarning, StudyResult, TaskAnswer, WarningCode

PRIOR_NOT_READ = (
    "The prior study named in the request was not compared: there is none here of this patient that this model is for."
)
PRIOR_READ = "The images of the prior study were not compared: the model read each study by itself."

logger = logging.getLogger(__name__)


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


AnalysisObserver = Callable[[InstanceSource, AnalysisRequest, Analysis], None]


@dataclass(frozen=True, slots=True)
class AnalysisLimits:
    """Bounds of one analysis."""

    max_frames_per_instance: int = 64
    max_instances: int = 512


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
        writer = StudyWriter(self.pack, self.author, self.remote, self.templates)
        if request.report:
            writer.check(request.options.language)
        plans = await self._plan(request)
        warnings = [*self.notices, *request.warnings, *self._check(plans, request.context)]
        outcomes, unread = await self._finder.find_all(plans, watch, deadline)
        prior: PriorReading | None = None
        if request.report and request.context.prior_study_instance_uid:
            with watch.stage("prior"):
                prior = await self._read_prior(request, outcomes, deadline)
        if request.context.prior_study_instance_uid:
            warnings.append(ResultWarning(WarningCode.PRIOR_NOT_COMPARED, PRIOR_READ if prior else PRIOR_NOT_READ))
        warnings += [warning for outcome in outcomes for warning in outcome.warnings] + unread
        warnings += [warning for outcome in outcomes for warning in consistency_warnings(outcome.findings)]
        written = WrittenReport(None, None, (), self.pack.provenance)
        if request.report:
            left_out = [warning.message for warning in unread]
            with watch.stage("report"):
                writing = writer.write(outcomes, request.context, left_out, request.options, deadline, prior)
                async with aclosing(writing) as events:
                    async for event in events:
                        if isinstance(event, ReportText):
                            yield event
                        else:
                            written = event
        result = self._result(request, plans, outcomes, written, [*warnings, *written.warnings], watch)
        analysis = Analysis(result, tuple(image for outcome in outcomes for image in outcome.images))
        if self.observer:
            self.observer(self.source, request, analysis)
        yield analysis

    @property
    def _finder(self) -> SeriesFinder:
        most = self.limits.max_frames_per_instance
        return SeriesFinder(self.pack, self.prompts, self.source, self.preprocessor, self.runner, self.policy, most)

    def _result(
        self,
        request: AnalysisRequest,
        plans: Sequence[SeriesPlan],
        outcomes: Sequence[SeriesOutcome],
        written: WrittenReport,
        warnings: Sequence[ResultWarning],
        watch: Stopwatch,
    ) -> StudyResult:
        analysed = [outcome.plan for outcome in outcomes]
        return StudyResult(
            study_instance_uid=request.study.study_instance_uid,
            series=tuple(plan.summary(analysed=plan in analysed) for plan in plans),
            findings=tuple(finding for outcome in outcomes for finding in outcome.findings),
            report=written.report,
            pack=self.pack.ref,
            context=request.context,
            sources=tuple(source for outcome in outcomes for source in outcome.sources),
            timings_ms=watch.timings_ms(),
            warnings=tuple(dict.fromkeys(warnings)),
            generation=written.generation,
            prompts=self.prompts.record,
            tasks=self._tasks(outcomes),
            provenance=written.provenance,
        )

    async def _plan(self, request: AnalysisRequest) -> list[SeriesPlan]:
        found = await self.source.list_instances(request.study)
        plans = []
        for uid, members in groupby(found, key=lambda pair: pair[0].series_instance_uid):
            if request.series_instance_uid not in ("", uid):
                continue
            instances = list(members)
            acquisition = instances[0][1]
            refs = tuple(instance for instance, _ in instances)
            plans.append(SeriesPlan(uid, acquisition, refs, input_for(self.pack, acquisition)))
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

    async def _read_prior(
        self, request: AnalysisRequest, outcomes: Sequence[SeriesOutcome], deadline: Deadline
    ) -> PriorReading | None:
        """What the pack finds in the prior study; None where there is none here of this patient that it is for."""
        prior = StudyRef(request.context.prior_study_instance_uid)
        if prior == request.study:
            return None
        try:
            if not await self.source.same_patient(request.study, prior):
                return None
            plans = await self._plan(AnalysisRequest(prior))
            warnings = self._check(plans, ClinicalContext())
            found, _ = await self._finder.find_all(plans, Stopwatch(), deadline)
        except (RequestError, DicomError, GeometryError, WorkerError) as error:
            logger.info("the prior study of a request was not read: %s", error.code)
            return None
        warnings += [warning for outcome in found for warning in outcome.warnings]
        if {WarningCode.OUTSIDE_INTENDED_USE, WarningCode.OUT_OF_DISTRIBUTION} & {each.code for each in warnings}:
            return None
        findings = tuple(finding for outcome in found for finding in outcome.findings)
        reading = PriorReading(prior.study_instance_uid, plans[0].acquisition.study_date, findings)
        if reading.study_date > max(each.plan.acquisition.study_date or reading.study_date for each in outcomes):
            return None
        return reading if reading.beside([each for outcome in outcomes for each in outcome.findings]) else None

    def _check(self, plans: Sequence[SeriesPlan], context: ClinicalContext) -> list[ResultWarning]:
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
        return warnings

    def _tasks(self, outcomes: Sequence[SeriesOutcome]) -> tuple[TaskAnswer, ...]:
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
