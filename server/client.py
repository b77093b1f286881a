"""A client of the API, as `radserve infer` uses it. It is an ordinary gRPC client: what it does, integrators can do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc

from radserve.clinical_context import ClinicalContext
from radserve.dicom_io.files import FoundFile
from radserve.errors import ErrorCode, RadserveError
from radserve.pipelines.authoring import ReportOptions
from radserve.results import Artifact
from radserve.server.rpc.convert import context_to_message, report_options_to_message
from radserve.server.rpc.errors import radserve_error
from radserve.v1 import (
    common_pb2,
    inference_pb2,
    inference_pb2_grpc,
    model_pb2,
    model_pb2_grpc,
    study_pb2,
    study_pb2_grpc,
)

T = TypeVar("T")

CHUNK_BYTES = 1 << 20
OPTIONS = [("grpc.max_receive_message_length", 256 << 20)]
CONNECT_SECONDS = 30.0  # a server that was started a moment ago may still be loading


@dataclass(frozen=True, slots=True)
class TextPiece:
    """Report text as it is written."""

    text: str


@dataclass(frozen=True, slots=True)
class ImportedInstance:
    """What became of one file: the study it is part of, or why it was refused."""

    reference: str
    study_instance_uid: str = ""
    error: RadserveError | None = None


AnalysisEvent = TextPiece | common_pb2.StudyResult | Artifact


class _Client:
    """A connection to one radserve server, over TLS where there are credentials; an async context manager.

    Every failed call raises a RadserveError.
    """

    def __init__(self, address: str, credentials: grpc.ChannelCredentials | None = None) -> None:
        self._address = address
        self._manner = "over TLS" if credentials else "without TLS"
        self._channel = (
            grpc.aio.secure_channel(address, credentials, options=OPTIONS)
            if credentials
            else grpc.aio.insecure_channel(address, options=OPTIONS)
        )

    async def __aenter__(self) -> Self:
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await self._channel.channel_ready()
        except TimeoutError:
            await self._channel.close()
            message = f"no radserve server answers at {self._address} {self._manner}"
            raise RadserveError(ErrorCode.SERVER_UNREACHABLE, message) from None
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._channel.close()


class RadserveClient(_Client):
    """Sends studies to one radserve server and has them analysed."""

    def __init__(self, address: str, credentials: grpc.ChannelCredentials | None = None) -> None:
        super().__init__(address, credentials)
        self._studies = study_pb2_grpc.StudyServiceStub(self._channel)
        self._inference = inference_pb2_grpc.InferenceServiceStub(self._channel)

    async def import_files(self, files: Sequence[FoundFile]) -> list[ImportedInstance]:
        """Send the files in one stream; a file that cannot be read here is refused here, and the rest goes on."""
        unreadable: list[ImportedInstance] = []

        async def requests() -> AsyncIterator[study_pb2.ImportInstancesRequest]:
            for file in files:
                try:
                    with file.open() as stream:
                        first = stream.read(CHUNK_BYTES)  # before the start: what cannot be opened is not begun
                        start = study_pb2.InstanceStart(reference=file.reference)
                        yield study_pb2.ImportInstancesRequest(start=start)
                        chunk = first
                        while chunk:
                            yield study_pb2.ImportInstancesRequest(chunk=chunk)
                            chunk = stream.read(CHUNK_BYTES)
                except (RadserveError, OSError) as error:
                    unreadable.append(ImportedInstance(file.reference, error=_reading_error(error)))

        try:
            response = await self._studies.ImportInstances(requests())
        except grpc.RpcError as error:
            raise radserve_error(error) from None
        broken = {each.reference for each in unreadable}
        sent = [_imported(each) for each in response.outcomes if each.reference not in broken]
        return [*sent, *unreadable]

    async def analyse(
        self,
        study_instance_uid: str,
        pack: str,
        context: ClinicalContext,
        options: ReportOptions | None = None,
        prompt_set: str = "",
        outputs: Sequence[str] = (),
    ) -> AsyncIterator[AnalysisEvent]:
        """Yield text pieces, the result message, then the artifacts of one study; `outputs` are wanted besides."""
        request = inference_pb2.AnalyseStudyRequest(
            input=inference_pb2.AnalysisInput(
                study_instance_uid=study_instance_uid,
                pack=pack,
                context=context_to_message(context),
                prompt_set=prompt_set,
                report_options=report_options_to_message(options or ReportOptions()),
            ),
            outputs=outputs,
        )
        data = bytearray()
        try:
            async for response in self._inference.AnalyseStudy(request):
                match response.WhichOneof("event"):
                    case "piece":
                        yield TextPiece(response.piece.text)
                    case "result":
                        yield response.result
                    case "artifact":
                        data += response.artifact.data
                        if response.artifact.last:
                            yield Artifact(response.artifact.name, response.artifact.media_type, bytes(data))
                            data.clear()
        except grpc.RpcError as error:
            raise radserve_error(error) from None


class ModelClient(_Client):
    """Operates the packs of one radserve server. `pack` is NAME@VERSION; calls return what the version does then."""

    def __init__(self, address: str, credentials: grpc.ChannelCredentials | None = None) -> None:
        super().__init__(address, credentials)
        self._models = model_pb2_grpc.ModelServiceStub(self._channel)

    async def models(self) -> Sequence[model_pb2.Model]:
        response: model_pb2.ListModelsResponse = await _answer(self._models.ListModels(model_pb2.ListModelsRequest()))
        return response.models

    async def load(self, pack: str) -> model_pb2.Model:
        return await _model(self._models.LoadModel(model_pb2.LoadModelRequest(pack=pack)))

    async def unload(self, pack: str) -> model_pb2.Model:
        return await _model(self._models.UnloadModel(model_pb2.UnloadModelRequest(pack=pack)))

    async def promote(
        self, pack: str, record: bytes, persons: Sequence[str] = (), reason: str = "", signature: bytes = b""
    ) -> model_pb2.Model:
        override = model_pb2.PromotionOverride(persons=persons, reason=reason) if persons or reason else None
        request = model_pb2.PromoteModelRequest(
            pack=pack, evaluation_record=record, override=override, evaluation_signature=signature
        )
        return await _model(self._models.PromoteModel(request))

    async def roll_back(self, name: str) -> model_pb2.Model:
        return await _model(self._models.RollbackModel(model_pb2.RollbackModelRequest(pack=name)))

    async def shadow(self, pack: str, *, on: bool) -> model_pb2.Model:
        return await _model(self._models.ShadowModel(model_pb2.ShadowModelRequest(pack=pack, off=not on)))

    async def deprecate(self, pack: str, reason: str) -> model_pb2.Model:
        request = model_pb2.DeprecateModelRequest(pack=pack, reason=reason)
        return await _model(self._models.DeprecateModel(request))


async def _model(call: Awaitable[Any]) -> model_pb2.Model:
    model: model_pb2.Model = (await _answer(call)).model
    return model


async def _answer(call: Awaitable[T]) -> T:
    try:
        return await call
    except grpc.RpcError as error:
        raise radserve_error(error) from None


def _imported(outcome: study_pb2.InstanceOutcome) -> ImportedInstance:
    if not outcome.HasField("error"):
        return ImportedInstance(outcome.reference, outcome.study_instance_uid)
    known = outcome.error.code in ErrorCode.__members__
    code = ErrorCode(outcome.error.code) if known else ErrorCode.INTERNAL
    return ImportedInstance(outcome.reference, error=RadserveError(code, outcome.error.message))


def _reading_error(error: RadserveError | OSError) -> RadserveError:
    if isinstance(error, RadserveError):
        return error
    return RadserveError(ErrorCode.INVALID_ARGUMENT, f"the file cannot be read: {error.strerror or 'I/O error'}")
