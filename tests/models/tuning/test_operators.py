"""Every operator against ONNX Runtime on a graph of one node."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from radserve.models.tuning.operators import OPERATORS
from radserve.models.tuning.torch_graph import TorchGraph

RNG = np.random.default_rng(2)
X = RNG.standard_normal((2, 3, 6, 6)).astype(np.float32)
Y = RNG.standard_normal((2, 3, 6, 6)).astype(np.float32)
POSITIVE = np.abs(X) + 0.1
M, N = RNG.standard_normal((4, 3)).astype(np.float32), RNG.standard_normal((3, 5)).astype(np.float32)
K = RNG.standard_normal((4, 3, 3, 3)).astype(np.float32)
V = RNG.standard_normal(3).astype(np.float32)
W = RNG.standard_normal(4).astype(np.float32)
V5 = RNG.standard_normal(5).astype(np.float32)
FLAGS = X > 0


def ints(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


CASES: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
    *((name, (X,), {}) for name in (
        "Abs", "Cos", "Erf", "Exp", "Floor", "HardSigmoid", "HardSwish", "Identity", "IsNaN", "LeakyRelu", "Neg",
        "Reciprocal", "Relu", "Sigmoid", "Sin", "Softplus", "Tanh", "Shape", "GlobalAveragePool", "Flatten",
        "Transpose",
    )),
    *((name, (POSITIVE,), {}) for name in ("Log", "Sqrt")),
    *((name, (X, Y), {}) for name in (
        "Add", "Div", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Min", "Mul", "Sub", "Sum",
    )),
    *((name, (FLAGS, Y > 0), {}) for name in ("And", "Or")),
    ("Not", (FLAGS,), {}),
    ("Sum", (X, Y, X), {}),
    ("Div", (ints(7, -7), ints(2, 2)), {}),
    ("Pow", (POSITIVE, np.float32(1.5)), {}),
    ("Where", (FLAGS, X, Y), {}),
    ("MatMul", (X, Y), {}),
    ("Gemm", (M.T.copy(), N.T.copy(), V5), {"transA": 1, "transB": 1, "alpha": 0.5, "beta": 2.0}),
    ("Gemm", (M, N), {}),
    *((name, (X, ints(1, -1)), {"keepdims": 0}) for name in (
        "ReduceMean", "ReduceL2", "ReduceMax", "ReduceMin", "ReduceSum",
    )),
    ("ReduceSum", (X,), {}),
    ("ReduceMean", (X,), {"noop_with_empty_axes": 1}),
    ("ArgMax", (np.round(X),), {"axis": 2, "keepdims": 0}),
    ("AveragePool", (X,), {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 0, 1, 1]}),
    ("AveragePool", (X,), {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1}),
    ("MaxPool", (X,), {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
    ("BatchNormalization", (X, V, V + 1, V - 1, np.abs(V) + 1), {"epsilon": 1e-3}),
    ("Cast", (X,), {"to": TensorProto.INT64}),
    ("Clip", (X, np.float32(-0.5), np.float32(0.5)), {}),
    ("Clip", (X, None, np.float32(0.5)), {}),
    ("Concat", (X, Y), {"axis": -1}),
    ("Constant", (), {"value_floats": [1.0, 2.0]}),
    ("Constant", (), {"value": numpy_helper.from_array(M)}),
    ("ConstantOfShape", (ints(2, 3),), {"value": numpy_helper.from_array(np.array([7.0], np.float32))}),
    ("Conv", (X, K, W), {"pads": [1, 2, 0, 1], "strides": [2, 1], "dilations": [1, 2]}),
    ("Conv", (X, RNG.standard_normal((3, 1, 3, 3)).astype(np.float32)), {"group": 3}),
    ("Conv", (X[:, :, 0], K[:, :, 0]), {}),
    ("Expand", (M[:, None], ints(1, 2, 1)), {}),
    ("Gather", (X, ints(0, -1)), {"axis": 2}),
    ("Gather", (X, np.array(1)), {"axis": 1}),
    ("GatherElements", (M, np.array([[0, -1, 1]])), {"axis": 0}),
    ("GatherND", (X, np.array([[0, 1], [1, 2]])), {}),
    ("LayerNormalization", (X, V[0] * np.ones(6, np.float32), np.ones(6, np.float32)), {"epsilon": 1e-3}),
    ("LpNormalization", (X,), {"axis": 1, "p": 2}),
    ("Range", (np.array(1), np.array(9), np.array(3)), {}),
    ("Reshape", (X, ints(0, -1, 4)), {}),
    ("Resize", (X, None, np.array([1, 1, 2, 1.5], np.float32)), {"mode": "linear"}),
    ("Resize", (X, None, None, ints(2, 3, 4, 11)), {"mode": "linear"}),
    ("Shape", (X,), {"start": 1, "end": -1}),
    ("Slice", (X, ints(-1, 0), ints(-9223372036854775807, 5), ints(3, 2), ints(-1, 2)), {}),
    ("Slice", (X, ints(1), ints(2)), {}),
    ("Softmax", (X,), {"axis": 1}),
    ("Split", (X, ints(1, 2)), {"axis": 1}),
    ("Split", (X,), {"axis": 3, "num_outputs": 2}),
    ("Squeeze", (X[:, :1], ints(1)), {}),
    ("Squeeze", (X[:1, :1],), {}),
    ("Transpose", (X,), {"perm": [0, 2, 3, 1]}),
    ("Trilu", (M, np.array(1)), {"upper": 0}),
    ("Trilu", (M,), {}),
    ("Unsqueeze", (M, ints(0, -1)), {}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("operator", "inputs", "attributes"), CASES, ids=[f"{each[0]}-{place}" for place, each in enumerate(CASES)]
)
def test_an_operator_gives_what_onnx_runtime_gives(
    operator: str, inputs: tuple[Any, ...], attributes: dict[str, Any]
) -> None:
    given = {f"x{place}": np.asarray(each) for place, each in enumerate(inputs) if each is not None}
    names = ["" if each is None else f"x{place}" for place, each in enumerate(inputs)]
    outputs = ["y0", "y1"] if operator == "Split" else ["y0"]
    node = helper.make_node(operator, names, outputs, **attributes)
    graph = helper.make_graph(
        [node],
        "one",
        [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(each.dtype), each.shape)
            for name, each in given.items()
        ],
        [onnx.ValueInfoProto(name=name) for name in outputs],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    expected = session.run(outputs, given)
    found = TorchGraph(model).run({name: torch.from_numpy(each.copy()) for name, each in given.items()})
    for name, each in zip(outputs, expected, strict=True):
        ours = found[name].numpy()
        assert (ours.dtype, ours.shape) == (each.dtype, each.shape)
        np.testing.assert_allclose(ours, each, rtol=1e-5, atol=1e-5)


def test_no_operator_is_left_untried() -> None:
    tried = {operator for operator, _, _ in CASES}
    assert OPERATORS.keys() - tried == {"Gelu"}  # of opset 20, which the exporter here does not write
