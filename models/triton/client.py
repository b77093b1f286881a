"""The ModelRunner over a Triton server, embedded or outside: KServe v2 over gRPC, with Triton's extensions."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncGenerator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import numpy.typing as npt

from radserve.errors import ErrorCode, ModelError
from radserve.models.contract import check_answer, check_request
from radserve.models.pack import ModelPack
from radserve.tensors import InferenceRequest, InferenceResponse, ModelRef

_MESSAGE_BYTES = 2**31 - 1  # the most that gRPC can be told; tensors are bounded by the graphs
_CHANNEL_ARGUMENTS = [
    ("grpc.max_send_message_length", _MESSAGE_BYTES),
    ("grpc.max_receive_message_length", _MESSAGE_BYTES),
    # After a restart of the server the connection must come back at once, not after gRPC's usual minutes.
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.use_local_subchannel_pool", 1),
]
_PROBE_TIMEOUT_S = 5.0
_POLL_S = 0.05
_LOAD_TIMEOUT_S = 120.0
_TRITON_TYPES = {"float32": "FP32", "int64": "INT64", "uint8": "UINT8"}
_CODES = {
    "DEADLINE_EXCEEDED": ErrorCode.DEADLINE_EXCEEDED,
    "INVALID_ARGUMENT": ErrorCode.INVALID_ARGUMENT,
}


@dataclass(frozen=True, slots=True)
class ServerMetadata:
    """What a server says of itself."""

    name: str
    version: str


@dataclass(frozen=True, slots=True)
class ModelStatistics:
    """What a model has done since it was loaded: inferences (a batch of 8 counts 8) and runs of the graph."""

    inference_count: int
    execution_count: int


class TritonRunner:
    """Runs models on the Triton at `url` (host:port, or unix:path).

    Models of `packs` are held to their graphs' tensors; others are passed through unchecked. The connection is made at
    the first call and belongs to that call's event loop; after the server was away it comes back by itself.
    """

    def __init__(self, url: str, packs: Iterable[ModelPack] = ()) -> None:
        self.url = url
        self._graphs = {model: graph for pack in packs for model, graph in pack.models.items()}
        self._connection: Any = None

    def add(self, pack: ModelPack) -> None:
        """Hold the models of one more pack to their graphs' tensors."""
        self._graphs |= pack.models

    def remove(self, pack: ModelPack) -> None:
        """Forget the models of a pack."""
        for model in pack.models:
            self._graphs.pop(model, None)

    async def infer(self, request: InferenceRequest) -> InferenceResponse:
        """Run one model; raises ModelError as the port says, INVALID_ARGUMENT when the inputs are not the model's.

        Cancelling the caller's task cancels the request in Triton.
        """
        model, graph = request.model, self._graphs.get(request.model)
        batch = check_request(graph, request.inputs) if graph else 0
        timeout_s = request.timeout_s
        if timeout_s is not None and timeout_s <= 0:
            raise _deadline(model)
        from tritonclient.utils import InferenceServerException

        try:
            result = await self._client().infer(
                model.name,
                [_input(name, array) for name, array in request.inputs.items()],
                model_version=str(model.version),
                timeout=None if timeout_s is None else math.ceil(timeout_s * 1e6),
                client_timeout=timeout_s,
            )
        except InferenceServerException as error:
            raise _model_error(model, error) from error
        outputs = _outputs(model, result)
        if graph:
            check_answer(graph, outputs, batch)
        return InferenceResponse(model, outputs)

    async def stream(self, request: InferenceRequest) -> AsyncGenerator[InferenceResponse, None]:
        """The responses of a decoupled model up to the one that says it is finished; raises as `infer`.

        Closing the generator cancels the request in Triton.
        """
        from tritonclient.utils import InferenceServerException

        model, timeout_s = request.model, request.timeout_s
        if timeout_s is not None and timeout_s <= 0:
            raise _deadline(model)
        started = time.monotonic()
        responses = self._client().stream_infer(_single(request), stream_timeout=timeout_s)
        try:
            finished = False
            while not finished:
                result, error = await anext(responses)
                if error is not None:
                    raise error
                outputs = _outputs(model, result)
                finished = bool(outputs["finished"].any())
                yield InferenceResponse(model, outputs)
        except StopAsyncIteration:
            message = f"model {model.name!r} ended its answer before its end"
            raise ModelError(ErrorCode.MODEL_UNAVAILABLE, message) from None
        except InferenceServerException as error:
            raise _model_error(model, error) from error
        except grpc.RpcError as error:
            late = timeout_s is not None and time.monotonic() - started >= timeout_s
            raise _stream_error(model, error, late=late) from error
        finally:
            responses.cancel()

    async def is_ready(self, model: ModelRef) -> bool:
        """Whether the server is there and says that the model is ready."""
        try:
            ready = self._client().is_model_ready(model.name, str(model.version), client_timeout=_PROBE_TIMEOUT_S)
            return bool(await self._call(model, ready))
        except ModelError:
            return False

    async def wait_ready(self, models: Sequence[ModelRef], timeout_s: float) -> None:
        """Return when all `models` are ready; raises MODEL_UNAVAILABLE naming one that is not in time."""
        deadline = time.monotonic() + timeout_s
        for model in models:
            while not await self.is_ready(model):
                if time.monotonic() > deadline:
                    message = f"model {model.name!r} was not ready within {timeout_s:g} s"
                    raise ModelError(ErrorCode.MODEL_UNAVAILABLE, message)
                await asyncio.sleep(_POLL_S)

    async def server_metadata(self) -> ServerMetadata:
        """The server's name and version; raises MODEL_UNAVAILABLE."""
        answer = await self._call(None, self._client().get_server_metadata(client_timeout=_PROBE_TIMEOUT_S))
        return ServerMetadata(answer.name, answer.version)

    async def statistics(self, model: ModelRef) -> ModelStatistics:
        """What the model has done; raises MODEL_UNAVAILABLE."""
        call = self._client().get_inference_statistics(model.name, str(model.version), client_timeout=_PROBE_TIMEOUT_S)
        found = (await self._call(model, call)).model_stats[0]
        return ModelStatistics(found.inference_count, found.execution_count)

    async def load(self, model: ModelRef) -> None:
        """Load, or load anew, a model from the server's repository; raises MODEL_UNAVAILABLE."""
        await self._call(model, self._client().load_model(model.name, client_timeout=_LOAD_TIMEOUT_S))

    async def unload(self, model: ModelRef) -> None:
        """Unload a model; raises MODEL_UNAVAILABLE."""
        await self._call(model, self._client().unload_model(model.name, client_timeout=_LOAD_TIMEOUT_S))

    async def close(self) -> None:
        """Close the connection; the next call makes a new one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    def _client(self) -> Any:
        if self._connection is None:
            from tritonclient.grpc.aio import InferenceServerClient

            self._connection = InferenceServerClient(self.url, channel_args=_CHANNEL_ARGUMENTS)
        return self._connection

    async def _call(self, model: ModelRef | None, call: Any) -> Any:
        from tritonclient.utils import InferenceServerException

        try:
            return await call
        except InferenceServerException as error:
            raise _model_error(model, error, during_inference=False) from error


async def _single(request: InferenceRequest) -> AsyncGenerator[dict[str, Any], None]:
    yield {
        "model_name": request.model.name,
        "model_version": str(request.model.version),
        "inputs": [_input(name, array) for name, array in request.inputs.items()],
    }


def _stream_error(model: ModelRef, error: grpc.RpcError, *, late: bool) -> ModelError:
    """The error of a stream; one that its deadline overtakes while it is set up may end as INTERNAL instead."""
    status = error.code().name
    if late or status == "DEADLINE_EXCEEDED":
        return _deadline(model, detail=str(error.details()))
    message = f"model {model.name!r} is not available ({status})"
    return ModelError(ErrorCode.MODEL_UNAVAILABLE, message, detail=f"{message}: {error.details()}")


def _input(name: str, array: npt.NDArray[Any]) -> Any:
    from tritonclient.grpc import InferInput

    tensor = InferInput(name, array.shape, _TRITON_TYPES[str(array.dtype)])
    tensor.set_data_from_numpy(array)
    return tensor


def _outputs(model: ModelRef, result: Any) -> dict[str, npt.NDArray[Any]]:
    try:
        return {output.name: result.as_numpy(output.name) for output in result.get_response().outputs}
    except ValueError as error:  # fewer bytes than the shape needs
        message = f"model {model.name!r} answered with a tensor that does not fit its shape"
        raise ModelError(ErrorCode.MODEL_OUTPUT_INVALID, message) from error


def _model_error(model: ModelRef | None, error: Any, *, during_inference: bool = True) -> ModelError:
    """The error of a failed call. Triton's own text may name paths and goes to `detail` only."""
    status, text = str(error.status()).removeprefix("StatusCode."), str(error.message())
    who = f"model {model.name!r}" if model else "Triton"
    code = _CODES.get(status, ErrorCode.MODEL_UNAVAILABLE) if during_inference else ErrorCode.MODEL_UNAVAILABLE
    message = f"{who} is not available ({status})"
    if during_inference and "timeout expired" in text.lower():  # the queue's policy gave the request up
        code = ErrorCode.DEADLINE_EXCEEDED
    elif during_inference and "OutputError" in text:
        code, message = ErrorCode.MODEL_OUTPUT_INVALID, f"{who} gave something other than its graph declares"
    elif code is ErrorCode.INVALID_ARGUMENT:
        message = f"{who} refused the request's tensors"
    if code is ErrorCode.DEADLINE_EXCEEDED and model:
        return _deadline(model, detail=text)
    return ModelError(code, message, detail=f"{message}: {text}")


def _deadline(model: ModelRef, detail: str = "no time was left") -> ModelError:
    message = f"model {model.name!r} did not answer before the deadline"
    return ModelError(ErrorCode.DEADLINE_EXCEEDED, message, detail=f"{message}: {detail}")
