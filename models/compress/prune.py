"""Structured pruning of an ONNX graph: whole channels between two convolutions, then least-squares repair.

Works on the graph itself, so no training code of the model is needed. Of a convolution whose result goes through
activations and depthwise convolutions alone into one other convolution, the channels with the smallest product of
norms are taken out; the second convolution's weights are then fitted anew, so that it gives what it gave before on real
images (channel selection by norm as Li et al., ICLR 2017, arXiv 1608.08710; reconstruction as He et al., ICCV 2017,
arXiv 1707.06168). Layers are done in order, each on what the layers before it give after pruning.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnx import numpy_helper

from radserve.errors import ErrorCode, PackError
from radserve.models.compress.samples import FloatArray

PASSING = frozenset({"Relu", "Clip", "LeakyRelu", "Sigmoid", "Tanh"})  # they leave channels where they are
LEAST_CHANNELS = 8
EQUATIONS = 20_000  # places that the repair looks at
RIDGE = 1e-4


@dataclass(frozen=True)
class Pruned:
    """The pruned graph, and of each pruned layer how many channels there were and are."""

    graph: bytes
    channels: Mapping[str, tuple[int, int]]


@dataclass(frozen=True)
class _Pair:
    """A convolution, what its result passes through, and the convolution that alone reads it."""

    first: onnx.NodeProto
    between: tuple[onnx.NodeProto, ...]
    second: onnx.NodeProto


def prune_channels(graph: bytes, pixels: FloatArray, keep: float) -> Pruned:
    """Leave the share `keep` of the channels of every prunable layer; `pixels` (N, C, rows, columns) are real images.

    Raises PACK_INVALID when the graph has no such layer, INVALID_ARGUMENT for a share outside (0, 1).
    """
    if not 0 < keep < 1:
        raise PackError(ErrorCode.INVALID_ARGUMENT, f"share of channels to keep: got {keep}, expected 0 < share < 1")
    model, original = onnx.load_model_from_string(graph), onnx.load_model_from_string(graph)
    weights = {each.name: each for each in model.graph.initializer}
    channels: dict[str, tuple[int, int]] = {}
    for pair in _pairs(model, weights):
        kernel = numpy_helper.to_array(weights[pair.first.input[1]])
        count = max(LEAST_CHANNELS, round(keep * len(kernel)))
        if count >= len(kernel):
            continue
        _take_out(pair, weights, _strongest(pair, weights, count))
        _repair(model, original, pair, weights, pixels)
        channels[pair.first.output[0]] = (len(kernel), count)
    if not channels:
        raise PackError(ErrorCode.PACK_INVALID, "the image encoder has no layer whose channels can be pruned")
    model.graph.ClearField("value_info")
    onnx.checker.check_model(model)
    return Pruned(model.SerializeToString(), channels)


def _pairs(model: onnx.ModelProto, weights: Mapping[str, onnx.TensorProto]) -> list[_Pair]:
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    outputs = {each.name for each in model.graph.output}
    pairs = []
    for node in model.graph.node:
        if not _is_plain(node, weights):
            continue
        between: list[onnx.NodeProto] = []
        value = node.output[0]
        while value not in outputs and len(readers.get(value, [])) == 1:
            reader = readers[value][0]
            if reader.input[0] == value and _is_plain(reader, weights):
                pairs.append(_Pair(node, tuple(between), reader))
                break
            if reader.input[0] != value or not (reader.op_type in PASSING or _is_depthwise(reader, weights)):
                break
            between.append(reader)
            value = reader.output[0]
    return pairs


def _group(node: onnx.NodeProto) -> int:
    return next((each.i for each in node.attribute if each.name == "group"), 1)


def _is_plain(node: onnx.NodeProto, weights: Mapping[str, onnx.TensorProto]) -> bool:
    return node.op_type == "Conv" and _group(node) == 1 and all(name in weights for name in node.input[1:])


def _is_depthwise(node: onnx.NodeProto, weights: Mapping[str, onnx.TensorProto]) -> bool:
    if node.op_type != "Conv" or any(name not in weights for name in node.input[1:]):
        return False
    shape = weights[node.input[1]].dims
    return _group(node) == shape[0] and shape[1] == 1


def _strongest(pair: _Pair, weights: Mapping[str, onnx.TensorProto], count: int) -> npt.NDArray[np.intp]:
    first, second = (numpy_helper.to_array(weights[node.input[1]]) for node in (pair.first, pair.second))
    strength = np.abs(first).sum(axis=(1, 2, 3)) * np.abs(second).sum(axis=(0, 2, 3))
    return np.sort(np.argsort(-strength, kind="stable")[:count])


def _take_out(pair: _Pair, weights: Mapping[str, onnx.TensorProto], kept: npt.NDArray[np.intp]) -> None:
    for node in (pair.first, *(node for node in pair.between if node.op_type == "Conv")):
        for name in node.input[1:]:
            _set(weights[name], numpy_helper.to_array(weights[name])[kept])
        for attribute in node.attribute:
            if attribute.name == "group" and attribute.i > 1:
                attribute.i = len(kept)
    name = pair.second.input[1]
    _set(weights[name], numpy_helper.to_array(weights[name])[:, kept])


def _repair(
    model: onnx.ModelProto,
    original: onnx.ModelProto,
    pair: _Pair,
    weights: dict[str, onnx.TensorProto],
    pixels: FloatArray,
) -> None:
    """Fit the second convolution so that its result on `pixels` is the original's, by ridge regression."""
    source, target = pair.second.input[0], pair.second.output[0]
    seen, wanted = _value(model, source, pixels), _value(original, target, pixels)
    kernel = numpy_helper.to_array(weights[pair.second.input[1]])
    columns = _patches(seen, kernel.shape[2:], pair.second)  # (places, channels * rows * columns)
    goal = wanted.transpose(0, 2, 3, 1).reshape(-1, wanted.shape[1])
    chosen = np.random.default_rng(0).permutation(len(goal))[:EQUATIONS]
    places = np.concatenate([columns[chosen], np.ones((len(chosen), 1))], axis=1)
    # The ridge pulls towards the weights as they are: what the images do not show stays.
    has_bias = len(pair.second.input) > 2
    bias = numpy_helper.to_array(weights[pair.second.input[2]]) if has_bias else np.zeros(kernel.shape[0])
    before = np.concatenate([kernel.reshape(len(kernel), -1).T, bias[None]]).astype(np.float64)
    square = places.T @ places
    strength = RIDGE * np.trace(square) / len(square)
    change = np.linalg.solve(square + strength * np.eye(len(square)), places.T @ (goal[chosen] - places @ before))
    fitted = before + change
    _set(weights[pair.second.input[1]], fitted[:-1].T.reshape(kernel.shape).astype(np.float32))
    if has_bias:
        _set(weights[pair.second.input[2]], fitted[-1].astype(np.float32))
    else:
        name = f"{target}_repaired_bias"
        model.graph.initializer.append(numpy_helper.from_array(fitted[-1].astype(np.float32), name))
        weights[name] = model.graph.initializer[-1]
        pair.second.input.append(name)


