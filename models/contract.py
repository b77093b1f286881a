"""What every runner holds requests and answers to: the tensors the graph itself declares."""

from __future__ import annotations

import numpy as np

from radserve.errors import ErrorCode, ModelError
from radserve.models.onnx_graph import OutputError, Tensors, check_output
from radserve.models.pack import GraphSpec


def check_request(graph: GraphSpec, inputs: Tensors) -> int:
    """Return the batch size; raise INVALID_ARGUMENT unless `inputs` are the graph's, of one batch size it takes."""
    if inputs.keys() != {spec.name for spec in graph.inputs}:
        expected = [spec.name for spec in graph.inputs]
        raise ModelError(
            ErrorCode.INVALID_ARGUMENT, f"graph {graph.name}: got inputs {list(inputs)}, expected {expected}"
        )
    for spec in graph.inputs:
        spec.check(inputs[spec.name])
    sizes = {len(array) for array in inputs.values()}
    if len(sizes) > 1 or max(sizes) > graph.max_batch_size:
        message = f"graph {graph.name}: got batch sizes {sorted(sizes)}, expected one of at most {graph.max_batch_size}"
        raise ModelError(ErrorCode.INVALID_ARGUMENT, message)
    return sizes.pop()


def check_answer(graph: GraphSpec, outputs: Tensors, batch: int) -> None:
    """Raise MODEL_OUTPUT_INVALID unless `outputs` are the graph's, for this batch size, without NaN."""
    if outputs.keys() != {spec.name for spec in graph.outputs}:
        raise _output_invalid(graph, f"got outputs {sorted(outputs)}")
    for spec in graph.outputs:
        try:
            check_output(spec.name, outputs[spec.name], (batch, *spec.shape[1:]), spec.dtype)
        except OutputError as error:
            raise _output_invalid(graph, str(error)) from error
        if np.isnan(outputs[spec.name]).any():
            raise _output_invalid(graph, f"output {spec.name!r} holds NaN")


def _output_invalid(graph: GraphSpec, cause: str) -> ModelError:
    return ModelError(ErrorCode.MODEL_OUTPUT_INVALID, f"graph {graph.name}: {cause}")
