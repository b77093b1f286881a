"""Batch normalisation folded into the convolution before it: the same function with fewer nodes.

After training it is a factor and a sum for each channel (Ioffe and Szegedy, ICML 2015, arXiv 1502.03167).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper


def fold_batch_norms(model: onnx.ModelProto) -> onnx.ModelProto:
    """A model without the normalisations that follow a convolution alone; convolutions that share weights still do."""
    folded = onnx.ModelProto()
    folded.CopyFrom(model)
    graph = folded.graph
    weights = {each.name: each for each in graph.initializer}
    makers = {node.output[0]: node for node in graph.node if node.op_type == "Conv"}
    made: dict[tuple[str, ...], tuple[str, str]] = {}
    readers = Counter(name for node in graph.node for name in node.input) + Counter(each.name for each in graph.output)
    for node in [each for each in graph.node if each.op_type == "BatchNormalization"]:
        convolution = makers.get(node.input[0])
        if convolution is None or readers[node.input[0]] != 1 or not _constant(convolution, node, weights):
            continue
        layers = (*convolution.input[1:], *node.input[1:])  # the same names for all that run the same two layers
        if layers not in made:
            made[layers] = (f"folded_{len(made)}_weight", f"folded_{len(made)}_bias")
            for name, array in zip(made[layers], _folded(convolution, node, weights), strict=True):
                graph.initializer.append(numpy_helper.from_array(array.astype(np.float32), name))
        source = convolution.input[0]
        del convolution.input[:]
        convolution.input.extend((source, *made[layers]))
        convolution.output[0] = node.output[0]
        graph.node.remove(node)
    used = {name for node in graph.node for name in node.input}
    for tensor in [each for each in graph.initializer if each.name not in used]:
        graph.initializer.remove(tensor)
    return folded


def _constant(convolution: onnx.NodeProto, norm: onnx.NodeProto, weights: Mapping[str, onnx.TensorProto]) -> bool:
    training = any(each.name == "training_mode" and each.i for each in norm.attribute)
    return not training and all(name in weights for name in (*convolution.input[1:], *norm.input[1:]))


def _folded(
    convolution: onnx.NodeProto, norm: onnx.NodeProto, weights: Mapping[str, onnx.TensorProto]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    kernel, *bias = (numpy_helper.to_array(weights[name]).astype(np.float64) for name in convolution.input[1:])
    scale, shift, mean, variance = (numpy_helper.to_array(weights[name]).astype(np.float64) for name in norm.input[1:])
    epsilon = next((each.f for each in norm.attribute if each.name == "epsilon"), 1e-5)
    factor = scale / np.sqrt(variance + epsilon)
    before = bias[0] if bias else np.zeros(len(kernel))
    return kernel * factor[:, None, None, None], (before - mean) * factor + shift
