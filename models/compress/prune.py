"""Structured pruning of an ONNX graph: whole channels between two convolutions, then least-squares repair.

Works on the graph itself, so no training code of the model is needed. Of a convolution whose result goes through
activations and depthwise convolutions alone into one other convolution, the channels with the smallest product of
norms are taken out; the second convolution's weights are then fitted anew, so that it gives what it gave before on real
images (channel selection by norm as Li et al., ICLR 2017, arXiv 1608.08710; reconstruction as He et al., ICCV 2017,
arXiv 1707.06168). Layers are done in order, each on what the layers before it give after pruning. Batch normalisation
is first folded into the convolution before it; where a graph runs the same weights several times (an image and its
mirror image), they lose the same channels and are fitted to all of these runs together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnx import numpy_helper

from radserve.errors import ErrorCode, PackError
from radserve.models.compress.fold import fold_batch_norms
from radserve.models.compress.samples import FloatArray

Float64Array = npt.NDArray[np.float64]
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

    @property
    def convolutions(self) -> tuple[onnx.NodeProto, ...]:
        return (self.first, *(node for node in self.between if node.op_type == "Conv"), self.second)

    @property
    def weights(self) -> tuple[str, ...]:
        """The names of all weights and biases, which pairs that run the same layers share."""
        return tuple(name for node in self.convolutions for name in node.input[1:])


Twins = Sequence[_Pair]
"""The pairs that share their weights."""


def prune_channels(graph: bytes, pixels: FloatArray, keep: float) -> Pruned:
    """Leave the share `keep` of the channels of every prunable layer; `pixels` (N, C, rows, columns) are real images.

    Raises PACK_INVALID when the graph has no such layer, INVALID_ARGUMENT for a share outside (0, 1).
    """
    if not 0 < keep < 1:
        raise PackError(ErrorCode.INVALID_ARGUMENT, f"share of channels to keep: got {keep}, expected 0 < share < 1")
    model = fold_batch_norms(onnx.load_model_from_string(graph))
    original = onnx.ModelProto()
    original.CopyFrom(model)
    weights = {each.name: each for each in model.graph.initializer}
    channels: dict[str, tuple[int, int]] = {}
    for twins in _twins(model, weights):
        first = twins[0].first
        kernel = numpy_helper.to_array(weights[first.input[1]])
        count = max(LEAST_CHANNELS, round(keep * len(kernel)))
        if count >= len(kernel):
            continue
        _take_out(twins, weights, _strongest(twins[0], weights, count))
        _repair(model, original, twins, weights, pixels)
        channels[first.output[0]] = (len(kernel), count)
    if not channels:
        raise PackError(ErrorCode.PACK_INVALID, "the image encoder has no layer whose channels can be pruned")
    model.graph.ClearField("value_info")
    onnx.checker.check_model(model)
    return Pruned(model.SerializeToString(), channels)


def _twins(model: onnx.ModelProto, weights: Mapping[str, onnx.TensorProto]) -> list[list[_Pair]]:
    """The pairs by their weights, in the order of the graph; without those whose weights do other work besides."""
    found: dict[tuple[str, ...], list[_Pair]] = {}
    for pair in _pairs(model, weights):
        found.setdefault(pair.weights, []).append(pair)
    uses = Counter(name for node in model.graph.node for name in node.input if name in weights)
    # A layer between two others is the second of one pair and the first of the next: it is one use all the same.
    return [twins for names, twins in found.items() if all(uses[name] == len(twins) for name in names)]


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


def _take_out(twins: Twins, weights: Mapping[str, onnx.TensorProto], kept: npt.NDArray[np.intp]) -> None:
    *narrowed, second = twins[0].convolutions
    for name in dict.fromkeys(name for node in narrowed for name in node.input[1:]):
        _set(weights[name], numpy_helper.to_array(weights[name])[kept])
    _set(weights[second.input[1]], numpy_helper.to_array(weights[second.input[1]])[:, kept])
    for pair in twins:
        for attribute in (each for node in pair.convolutions[:-1] for each in node.attribute):
            if attribute.name == "group" and attribute.i > 1:
                attribute.i = len(kept)


def _repair(
    model: onnx.ModelProto,
    original: onnx.ModelProto,
    twins: Twins,
    weights: dict[str, onnx.TensorProto],
    pixels: FloatArray,
) -> None:
    """Fit the second convolution so that its result on `pixels` is the original's, by ridge regression."""
    second = twins[0].second
    kernel = numpy_helper.to_array(weights[second.input[1]])
    seen = _values(model, [pair.second.input[0] for pair in twins], pixels)
    wanted = _values(original, [pair.second.output[0] for pair in twins], pixels)
    places, goal = _equations(twins, seen, wanted, kernel.shape[2:])
    # The ridge pulls towards the weights as they are: what the images do not show stays.
    has_bias = len(second.input) > 2
    bias = numpy_helper.to_array(weights[second.input[2]]) if has_bias else np.zeros(kernel.shape[0])
    before = np.concatenate([kernel.reshape(len(kernel), -1).T, bias[None]]).astype(np.float64)
    square = places.T @ places
    strength = RIDGE * np.trace(square) / len(square)
    change = np.linalg.solve(square + strength * np.eye(len(square)), places.T @ (goal - places @ before))
    fitted = before + change
    _set(weights[second.input[1]], fitted[:-1].T.reshape(kernel.shape).astype(np.float32))
    if has_bias:
        _set(weights[second.input[2]], fitted[-1].astype(np.float32))
    else:
        name = f"{second.output[0]}_repaired_bias"
        model.graph.initializer.append(numpy_helper.from_array(fitted[-1].astype(np.float32), name))
        weights[name] = model.graph.initializer[-1]
        for pair in twins:
            pair.second.input.append(name)