def _value(model: onnx.ModelProto, name: str, pixels: FloatArray) -> npt.NDArray[np.float64]:
    """An inner value of the graph on all images, (N, C, rows, columns)."""
    opened = onnx.ModelProto()
    opened.CopyFrom(model)
    opened.graph.ClearField("value_info")
    if name not in {each.name for each in opened.graph.output}:
        opened.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(opened.SerializeToString(), options, providers=["CPUExecutionProvider"])
    (source,) = [each.name for each in session.get_inputs()]
    parts = [session.run([name], {source: pixels[start : start + 32]})[0] for start in range(0, len(pixels), 32)]
    return np.asarray(np.concatenate(parts), np.float64)


def _patches(values: npt.NDArray[np.float64], size: tuple[int, ...], node: onnx.NodeProto) -> npt.NDArray[np.float64]:
    """What a convolution multiplies with its weights at each place: (places, channels * rows * columns)."""
    given: dict[str, Any] = {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
    if given.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID") or set(given.get("dilations", [1])) != {1}:
        raise PackError(ErrorCode.PACK_INVALID, "pruning knows convolutions with stated padding and no dilation alone")
    top, left, bottom, right = given.get("pads", [0, 0, 0, 0])
    step_down, step_right = given.get("strides", [1, 1])
    padded = np.pad(values, ((0, 0), (0, 0), (top, bottom), (left, right)))
    every: npt.NDArray[np.float64] = np.lib.stride_tricks.sliding_window_view(padded, size, axis=(2, 3))  # type: ignore[call-overload]  # numpy's stubs want an int
    windows = every[:, :, ::step_down, ::step_right]
    return windows.transpose(0, 2, 3, 1, 4, 5).reshape(-1, values.shape[1] * size[0] * size[1])


def _set(tensor: onnx.TensorProto, array: npt.NDArray[Any]) -> None:
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array), tensor.name))
