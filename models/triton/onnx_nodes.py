"""Reading and rebuilding the nodes of an ONNX graph (needs the package onnx)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper


class Nodes:
    """The nodes of a model's graph by what they give and take, and the values of its constants."""

    def __init__(self, model: onnx.ModelProto) -> None:
        graph = model.graph
        self.values: dict[str, npt.NDArray[Any]] = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
        self._giver = {name: node for node in graph.node for name in node.output}
        self._takers: dict[str, list[onnx.NodeProto]] = {}
        for node in graph.node:
            for name in node.input:
                self._takers.setdefault(name, []).append(node)

    def giver(self, name: str, kind: str) -> onnx.NodeProto:
        """The node that gives a value; raises ValueError where it is not one of this kind."""
        return _of_kind(name, self._giver.get(name), kind)

    def taker(self, name: str, kind: str, besides: onnx.NodeProto | None = None) -> onnx.NodeProto:
        """The one node that takes a value, `besides` another; raises ValueError where it is not one of this kind."""
        found = [node for node in self._takers.get(name, ()) if node is not besides]
        return _of_kind(name, found[0] if len(found) == 1 else None, kind)

    def is_taken(self, name: str) -> bool:
        """Whether any node takes a value."""
        return name in self._takers


def _of_kind(name: str, node: onnx.NodeProto | None, kind: str) -> onnx.NodeProto:
    if node is None or node.op_type != kind:
        raise ValueError(f"{name}: got {node.op_type if node else 'nothing or several'}, expected one {kind}")
    return node


def attribute(node: onnx.NodeProto, name: str) -> Any:
    """An attribute's value; None where the node has none of that name."""
    return next((helper.get_attribute_value(each) for each in node.attribute if each.name == name), None)


def constant(name: str, value: npt.ArrayLike) -> onnx.TensorProto:
    """A constant of a graph."""
    return numpy_helper.from_array(np.asarray(value), name)


def rebuilt(
    like: onnx.ModelProto,
    nodes: Sequence[onnx.NodeProto],
    constants: Iterable[onnx.TensorProto] = (),
    *,
    inputs: Sequence[onnx.ValueInfoProto] | None = None,
    outputs: Sequence[onnx.ValueInfoProto] | None = None,
    opset: int | None = None,
) -> onnx.ModelProto:
    """A model of those of `nodes` that its outputs need, with the constants of `like` and more.

    Inferred shapes are left behind: where the nodes are others they may be wrong.
    """
    inputs = list(like.graph.input) if inputs is None else inputs
    outputs = list(like.graph.output) if outputs is None else outputs
    live, needed = [], {each.name for each in outputs}
    for node in reversed(nodes):
        if needed & set(node.output):
            live.append(node)
            needed |= set(node.input)
    opsets = {each.domain: each.version for each in like.opset_import}
    opsets[""] = opset or opsets[""]
    graph = helper.make_graph(
        live[::-1],
        "graph",
        inputs,
        outputs,
        [each for each in (*like.graph.initializer, *constants) if each.name in needed],
    )
    imports = [helper.make_opsetid(domain, version) for domain, version in opsets.items()]
    return helper.make_model(graph, opset_imports=imports, ir_version=max(like.ir_version, 11))
