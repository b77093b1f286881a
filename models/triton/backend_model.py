"""The model of Triton's Python backend: one ONNX graph, requests joined into one run and split again.

Copied into the model repository as model.py, with onnx_graph.py beside it; imports nothing of radserve.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np


class TritonPythonModel:
    """What Triton's Python backend calls."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open model.onnx beside this file; raises when the environment or the graph would give wrong answers."""
        import triton_python_backend_utils as pb_utils  # exists inside the backend's process only
        from onnx_graph import OnnxGraph  # type: ignore[import-not-found]  # lies beside this file in the repository

        if int(np.__version__.split(".")[0]) >= 2:
            raise RuntimeError(
                f"numpy {np.__version__}: this backend returns empty outputs with numpy 2, needs numpy<2"
            )
        config = json.loads(args["model_config"])
        threads = int(config["parameters"]["intra_op_threads"]["string_value"])
        _keep_shared_memory_private()
        self._pb_utils = pb_utils
        self._graph = OnnxGraph(Path(__file__).with_name("model.onnx").read_bytes(), threads=threads)

    def execute(self, requests: list[Any]) -> list[Any]:
        """One response for each request, in order. A request that makes the joint run fail fails alone."""
        live = [request for request in requests if not request.is_cancelled()]
        try:
            answers = self._answers(live)
        except Exception:
            answers = [self._alone(request) for request in live]
        answer_of = dict(zip(map(id, live), answers, strict=True))
        return [answer_of.get(id(request)) or self._error("cancelled") for request in requests]

    def _alone(self, request: Any) -> Any:
        try:
            return self._answers([request])[0]
        except Exception as error:
            return self._error(f"{type(error).__name__}: {error}")

    def _answers(self, requests: list[Any]) -> list[Any]:
        if not requests:
            return []
        inputs = [self._inputs(request) for request in requests]
        outputs = self._graph.run({name: _joined([each[name] for each in inputs]) for name in self._graph.inputs})
        ends = np.cumsum([len(next(iter(each.values()))) for each in inputs])
        parts = {name: np.split(array, ends[:-1]) for name, array in outputs.items()}
        return [self._response({name: parts[name][index] for name in parts}) for index in range(len(requests))]

    def _inputs(self, request: Any) -> dict[str, Any]:
        return {name: self._pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in self._graph.inputs}

    def _response(self, outputs: dict[str, Any]) -> Any:
        tensors = []
        for name, array in outputs.items():
            tensor = self._pb_utils.Tensor(name, np.ascontiguousarray(array))
            held = tensor.as_numpy()
            if held.shape != array.shape or held.dtype != array.dtype:
                raise RuntimeError(f"OutputError: tensor {name!r} holds {held.dtype} {held.shape}, not {array.shape}")
            tensors.append(tensor)
        return self._pb_utils.InferenceResponse(tensors)

    def _error(self, message: str) -> Any:
        return self._pb_utils.InferenceResponse([], self._pb_utils.TritonError(message))


def _joined(arrays: list[Any]) -> Any:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _keep_shared_memory_private() -> None:
    """Requests pass through a file of /dev/shm that the backend makes readable for every user: take that back.

    The name of the file is an argument of this process.
    """
    for argument in Path("/proc/self/cmdline").read_text().split("\0"):
        region = Path("/dev/shm", argument)  # noqa: S108
        if argument and region.parent == Path("/dev/shm") and region.is_file():  # noqa: S108
            region.chmod(0o600)
