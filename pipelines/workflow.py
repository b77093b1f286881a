"""The way of a study: received -> complete -> analysed -> delivered.

What is true of a study is in the ledger alone, so that any process can end at any moment: every step looks there
first, does what is missing and notes it. A result is named by what it was made from (its instances, the pack's digest,
the revision), so that doing a step twice makes it once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from radserve.errors import DicomError, ErrorCode, GeometryError, PackError, RadserveError, RequestError
from radserve.pipelines.rules import Decision, Route, RuleSet, StudyFacts, match
from radserve.pipelines.timing import Clock, CompletionPolicy, RetryPolicy
from radserve.ports import DurableWork, ResultStore, WorkLedger
from radserve.references import InstanceRef, StudyRef
from radserve.uids import derive_uid
from radserve.work import (
    Delivery,
    DeliveryKey,
    QuarantineEntry,
    QuarantineKind,
    ResultObject,
    ResultRecord,
    Revision,
    StudyState,
)

logger = logging.getLogger(__name__)

KIND = "study"
# The same input fails the same way: trying again would only take longer to say so.
FINAL = (DicomError, GeometryError, PackError, RequestError)


@dataclass(frozen=True, slots=True)
class AnalysisJob:
    """One pack on one revision. `outputs` are the kinds of objects that some destination wants, () for the usual ones.

    `result` says how the result is called and which one it replaces.
    """

    result: ResultRecord
    instances: tuple[InstanceRef, ...]
    outputs: tuple[str, ...]


class StudyAnalysis(Protocol):
    """What the workflow asks of the rest of radserve. Both may be called again for the same study."""

    async def facts(self, study: StudyRef, instances: Sequence[InstanceRef]) -> StudyFacts:
        """What the routing rules may ask of the study."""
        ...

    async def digest(self, pack: str) -> str:
        """The pipeline digest of a pack. Raises PackError UNKNOWN_PACK."""
        ...

    async def analyse(self, job: AnalysisJob) -> Sequence[ResultObject]:
        """The files of the result; the same job gives the same SOP Instance UIDs."""
        ...


@dataclass(frozen=True, slots=True)
class WorkflowOptions:
    """The site's choices. `usual_outputs`: what each destination gets where a rule does not say."""

    rules: RuleSet
    completion: CompletionPolicy = field(default_factory=CompletionPolicy)
    retries: RetryPolicy = field(default_factory=RetryPolicy)
    usual_outputs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    poll_s: float = 1.0


