"""What the workflow asks of the rest of radserve (pipelines.workflow.StudyAnalysis): stored studies, packs, writers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from radserve.dicom_io.facts import read_facts
from radserve.dicom_io.parse import source_context
from radserve.dicom_io.result_objects import failure_objects, instance_of, result_objects
from radserve.dicom_io.store import StudyStore
from radserve.dicom_io.write_base import OutputKind
from radserve.errors import DicomError, ErrorCode, GeometryError, ModelError, PackError, RadserveError, RequestError
from radserve.image import Image, Volume
from radserve.models.catalogue import split_reference
from radserve.pipelines.deadline import Deadline
from radserve.pipelines.rules import StudyFacts
from radserve.pipelines.study import Analysis, AnalysisRequest, StudyAnalyser
from radserve.pipelines.workflow import AnalysisJob
from radserve.ports import InstanceSource, ResultStore, WorkLedger
from radserve.references import AcquisitionContext, InstanceRef, StudyRef
from radserve.results import PackRef, ResultWarning, StudyFailure, WarningCode
from radserve.server.operation.served import ServedPacks
from radserve.server.study_facts import series_facts
from radserve.work import ResultObject
from radserve.workers import WorkerPool

USUAL_OUTPUTS = ("sr", "sc")
MISSING = ResultWarning(
    WarningCode.STUDY_INCOMPLETE,
    "The study was closed before all of its instances had come; those that were missing are not in this result.",
)


@dataclass(frozen=True, slots=True)
class Selection:
    """Some instances of a store, as if there were no others (ports.InstanceSource)."""

    source: InstanceSource
    instances: frozenset[InstanceRef]

    async def list_studies(self) -> Sequence[StudyRef]:
        return [StudyRef(uid) for uid in sorted({each.study_instance_uid for each in self.instances})]

    async def list_instances(self, study: StudyRef) -> Sequence[tuple[InstanceRef, AcquisitionContext]]:
        return [each for each in await self.source.list_instances(study) if each[0] in self.instances]

    async def same_patient(self, one: StudyRef, other: StudyRef) -> bool:
        return await self.source.same_patient(one, other)

    async def read_image(self, instance: InstanceRef) -> Image:
        return await self.source.read_image(instance)

    async def read_volume(self, instances: Sequence[InstanceRef]) -> Volume:
        return await self.source.read_volume(instances)


@dataclass(frozen=True, slots=True)
class StoredStudyAnalysis:
    """Analyses what is in the store. `keywords`: the tags that the rules ask for."""

    store: StudyStore
    ledger: WorkLedger
    results: ResultStore
    packs: ServedPacks
    workers: WorkerPool
    keywords: tuple[str, ...] = ()
    analysis_s: float = 600.0

    async def facts(self, study: StudyRef, instances: Sequence[InstanceRef]) -> StudyFacts:
        wanted = set(instances)
        calling_aes = await self.ledger.calling_aes(study)
        series: dict[str, list[tuple[InstanceRef, AcquisitionContext]]] = {}
        for instance, context in await self.store.list_instances(study):
            if instance in wanted:
                series.setdefault(instance.series_instance_uid, []).append((instance, context))
        first = [self.store.path(members[0][0]) for members in series.values()]
        read = await self.workers.run(read_facts, first, self.keywords) if self.keywords else [None] * len(first)
        facts = []
        for (uid, members), tags in zip(series.items(), read, strict=True):
            if isinstance(tags, RadserveError):
                raise tags
            contexts = [context for _, context in members]
            facts.append(series_facts(uid, contexts, calling_aes.get(uid, ""), tags.tags if tags else {}))
        return StudyFacts(study.study_instance_uid, tuple(facts))

    async def digest(self, pack: str) -> str:
        return self.packs.pack(pack).digest

    async def analyse(self, job: AnalysisJob) -> Sequence[ResultObject]:
        """The objects of the result. A study that cannot be analysed has one, too: the SR that says so."""
        name = split_reference(job.result.pack)[0]
        try:
            # The version whose digest names the result, even where another one has been promoted meanwhile.
            async with self.packs.lease(f"{name}@{job.result.pack_digest}") as analyser:
                return await self._analyse(job, analyser)
        except PackError as error:
            if error.code is not ErrorCode.PACK_NOT_LOADED:
                raise
            message = f"the version of pack {name!r} was replaced while the study waited"
            raise ModelError(ErrorCode.MODEL_UNAVAILABLE, message) from error  # the next attempt takes the new one

    async def _analyse(self, job: AnalysisJob, analyser: StudyAnalyser) -> Sequence[ResultObject]:
        selected = replace(analyser, source=Selection(self.store, frozenset(job.instances)))
        warnings = (MISSING,) if job.result.incomplete else ()
        request = AnalysisRequest(StudyRef(job.result.study_instance_uid), warnings=warnings)
        revised: dict[str, Any] = {
            "revision": job.result.revision,
            "predecessor": await self._document(job.result.predecessor_uid),
        }
        try:
            async for event in selected.analyse(request, Deadline.after(self.analysis_s)):
                if isinstance(event, Analysis):
                    outputs = job.outputs or USUAL_OUTPUTS
                    result = replace(event.result, **revised)
                    made: Sequence[ResultObject] = await self.workers.run(result_objects, result, event.images, outputs)
                    return made
        except (DicomError, GeometryError, RequestError) as error:
            return await self._failure(job, error, analyser.pack.ref, {**revised, "context": request.context})
        raise AssertionError("an analysis ends with its result")

    async def _document(self, result_uid: str) -> InstanceRef | None:
        """The SR of an earlier result, None where there is none."""
        if not result_uid or not await self.results.holds(result_uid):
            return None
        for name, output, _ in await self.results.objects(result_uid):
            if output == OutputKind.SR:
                data = (await self.results.read(result_uid, name)).data
                found: InstanceRef = await self.workers.run(instance_of, data)
                return found
        return None

    async def _failure(
        self, job: AnalysisJob, error: RadserveError, pack: PackRef, revised: Mapping[str, Any]
    ) -> Sequence[ResultObject]:
        failure = StudyFailure(error.code, error.client_message, "", job.result.study_instance_uid, **revised)
        source = await self.workers.run(source_context, self.store.path(job.instances[0]))
        made: Sequence[ResultObject] = await self.workers.run(failure_objects, failure, [source], pack)
        return made
