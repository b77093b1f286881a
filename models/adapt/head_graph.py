"""A linear head as a graph of its own: an image encoder as it is, and one product behind its embedding."""

from __future__ import annotations

import math

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from radserve.models.adapt.heads import LinearHead
from radserve.models.pack_graphs import GraphSpec

LOGIT, MAP = "adapter_logit", "adapter_map"


def head_graph(model: onnx.ModelProto, spec: GraphSpec, head: LinearHead) -> tuple[bytes, str]:
    """The image encoder `model` with the output `adapter_logit` (N, 1), and the name of its map or "".

    `spec` states its tensors. `model` itself is changed.

    `adapter_map` (N, 1, side, side) is there where the encoder gives a square of patch embeddings, which add up to the
    embedding: its values add up to the logit less the bias. The encoder's own weights and nodes are not touched.
    """
    graph = model.graph
    weight = np.asarray(head.weight, dtype=np.float32)[:, None]
    graph.initializer.append(numpy_helper.from_array(weight, "adapter_weight"))
    graph.initializer.append(numpy_helper.from_array(np.array([head.bias], dtype=np.float32), "adapter_bias"))
    graph.node.append(helper.make_node("Gemm", ["embedding", "adapter_weight", "adapter_bias"], [LOGIT]))
    outputs = [helper.make_tensor_value_info(LOGIT, TensorProto.FLOAT, ["batch", 1])]
    side = math.isqrt(spec.tensor("patch_embeddings").shape[1]) if spec.has_output("patch_embeddings") else 0
    has_map = side > 0 and side * side == spec.tensor("patch_embeddings").shape[1]
    if has_map:
        shape = np.array([-1, 1, side, side], dtype=np.int64)
        graph.initializer.append(numpy_helper.from_array(shape, "adapter_map_shape"))
        graph.node.append(helper.make_node("MatMul", ["patch_embeddings", "adapter_weight"], ["adapter_patches"]))
        graph.node.append(helper.make_node("Reshape", ["adapter_patches", "adapter_map_shape"], [MAP]))
        outputs.append(helper.make_tensor_value_info(MAP, TensorProto.FLOAT, ["batch", 1, side, side]))
    del graph.output[:]
    graph.output.extend(outputs)
    onnx.checker.check_model(model)
    return model.SerializeToString(), MAP if has_map else ""