class StudyWorkflow:
    """Closes studies that are complete and analyses their revisions; deliveries are left in the outbox."""

    def __init__(
        self,
        ledger: WorkLedger,
        results: ResultStore,
        analysis: StudyAnalysis,
        work: DurableWork,
        clock: Clock,
        options: WorkflowOptions,
    ) -> None:
        self._ledger = ledger
        self._results = results
        self._analysis = analysis
        self._work = work
        self._clock = clock
        self._options = options
        self._started: set[str] = set()
        self._attempts: dict[str, asyncio.Task[RadserveError | None]] = {}
        work.register(KIND, [("analyse", self.analyse)])

    async def run(self) -> None:
        """Look at the studies until cancelled. A look that fails is logged and repeated."""
        while True:
            try:
                await self.tick()
            except Exception as error:  # a full disk comes and goes
                logger.warning("the workflow could not look at its studies: %s", _name(error))
            await self._clock.sleep(self._options.poll_s)

    async def tick(self) -> None:
        """Close the studies that are complete by now, put what is to be analysed in the queue, and stop what is not.

        What was called off, erased or finished by others meanwhile ends wherever it is: its worker is killed.
        """
        for study in await self._ledger.open_studies():
            incomplete = self._options.completion.incomplete(study, self._clock.now())
            if incomplete is not None:
                reference = StudyRef(study.study_instance_uid)
                await self._ledger.close(reference, incomplete=incomplete, now=self._clock.now())
        # One revision of a study after the other: a result names the one before it.
        first: dict[str, Revision] = {}
        attempts = dict(self._attempts)
        complete = await self._ledger.revisions(StudyState.COMPLETE)
        for work_id in attempts.keys() - {revision.work_id for revision in complete}:
            attempts[work_id].cancel()
        for revision in complete:
            before = first.setdefault(revision.study_instance_uid, revision)
            if revision.revision < before.revision:
                first[revision.study_instance_uid] = revision
        waiting = [revision.work_id for revision in first.values()]
        for work_id in waiting:
            if work_id not in self._started:
                await self._work.start(KIND, work_id)
        self._started = set(waiting)

    async def analyse(self, work_id: str) -> None:
        """Make the results of a revision, or put it in quarantine. An attempt that ends the process counts too."""
        revision = await self._ledger.revision(work_id)
        policy = self._options.retries
        while revision and revision.state is StudyState.COMPLETE:
            attempt = await self._ledger.begin_attempt(revision)
            if attempt > policy.attempts:
                text = f"the process ended during each of {policy.attempts} attempts"
                await self._give_up(revision, RadserveError(ErrorCode.WORKER_DIED, text))
                return
            error = await self._in_task(revision)
            revision = await self._ledger.revision(work_id)
            if error is None or revision is None or revision.state is not StudyState.COMPLETE:
                return
            logger.warning("attempt %d of work %s failed: %s", attempt, work_id, error.code)
            if isinstance(error, FINAL) or attempt == policy.attempts:
                await self._give_up(revision, error)
                return
            await self._clock.sleep(policy.wait_s(attempt))
            revision = await self._ledger.revision(work_id)

    async def _in_task(self, revision: Revision) -> RadserveError | None:
        """One attempt, which `tick` can stop; it has no error then."""
        task = asyncio.create_task(self._attempt(revision))
        self._attempts[revision.work_id] = task
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:  # an orderly end is not the study's fault
            task.cancel()
            await asyncio.wait({task})
            await asyncio.shield(self._ledger.give_back_attempt(revision))
            raise
        finally:
            self._attempts.pop(revision.work_id)
        return None if task.cancelled() else task.result()

    async def _attempt(self, revision: Revision) -> RadserveError | None:
        try:
            return await self._make_results(revision)
        except RadserveError as error:
            return error
        except Exception as error:
            # The text of a foreign exception may hold patient data.
            return RadserveError(ErrorCode.INTERNAL, f"the analysis failed: {type(error).__name__}")

    async def _make_results(self, revision: Revision) -> RadserveError | None:
        """One result for each pack; the failure of one does not keep the others from theirs."""
        study = StudyRef(revision.study_instance_uid)
        instances = await self._ledger.instances(revision)
        if not instances:  # erased meanwhile
            return None
        routing = match(self._options.rules, await self._analysis.facts(study, instances))
        errors: list[RadserveError] = []
        for decision in routing.decisions:
            try:
                await self._make_result(revision, decision, _of_series(instances, decision))
            except RadserveError as error:
                errors.append(error)
        if not errors:
            state = StudyState.ANALYSED if routing.decisions else StudyState.NOT_ROUTED
            await self._ledger.finish(revision, state)
        return min(errors, key=lambda error: isinstance(error, FINAL), default=None)

    async def _make_result(self, revision: Revision, decision: Decision, instances: Sequence[InstanceRef]) -> None:
        digest = await self._analysis.digest(decision.pack)
        uids = [instance.sop_instance_uid for instance in instances]
        predecessor = await self._ledger.predecessor(revision, decision.pack)
        if predecessor and predecessor.pack_digest == digest:
            before = await self._ledger.instances(replace(revision, revision=predecessor.revision))
            if [each.sop_instance_uid for each in _of_series(before, decision)] == uids:
                return  # what came late is not for this pack: its result stands
        result = ResultRecord(
            result_uid=derive_uid("result", digest, str(revision.revision), *uids),
            study_instance_uid=revision.study_instance_uid,
            revision=revision.revision,
            pack=decision.pack,
            pack_digest=digest,
            predecessor_uid=predecessor.result_uid if predecessor else "",
            incomplete=revision.incomplete,
        )
        if await self._ledger.result(result.result_uid):
            return
        if not await self._results.holds(result.result_uid):
            wanted = dict.fromkeys(name for route in decision.routes for name in self._outputs(route))
            job = AnalysisJob(result, tuple(instances), tuple(wanted))
            await self._results.keep(result, await self._analysis.analyse(job))
        await self._ledger.add_result(result, await self._deliveries(result, decision), self._clock.now())

    async def _deliveries(self, result: ResultRecord, decision: Decision) -> list[Delivery]:
        objects = await self._results.objects(result.result_uid)
        return [
            Delivery(DeliveryKey(result.result_uid, route.destination, sop_instance_uid), name)
            for route in decision.routes
            for name, output, sop_instance_uid in objects
            if sop_instance_uid and (output in self._outputs(route) or not self._outputs(route))
        ]

    def _outputs(self, route: Route) -> tuple[str, ...]:
        return route.outputs or self._options.usual_outputs.get(route.destination, ())

    async def _give_up(self, revision: Revision, error: RadserveError) -> None:
        logger.warning("work %s is put in quarantine: %s", revision.work_id, error.code)
        entry = QuarantineEntry(
            quarantine_id=derive_uid("quarantine", revision.work_id),
            kind=QuarantineKind.STUDY,
            study_instance_uid=revision.study_instance_uid,
            code=error.code,
            reason=error.client_message,
            created_at=self._clock.now(),
            revision=revision.revision,
        )
        await self._ledger.put_in_quarantine(entry)


def _of_series(instances: Sequence[InstanceRef], decision: Decision) -> list[InstanceRef]:
    return [each for each in instances if each.series_instance_uid in decision.series_instance_uids]


def _name(error: Exception) -> str:
    return str(error.code) if isinstance(error, RadserveError) else type(error).__name__
