"""InferenceService: findings, streamed report text and result files of a study."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace

from radserve._checks import check_uid
from radserve.clinical_context import ClinicalContext
from radserve.dicom_io.result_objects import check_outputs
from radserve.dicom_io.store import StudyStore
from radserve.errors import ErrorCode, RadserveError, RequestError
from radserve.owned_folder import owned_folder
from radserve.pipelines.authoring import ReportText
from radserve.pipelines.deadline import Deadline
from radserve.pipelines.study import Analysis, AnalysisRequest
from radserve.ports import ReportWriter
from radserve.references import StudyRef
from radserve.results import Artifact, ResultWarning, WarningCode
from radserve.server.context.read import combined, read_context
from radserve.server.operation.served import ServedPacks
from radserve.server.prompt_library import PromptLibrary
from radserve.server.rpc.convert import context_from_message, report_options_from_message, result_to_message
from radserve.server.rpc.errors import Context, answered, streamed
from radserve.server.stores import Stores
from radserve.v1 import inference_pb2, inference_pb2_grpc

ARTIFACT_CHUNK = 1 << 20


class InferenceService(inference_pb2_grpc.InferenceServiceServicer):
    """Serves radserve.v1.InferenceService."""

    def __init__(
        self, store: StudyStore, stores: Stores, packs: ServedPacks, prompts: PromptLibrary, writer: ReportWriter
    ) -> None:
        self._store = store
        self._stores = stores
        self._packs = packs
        self._prompts = prompts
        self._writer = writer

    async def ClassifyLesions(
        self, request: inference_pb2.ClassifyLesionsRequest, context: Context
    ) -> inference_pb2.ClassifyLesionsResponse:
        return await answered("ClassifyLesions", context, self._classify(request, _deadline(context)))

    async def GenerateReport(
        self, request: inference_pb2.GenerateReportRequest, context: Context
    ) -> AsyncIterator[inference_pb2.GenerateReportResponse]:
        answers = streamed("GenerateReport", context, self._generate(request, _deadline(context)))
        async with aclosing(answers):
            async for answer in answers:
                yield answer

    async def AnalyseStudy(
        self, request: inference_pb2.AnalyseStudyRequest, context: Context
    ) -> AsyncIterator[inference_pb2.AnalyseStudyResponse]:
        answers = streamed("AnalyseStudy", context, self._analyse_study(request, _deadline(context)))
        async with aclosing(answers):
            async for answer in answers:
                yield answer

    async def _classify(
        self, request: inference_pb2.ClassifyLesionsRequest, deadline: Deadline
    ) -> inference_pb2.ClassifyLesionsResponse:
        async with aclosing(self._analyse(request.input, deadline, report=False)) as events:
            async for event in events:
                if isinstance(event, Analysis):
                    return inference_pb2.ClassifyLesionsResponse(result=result_to_message(event.result))
        raise RequestError(ErrorCode.INTERNAL, "the analysis ended without a result")

    async def _generate(
        self, request: inference_pb2.GenerateReportRequest, deadline: Deadline
    ) -> AsyncGenerator[inference_pb2.GenerateReportResponse, None]:
        async with aclosing(self._analyse(request.input, deadline, report=True)) as events:
            async for event in events:
                if isinstance(event, ReportText):
                    yield inference_pb2.GenerateReportResponse(piece=_piece(event))
                else:
                    yield inference_pb2.GenerateReportResponse(result=result_to_message(event.result))

    async def _analyse_study(
        self, request: inference_pb2.AnalyseStudyRequest, deadline: Deadline
    ) -> AsyncGenerator[inference_pb2.AnalyseStudyResponse, None]:
        check_outputs(request.outputs)  # before the work, not after it
        async with aclosing(self._analyse(request.input, deadline, report=True)) as events:
            async for event in events:
                if isinstance(event, ReportText):
                    yield inference_pb2.AnalyseStudyResponse(piece=_piece(event))
                    continue
                yield inference_pb2.AnalyseStudyResponse(result=result_to_message(event.result))
                for artifact in await self._writer.write(event.result, event.images, request.outputs):
                    for chunk in _chunks(artifact):
                        yield inference_pb2.AnalyseStudyResponse(artifact=chunk)

    async def _analyse(
        self, message: inference_pb2.AnalysisInput, deadline: Deadline, *, report: bool
    ) -> AsyncGenerator[ReportText | Analysis, None]:
        clinical, warnings = await _clinical(message)
        options = report_options_from_message(message.report_options)
        async with (
            self._opened(message) as (source, study, series_instance_uid),
            self._packs.lease(message.pack or await self._fitting(source, study, series_instance_uid)) as leased,
        ):
            analyser = await self._prompts.applied(leased, message.prompt_set)
            if source is not self._store:  # what is inline is not kept: no shadow sees it
                analyser = replace(analyser, source=source, observer=None)
            request = AnalysisRequest(study, series_instance_uid, clinical, report, options, warnings)
            async with aclosing(analyser.analyse(request, deadline)) as events:
                async for event in events:
                    yield event

    async def _fitting(self, source: StudyStore, study: StudyRef, series_instance_uid: str) -> str:
        found = await source.list_instances(study)
        return self._packs.fitting(
            [context for each, context in found if series_instance_uid in ("", each.series_instance_uid)]
        )

    @asynccontextmanager
    async def _opened(self, message: inference_pb2.AnalysisInput) -> AsyncIterator[tuple[StudyStore, StudyRef, str]]:
        """The store that holds the input, the study, and the series where one is asked for."""
        match message.WhichOneof("source"):
            case "study_instance_uid":
                yield self._store, StudyRef(message.study_instance_uid), ""
            case "series":
                if message.series.series_instance_uid:
                    check_uid("series_instance_uid", message.series.series_instance_uid)
                yield self._store, StudyRef(message.series.study_instance_uid), message.series.series_instance_uid
            case "inline":
                with owned_folder("inline") as folder:
                    async with self._stores.opened(folder) as store:
                        yield store, await _keep(message.inline, store), ""
            case _:
                message_text = "the request names no study, no series and no inline instances"
                raise RequestError(ErrorCode.INVALID_ARGUMENT, message_text)


async def _keep(message: inference_pb2.InlineInstances, store: StudyStore) -> StudyRef:
    """Put inline instances into a store for the time of the call; raises what refuses one of them."""
    studies = set()
    for data in message.instances:
        async with store.receive() as incoming:
            incoming.write(data)
            studies.add((await incoming.commit()).header.instance.study_instance_uid)
    if len(studies) != 1:
        text = f"inline instances: got {len(studies)} studies, expected 1"
        raise RequestError(ErrorCode.INVALID_ARGUMENT, text)
    return StudyRef(studies.pop())


async def _clinical(message: inference_pb2.AnalysisInput) -> tuple[ClinicalContext, tuple[ResultWarning, ...]]:
    """The context of a request; a document that cannot be read is a warning, for the study must not wait for it."""
    stated = context_from_message(message.context)
    if not message.context_document:
        return stated, ()
    try:
        return combined(stated, await asyncio.to_thread(read_context, message.context_document)), ()
    except RadserveError as error:
        text = f"The clinical context sent along could not be read and is not considered ({error.client_message})."
        return stated, (ResultWarning(WarningCode.CONTEXT_UNREADABLE, text),)


def _deadline(context: Context) -> Deadline:
    return Deadline.after(context.time_remaining())


def _piece(event: ReportText) -> inference_pb2.ReportPiece:
    return inference_pb2.ReportPiece(series_instance_uid=event.series_instance_uid, text=event.text)


def _chunks(artifact: Artifact) -> list[inference_pb2.ArtifactChunk]:
    starts = range(0, max(1, len(artifact.data)), ARTIFACT_CHUNK)
    return [
        inference_pb2.ArtifactChunk(
            name=artifact.name,
            media_type=artifact.media_type,
            data=artifact.data[start : start + ARTIFACT_CHUNK],
            last=start == starts[-1],
        )
        for start in starts
    ]
