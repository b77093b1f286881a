"""Pruning by channels: what is redundant goes without a trace, depthwise layers go along, the graph stays valid."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from radserve.errors import ErrorCode, PackError
from radserve.models.compress.prune import prune_channels
from radserve.models.onnx_graph import OnnxGraph
from radserve.models.pack import IMAGE_ENCODER, ModelPack

CHANNELS = 32


def network(rng: np.random.Generator, *, dead: int = 0, depthwise: bool = False, strides: int = 2) -> bytes:
    """Convolution, ReLU, perhaps a depthwise one, convolution; `dead` channels of the first are all but zero."""
    first = rng.standard_normal((CHANNELS, 1, 3, 3))
    first[CHANNELS - dead :] *= 1e-3
    weights = {
        "first": first,
        "bias": rng.standard_normal(CHANNELS) * 0.1,
        "depthwise": rng.standard_normal((CHANNELS, 1, 3, 3)),
        "second": rng.standard_normal((8, CHANNELS, 3, 3)),
    }
    weights["bias"][CHANNELS - dead :] = 0
    nodes = [
        helper.make_node("Conv", ["pixels", "first", "bias"], ["x"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["x"], ["y"]),
    ]
    last = "y"
    if depthwise:
        nodes.append(helper.make_node("Conv", ["y", "depthwise"], ["w"], group=CHANNELS, pads=[1, 1, 1, 1]))
        last = "w"
    nodes.append(helper.make_node("Conv", [last, "second"], ["out"], strides=[strides, strides], pads=[1, 0, 1, 0]))
    used = {name for node in nodes for name in node.input}
    tensors = [numpy_helper.from_array(a.astype(np.float32), n) for n, a in weights.items() if n in used]
    pixels = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["batch", 1, 12, 12])
    out = helper.make_tensor_value_info(
        "out", TensorProto.FLOAT, ["batch", 8, -(-12 // strides), (12 - 3) // strides + 1]
    )
    graph = helper.make_graph(nodes, "g", [pixels], [out], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return model.SerializeToString()


def images(count: int = 64, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, 1, 12, 12)).astype(np.float32)


def error(graph: bytes, pruned: bytes, pixels: np.ndarray) -> float:
    """The mean squared difference as a share of the variance of what the graph gives."""
    before, after = (OnnxGraph(raw).run({"pixels": pixels})["out"] for raw in (graph, pruned))
    return float(((before - after) ** 2).mean() / before.var())


@pytest.mark.parametrize("depthwise", [False, True])
@pytest.mark.parametrize("strides", [1, 2])
def test_channels_that_say_nothing_are_the_ones_that_go(depthwise: bool, strides: int) -> None:
    graph = network(np.random.default_rng(0), dead=CHANNELS // 2, depthwise=depthwise, strides=strides)
    pruned = prune_channels(graph, images(), 0.5)
    assert pruned.channels == {"x": (CHANNELS, CHANNELS // 2)}
    assert len(pruned.graph) < 0.65 * len(graph)
    assert error(graph, pruned.graph, images(seed=2)) < 1e-4


def test_the_repair_brings_back_most_of_what_taking_out_cost() -> None:
    graph = network(np.random.default_rng(0))
    pruned = prune_channels(graph, images(), 0.75).graph
    unrepaired = onnx.load_model_from_string(pruned)
    original = {each.name: numpy_helper.to_array(each) for each in onnx.load_model_from_string(graph).graph.initializer}
    kept = {each.name: each for each in unrepaired.graph.initializer}
    rows = numpy_helper.to_array(kept["first"]).reshape(24, -1)
    chosen = [int(np.flatnonzero((original["first"].reshape(CHANNELS, -1) == row).all(axis=1))[0]) for row in rows]
    kept["second"].CopyFrom(numpy_helper.from_array(original["second"][:, chosen], "second"))
    bias = next(name for name in kept if name.endswith("repaired_bias"))
    kept[bias].CopyFrom(numpy_helper.from_array(np.zeros(8, np.float32), bias))
    new = images(seed=3)
    assert error(graph, pruned, new) < 0.5 * error(graph, unrepaired.SerializeToString(), new)


@pytest.mark.parametrize("keep", [0.0, 1.0, -1.0])
def test_a_share_that_makes_no_sense_is_refused(keep: float) -> None:
    with pytest.raises(PackError, match="0 < share < 1"):
        prune_channels(network(np.random.default_rng(0)), images(), keep)


def test_a_graph_without_prunable_layers_is_refused(pack: ModelPack) -> None:
    pixels = np.zeros((4, 1, 28, 28), np.float32)
    with pytest.raises(PackError, match="no layer whose channels") as caught:
        prune_channels(pack.read(IMAGE_ENCODER), pixels, 0.5)
    assert caught.value.code is ErrorCode.PACK_INVALID
