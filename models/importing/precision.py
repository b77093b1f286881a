"""Other ways of writing a graph: TorchScript modules, and half precision."""

from __future__ import annotations

import warnings
from pathlib import Path

import onnx
import torch

from radserve.models.export.onnx_graphs import OPSET, GraphPlan


def write_scripted(plan: GraphPlan, path: Path) -> None:
    """Export a TorchScript module: torch.export does not take one, the exporter of old does."""
    axes = {name: {0: "batch"} for name in (*plan.inputs, *plan.outputs)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that this exporter is of old
        torch.onnx.export(
            plan.module,
            tuple(plan.inputs.values()),
            str(path),
            input_names=list(plan.inputs),
            output_names=list(plan.outputs),
            dynamic_axes=axes,
            opset_version=OPSET,
            dynamo=False,
        )
    model = onnx.load(str(path))
    for value, shape in zip(model.graph.output, _shapes(plan), strict=True):  # tracing leaves some sizes open
        for dimension, size in zip(value.type.tensor_type.shape.dim[1:], shape[1:], strict=True):
            dimension.Clear()
            dimension.dim_value = size
    onnx.save(model, str(path))
    onnx.checker.check_model(str(path), full_check=True)


def to_half(path: Path) -> None:
    """Turn the weights and the arithmetic of a graph into float16; its inputs and outputs stay float32."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    model = onnx.load(str(path))
    half = convert_float_to_float16(model, keep_io_types=True)
    onnx.save(half, str(path))


@torch.inference_mode()
def _shapes(plan: GraphPlan) -> list[tuple[int, ...]]:
    found = plan.module(*plan.inputs.values())
    return [tuple(each.shape) for each in (found if isinstance(found, tuple) else (found,))]
