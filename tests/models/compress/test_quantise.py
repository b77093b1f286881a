"""Smaller numbers: inputs and outputs stay, answers stay near, files become smaller."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from radserve.errors import ErrorCode, PackError
from radserve.models.compress import quantise
from radserve.models.compress.quantise import fp16, int8_dynamic, int8_static, stripped
from radserve.models.onnx_graph import OnnxGraph
from radserve.models.onnx_signature import read_signature


@pytest.fixture(scope="module")
def graph() -> bytes:
    """Two convolutions and a matrix product, wide enough for the weights to be what counts."""
    rng = np.random.default_rng(0)
    weights = {
        "a": rng.standard_normal((64, 1, 3, 3)) / 3,
        "b": rng.standard_normal((64, 64, 3, 3)) / 24,
        "c": rng.standard_normal((64, 128)) / 8,
    }
    nodes = [
        helper.make_node("Conv", ["pixels", "a"], ["x"], strides=[2, 2], pads=[1, 1, 1, 1], doc_string="long " * 400),
        helper.make_node("Relu", ["x"], ["y"]),
        helper.make_node("Conv", ["y", "b"], ["z"], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("GlobalAveragePool", ["z"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "c"], ["embedding"]),
    ]
    tensors = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights.items()]
    pixels = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["batch", 1, 28, 28])
    embedding = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", 128])
    model = helper.make_model(
        helper.make_graph(nodes, "g", [pixels], [embedding], tensors),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=9,
    )
    return model.SerializeToString()


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(1).standard_normal((32, 1, 28, 28)).astype(np.float32)


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    return float((one * other).sum() / np.linalg.norm(one) / np.linalg.norm(other))


@pytest.mark.parametrize(
    ("method", "ratio", "least"), [("dynamic", 0.3, 0.99), ("static", 0.3, 0.99), ("fp16", 0.55, 0.9999)]
)
def test_a_graph_gets_smaller_and_its_answers_stay_near(
    graph: bytes, images: np.ndarray, method: str, ratio: float, least: float
) -> None:
    made = {"dynamic": int8_dynamic, "static": lambda raw: int8_static(raw, images), "fp16": fp16}[method](graph)
    made, plain = stripped(made), stripped(graph)
    assert len(made) / len(plain) <= ratio
    assert read_signature(made, "made") == read_signature(graph, "original")
    before = OnnxGraph(graph).run({"pixels": images})["embedding"]
    after = OnnxGraph(made).run({"pixels": images})["embedding"]
    assert cosine(before, after) >= least


def test_the_ranges_are_those_of_the_usual_values_whatever_one_pixel_says(
    graph: bytes, images: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = images.copy()
    odd[0, 0, 0, 0] = 1000.0  # were it in the ranges, a step of the input would be four deviations wide
    made = int8_static(graph, odd)
    expected = OnnxGraph(graph).run({"pixels": images})["embedding"]
    answers = OnnxGraph(made).run({"pixels": images})["embedding"]
    assert min(cosine(one, other) for one, other in zip(expected[1:], answers[1:], strict=True)) > 0.95
    assert capsys.readouterr().out == ""  # the tool's own words


def test_what_the_exporter_noted_is_left_out_and_nothing_else_changes(graph: bytes, images: np.ndarray) -> None:
    plain = stripped(graph)
    assert len(plain) < len(graph) - 1000
    outputs = [OnnxGraph(raw).run({"pixels": images})["embedding"] for raw in (graph, plain)]
    assert outputs[0].tobytes() == outputs[1].tobytes()
    onnx.checker.check_model(onnx.load_model_from_string(plain))


def test_a_last_layer_whose_weights_make_the_maps_as_well_is_quantised_too(images: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    weights = {"a": rng.standard_normal((16, 1, 3, 3)) / 3, "last": rng.standard_normal((18, 16)), "bias": np.zeros(18)}
    nodes = [
        helper.make_node("Conv", ["pixels", "a"], ["x"], strides=[4, 4]),
        helper.make_node("GlobalAveragePool", ["x"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "last", "bias"], ["logits"], transB=1),
        helper.make_node("Unsqueeze", ["last", "axes"], ["kernels"]),
        helper.make_node("Conv", ["x", "kernels"], ["maps"]),
    ]
    tensors = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights.items()]
    tensors.append(numpy_helper.from_array(np.array([2, 3]), "axes"))
    pixels = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["batch", 1, 28, 28])
    outputs = [
        helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 18]),
        helper.make_tensor_value_info("maps", TensorProto.FLOAT, ["batch", 18, 7, 7]),
    ]
    stated = helper.make_tensor_value_info("last", TensorProto.FLOAT, [18, 16])  # as PyTorch's exporter does
    plain = helper.make_model(
        helper.make_graph(nodes, "g", [pixels], outputs, tensors, value_info=[stated]),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=9,
    ).SerializeToString()
    expected = OnnxGraph(plain).run({"pixels": images})
    for made in (int8_dynamic(plain), int8_static(plain, images)):
        found = OnnxGraph(made).run({"pixels": images})
        assert all(cosine(found[name], expected[name]) > 0.99 for name in ("logits", "maps"))


def test_what_the_tools_cannot_make_is_refused_by_a_code(monkeypatch: pytest.MonkeyPatch, graph: bytes) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("no such operator")

    monkeypatch.setattr(quantise, "quantize_dynamic", refuse)
    with pytest.raises(PackError, match="cannot make 8 bits") as caught:
        int8_dynamic(graph)
    assert caught.value.code is ErrorCode.PACK_INVALID and "no such operator" in caught.value.detail
