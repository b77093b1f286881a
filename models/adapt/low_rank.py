"""Low-rank changes of a tower's weights, and how they are merged into the ONNX graph that is served.

LoRA (Hu et al., ICLR 2022, arXiv 2106.09685): weight + scale / rank x (B A) for every product with a matrix of weights
and every 1 x 1 convolution. Merged, the graph has the nodes and shapes that it had, with other numbers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, numpy_helper

from radserve.models.pack_files import invalid

Pair = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]
_LEAST_SIDE = 2


def targets(model: onnx.ModelProto) -> dict[str, tuple[int, int]]:
    """The weights that low-rank changes apply to, with (rows, columns) of each seen as a matrix."""
    weights = {each.name: tuple(each.dims) for each in model.graph.initializer if each.data_type == TensorProto.FLOAT}
    turned = {node.output[0]: node.input[0] for node in model.graph.node if node.op_type == "Transpose"}
    found: dict[str, tuple[int, int]] = {}
    for node in model.graph.node:
        if node.op_type in ("MatMul", "Gemm"):
            for name in node.input[:2]:
                shape = weights.get(turned.get(name, name), ())
                if len(shape) == 2 and min(shape) >= _LEAST_SIDE:
                    found[turned.get(name, name)] = shape
        elif node.op_type == "Conv" and node.input[1] in weights:
            shape = weights[node.input[1]]
            grouped = any(each.name == "group" and each.i != 1 for each in node.attribute)
            if math.prod(shape[2:]) == 1 and not grouped and min(shape[:2]) >= _LEAST_SIDE:
                found[node.input[1]] = (shape[0], shape[1])
    return found


def merged(model: onnx.ModelProto, changes: Mapping[str, Pair], factor: float) -> onnx.ModelProto:
    """A copy with `factor` x (B @ A) added to each weight of `changes`: name -> (A (rank, columns), B (rows, rank)).

    Raises PACK_INVALID naming a weight that the graph has not, and factors of another shape than its own.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    known = targets(copy)
    by_name = {each.name: each for each in copy.graph.initializer}
    for name, (a, b) in changes.items():
        if name not in known:
            raise invalid(f"adapter: the graph has no weight {name!r} to change")
        rows, columns = known[name]
        if a.shape[1:] != (columns,) or b.shape[:1] != (rows,) or a.shape[:1] != b.shape[1:]:
            raise invalid(
                f"adapter: {name!r}: got A {a.shape} and B {b.shape}, expected (rank, {columns}), ({rows}, rank)"
            )
        weight = numpy_helper.to_array(by_name[name])
        delta = factor * (b.astype(np.float64) @ a.astype(np.float64))
        changed = (weight.astype(np.float64) + delta.reshape(weight.shape)).astype(np.float32)
        by_name[name].CopyFrom(numpy_helper.from_array(changed, name))
    return copy


def as_tensors(changes: Mapping[str, Pair], tower: str) -> dict[str, npt.NDArray[Any]]:
    """The changes of a tower ("image", "text") as an adapter file holds them."""
    return {
        f"{tower}/{name}/{side}": each for name, pair in changes.items() for side, each in zip("AB", pair, strict=True)
    }


def from_tensors(tensors: Mapping[str, npt.NDArray[Any]], tower: str) -> dict[str, Pair]:
    """The changes of a tower in the tensors of an adapter file. Raises PACK_INVALID for half a change."""
    names = dict.fromkeys(name[len(tower) + 1 : -2] for name in tensors if name.startswith(f"{tower}/"))
    try:
        pairs = {name: (tensors[f"{tower}/{name}/A"], tensors[f"{tower}/{name}/B"]) for name in names}
    except KeyError as error:
        raise invalid(f"adapter: the tensor {error} is missing") from error
    for name, pair in pairs.items():
        if any(each.ndim != 2 or each.dtype != np.float32 or not np.isfinite(each).all() for each in pair):
            raise invalid(f"adapter: {name!r}: its factors are not finite float32 matrices")
    return pairs
