"""An ONNX graph of a pack as a PyTorch function: what a pack serves is what learns, without its former source code.

Every graph that is read is held to ONNX Runtime before anything is learned in it: an operator that was misread would
otherwise teach a network that is not the one served.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch import Tensor

from radserve.errors import ErrorCode, PackError
from radserve.models.onnx_graph import OnnxGraph
from radserve.models.pack import ModelPack
from radserve.models.tuning.operators import OPERATORS

Edit = Callable[[Tensor], Tensor]
TOLERANCE = 1e-4  # of the largest value of an output, at least of 1
_BATCHES = (1, 3)


class TorchGraph:
    """A graph whose values can be edited while it runs. `weights` are its float initializers, without gradient.

    Raises PACK_INVALID naming an operator that is not known here.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.nodes = [_Node(node) for node in model.graph.node]
        self.inputs = [each.name for each in model.graph.input]
        self.outputs = [each.name for each in model.graph.output]
        self.weights = {
            each.name: torch.from_numpy(numpy_helper.to_array(each).copy()) for each in model.graph.initializer
        }
        unknown = sorted({node.operator for node in self.nodes} - OPERATORS.keys())
        if unknown:
            raise PackError(ErrorCode.PACK_INVALID, f"no gradient goes through the operators {unknown} of the graph")

    def run(
        self, inputs: Mapping[str, Tensor], wanted: Sequence[str] = (), edits: Mapping[str, Edit] | None = None
    ) -> dict[str, Tensor]:
        """The outputs `wanted` (all without). `edits` change weights or values by name before anything reads them.

        Raises PACK_INVALID naming a form of an operator that is not known here.
        """
        changed = edits or {}
        outputs = list(wanted) or self.outputs
        values: dict[str, Tensor] = {**self.weights, **inputs}
        values.update({name: edit(values[name]) for name, edit in changed.items() if name in values})
        for node in self._needed(outputs):
            made = _made(node, [values[name] if name else None for name in node.inputs])
            for name, value in zip(node.outputs, made if isinstance(made, tuple) else (made,), strict=False):
                values[name] = changed[name](value) if name in changed else value
        return {name: values[name] for name in outputs}

    def _needed(self, outputs: Sequence[str]) -> list[_Node]:
        wanted = set(outputs)
        needed = []
        for node in reversed(self.nodes):
            if wanted.intersection(node.outputs):
                wanted.update(node.inputs)
                needed.append(node)
        return needed[::-1]


def _made(node: _Node, inputs: Sequence[Tensor | None]) -> Tensor | tuple[Tensor, ...]:
    try:
        return OPERATORS[node.operator](node.attributes, *inputs)
    except NotImplementedError as error:
        raise PackError(ErrorCode.PACK_INVALID, f"no gradient goes through {node.operator}: {error}") from None


class _Node:
    def __init__(self, node: onnx.NodeProto) -> None:
        self.operator = node.op_type if not node.domain else f"{node.domain}.{node.op_type}"
        self.inputs, self.outputs = list(node.input), list(node.output)
        self.attributes: dict[str, Any] = {each.name: helper.get_attribute_value(each) for each in node.attribute}


def read_torch_graph(pack: ModelPack, name: str) -> TorchGraph:
    """The graph `name` of a pack, held to ONNX Runtime on seeded inputs of two batch sizes.

    Raises PACK_INVALID for another precision than fp32, an unknown operator, and outputs that differ.
    """
    spec = pack.graphs[name]
    if spec.precision != "fp32":
        raise PackError(ErrorCode.PACK_INVALID, f"graph {name!r} has {spec.precision} weights: learning needs fp32")
    content = pack.read(name)
    graph = TorchGraph(onnx.load_model_from_string(content))
    off = largest_difference(graph, content)
    if not off <= TOLERANCE:
        message = f"graph {name!r} read for learning differs from ONNX Runtime by {off:.2e}, more than {TOLERANCE:g}"
        raise PackError(ErrorCode.PACK_INVALID, message)
    return graph


def largest_difference(graph: TorchGraph, content: bytes, edits: Mapping[str, Edit] | None = None) -> float:
    """The largest difference of any output from the ONNX file `content` in ONNX Runtime, as a share of its largest
    value (of 1 where that is smaller); NaN where there is one."""
    served = OnnxGraph(content)
    rng = np.random.default_rng(3)
    worst = 0.0
    for batch in _BATCHES:
        inputs = {
            name: rng.standard_normal((batch, *shape), dtype=np.float32)
            if kind == "tensor(float)"
            else rng.integers(0, 2, (batch, *shape))  # token ids that every pack has
            for name, (kind, shape) in served.inputs.items()
        }
        names = [name for name in graph.outputs if name in served.outputs]
        with torch.inference_mode():
            ours = graph.run({name: torch.from_numpy(each) for name, each in inputs.items()}, names, edits)
        theirs = served.run(inputs)
        differences = [
            np.abs(ours[name].numpy() - theirs[name]).max() / max(1.0, np.abs(theirs[name]).max()) for name in names
        ]
        worst = float(np.max([worst, *differences]))  # NaN where one is
    return worst
