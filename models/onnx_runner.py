"""The in-process ModelRunner: ONNX Runtime in threads, for tests and for platforms without the embedded Triton."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy.typing as npt
import onnxruntime as ort

from radserve.errors import ErrorCode, ModelError
from radserve.models.contract import check_answer, check_request
from radserve.models.onnx_graph import OnnxGraph, OutputError
from radserve.models.pack import ModelPack
from radserve.tensors import InferenceRequest, InferenceResponse, ModelRef


class OnnxRunner:
    """Runs the graphs of packs in `workers` threads, each graph with `threads` intra-op threads.

    A graph is opened at its first request. A request that is cancelled or out of time stops its run.
    """

    def __init__(self, packs: Iterable[ModelPack], *, threads: int = 1, workers: int = 1) -> None:
        self._models = {model: (pack, name) for pack in packs for name, model in _models_of(pack)}
        self._threads = threads
        self._graphs: dict[ModelRef, OnnxGraph] = {}
        self._opening = threading.Lock()
        self._workers = ThreadPoolExecutor(workers, thread_name_prefix="onnx")

    async def infer(self, request: InferenceRequest) -> InferenceResponse:
        """Run one graph; raises ModelError as the port says, INVALID_ARGUMENT when the inputs are not the graph's."""
        if request.model not in self._models:
            raise ModelError(ErrorCode.MODEL_UNAVAILABLE, f"model {request.model.name!r} is not loaded")
        pack, name = self._models[request.model]
        batch = check_request(pack.graphs[name], request.inputs)
        options = ort.RunOptions()
        try:
            async with asyncio.timeout(request.timeout_s):
                outputs = await asyncio.get_running_loop().run_in_executor(
                    self._workers, self._run, request.model, request.inputs, options
                )
        except TimeoutError as error:
            message = f"model {request.model.name!r} did not answer within {request.timeout_s:g} s"
            raise ModelError(ErrorCode.DEADLINE_EXCEEDED, message) from error
        finally:
            options.terminate = True
        check_answer(pack.graphs[name], outputs, batch)
        return InferenceResponse(request.model, outputs)

    async def is_ready(self, model: ModelRef) -> bool:
        """Whether the model belongs to one of the packs; its graph is opened if it was not."""
        if model not in self._models:
            return False
        try:
            await asyncio.get_running_loop().run_in_executor(self._workers, self._graph, model)
        except ModelError:
            return False
        return True

    async def close(self) -> None:
        """Let running requests end and free the threads."""
        await asyncio.to_thread(self._workers.shutdown)

    def _run(
        self, model: ModelRef, inputs: Mapping[str, npt.NDArray[Any]], options: ort.RunOptions
    ) -> dict[str, npt.NDArray[Any]]:
        graph = self._graph(model)
        try:
            return graph.run(inputs, options)
        except OutputError as error:
            raise ModelError(ErrorCode.MODEL_OUTPUT_INVALID, f"model {model.name!r}: {error}") from error
        except Exception as error:  # ONNX Runtime's errors share no other base class
            message = f"model {model.name!r} failed"
            raise ModelError(
                ErrorCode.MODEL_UNAVAILABLE, message, detail=f"{message}: {type(error).__name__}"
            ) from error

    def _graph(self, model: ModelRef) -> OnnxGraph:
        with self._opening:
            if model not in self._graphs:
                pack, name = self._models[model]
                try:
                    self._graphs[model] = OnnxGraph(pack.read(name), threads=self._threads)
                except Exception as error:  # a PackError, or any error of ONNX Runtime
                    message = f"model {model.name!r} cannot be opened"
                    raise ModelError(ErrorCode.MODEL_UNAVAILABLE, message, detail=f"{message}: {error}") from error
            return self._graphs[model]


def _models_of(pack: ModelPack) -> list[tuple[str, ModelRef]]:
    return [(name, pack.model(name)) for name in pack.graphs]
