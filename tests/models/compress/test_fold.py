"""Batch normalisation goes into the convolution before it, and layers that share weights go on sharing them."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from radserve.models.compress.fold import fold_batch_norms
from radserve.models.compress.prune import prune_channels
from radserve.models.compress.quantise import int8_dynamic, stripped
from radserve.models.onnx_graph import OnnxGraph

CHANNELS = 32


def mirrored(seed: int = 0, *, extra_reader: bool = False) -> bytes:
    """Two layers with normalisation, run on an image and on its negative with the same weights; the sum of both."""
    rng = np.random.default_rng(seed)
    tensors = {
        "first": rng.standard_normal((CHANNELS, 1, 3, 3)) / 3,
        "depthwise": rng.standard_normal((CHANNELS, 1, 3, 3)) / 3,
        "second": rng.standard_normal((8, CHANNELS, 1, 1)) / 6,
        "second_bias": rng.standard_normal(8),
        "minus": np.array([-1.0]),
    }
    for name, width in (("a", CHANNELS), ("b", CHANNELS), ("c", 8)):
        tensors |= {f"{name}_scale": rng.uniform(0.5, 2, width), f"{name}_shift": rng.standard_normal(width),
                    f"{name}_mean": rng.standard_normal(width), f"{name}_var": rng.uniform(0.5, 2, width)}  # fmt: skip
    nodes = [helper.make_node("Mul", ["pixels", "minus"], ["negative"])]
    for at, source in enumerate(("pixels", "negative")):

        def norm(name: str, given: str, made: str, at: int = at) -> onnx.NodeProto:
            parts = [f"{name}_{part}" for part in ("scale", "shift", "mean", "var")]
            return helper.make_node("BatchNormalization", [f"{given}{at}", *parts], [f"{made}{at}"], epsilon=1e-3)

        nodes += [
            helper.make_node("Conv", [source, "first"], [f"u{at}"], pads=[1, 1, 1, 1]),
            norm("a", "u", "v"),
            helper.make_node("Relu", [f"v{at}"], [f"w{at}"]),
            helper.make_node("Conv", [f"w{at}", "depthwise"], [f"x{at}"], pads=[1, 1, 1, 1], group=CHANNELS),
            norm("b", "x", "y"),
            helper.make_node("Relu", [f"y{at}"], [f"z{at}"]),
            helper.make_node("Conv", [f"z{at}", "second", "second_bias"], [f"r{at}"]),
            norm("c", "r", "s"),
        ]
    nodes.append(helper.make_node("Add", ["s0", "r1" if extra_reader else "s1"], ["sum"]))
    if extra_reader:  # what a normalisation reads is read by others, too
        nodes.append(helper.make_node("Add", ["sum", "s1"], ["out"]))
    else:
        nodes.append(helper.make_node("Identity", ["sum"], ["out"]))
    kept = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in tensors.items()]
    graph = helper.make_graph(
        nodes,
        "twins",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["batch", 1, 12, 12])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["batch", 8, 12, 12])],
        kept,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def images(count: int = 48, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, 1, 12, 12)).astype(np.float32)


def run(graph: bytes, pixels: np.ndarray) -> np.ndarray:
    return OnnxGraph(graph).run({"pixels": pixels})["out"]


def test_the_folded_graph_gives_the_same_with_one_set_of_weights() -> None:
    graph = mirrored()
    folded = fold_batch_norms(onnx.load_model_from_string(graph))
    onnx.checker.check_model(folded)
    assert "BatchNormalization" not in {node.op_type for node in folded.graph.node}
    assert len(folded.graph.initializer) == 3 * 2 + 1  # three layers, weight and bias, and the factor of the negative
    assert np.allclose(run(folded.SerializeToString(), images()), run(graph, images()), atol=1e-4)


def test_a_normalisation_that_is_not_the_only_reader_stays() -> None:
    graph = mirrored(extra_reader=True)
    folded = fold_batch_norms(onnx.load_model_from_string(graph))
    assert [node.op_type for node in folded.graph.node].count("BatchNormalization") == 1
    assert np.allclose(run(folded.SerializeToString(), images()), run(graph, images()), atol=1e-4)


def test_layers_that_share_weights_lose_the_same_channels_and_are_fitted_together() -> None:
    graph = mirrored()
    pruned = prune_channels(graph, images(), 0.75)
    assert pruned.channels == {"v0": (CHANNELS, 24)}
    model = onnx.load_model_from_string(pruned.graph)
    seconds = [node for node in model.graph.node if node.op_type == "Conv" and node.output[0] in ("s0", "s1")]
    assert list(seconds[0].input[1:]) == list(seconds[1].input[1:])
    new = images(seed=2)
    before, after = run(graph, new), run(pruned.graph, new)
    assert ((before - after) ** 2).mean() / before.var() < 0.25
    assert {each.dims[0] for each in model.graph.initializer} == {1, 8, 24}


def test_weights_that_are_shared_are_quantised_once() -> None:
    made = onnx.load_model_from_string(stripped(int8_dynamic(mirrored())))
    eighth = [each for each in made.graph.initializer if each.data_type == TensorProto.UINT8 and len(each.dims) == 4]
    assert len(eighth) == 3