def _equations(
    twins: Twins, seen: Sequence[Float64Array], wanted: Sequence[Float64Array], size: tuple[int, ...]
) -> tuple[Float64Array, Float64Array]:
    """What the second convolution sees at some places, with a 1 for the bias, and what it is to give there."""
    places, goals = [], []
    for pair, values, results in zip(twins, seen, wanted, strict=True):
        columns = _patches(values, size, pair.second)  # (places, channels * rows * columns)
        goal = results.transpose(0, 2, 3, 1).reshape(-1, results.shape[1])
        chosen = np.random.default_rng(0).permutation(len(goal))[: EQUATIONS // len(twins)]
        places.append(np.concatenate([columns[chosen], np.ones((len(chosen), 1))], axis=1))
        goals.append(goal[chosen])
    return np.concatenate(places), np.concatenate(goals)


def _values(model: onnx.ModelProto, names: Sequence[str], pixels: FloatArray) -> list[Float64Array]:
    """Inner values of the graph on all images, each (N, C, rows, columns)."""
    opened = onnx.ModelProto()
    opened.CopyFrom(model)
    opened.graph.ClearField("value_info")
    given = {each.name for each in opened.graph.output}
    opened.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names if name not in given)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(opened.SerializeToString(), options, providers=["CPUExecutionProvider"])
    (source,) = [each.name for each in session.get_inputs()]
    parts = [session.run(list(names), {source: pixels[start : start + 32]}) for start in range(0, len(pixels), 32)]
    return [np.concatenate(each).astype(np.float64) for each in zip(*parts, strict=True)]


def _patches(values: Float64Array, size: tuple[int, ...], node: onnx.NodeProto) -> Float64Array:
    """What a convolution multiplies with its weights at each place: (places, channels * rows * columns)."""
    given: dict[str, Any] = {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
    if given.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID") or set(given.get("dilations", [1])) != {1}:
        raise PackError(ErrorCode.PACK_INVALID, "pruning knows convolutions with stated padding and no dilation alone")
    top, left, bottom, right = given.get("pads", [0, 0, 0, 0])
    step_down, step_right = given.get("strides", [1, 1])
    padded = np.pad(values, ((0, 0), (0, 0), (top, bottom), (left, right)))
    every: Float64Array = np.lib.stride_tricks.sliding_window_view(padded, size, axis=(2, 3))  # type: ignore[call-overload]  # numpy's stubs want an int
    windows = every[:, :, ::step_down, ::step_right]
    return windows.transpose(0, 2, 3, 1, 4, 5).reshape(-1, values.shape[1] * size[0] * size[1])


def _set(tensor: onnx.TensorProto, array: npt.NDArray[Any]) -> None:
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array), tensor.name))
