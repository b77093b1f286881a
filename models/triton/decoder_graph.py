"""Writes a decoder as ONNX graphs that do as little as ONNX Runtime needs for a token (needs the package onnx).

One row is one token, so a product with its bias is one operator; attention over the tokens before is one operator of
ONNX Runtime's own (com.microsoft.GroupQueryAttention), which writes a token's keys and values into the slot they lie in
and reads of it only what is filled.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import count
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from radserve.models.triton.step_weights import Block, Linear, Norm, StepWeights

_OPSET, _IR_VERSION = 21, 10
RUNTIME = "com.microsoft"
_HEAD_UNIT = 8  # the width of a head in GroupQueryAttention is a multiple of it

FLOAT, INT32 = TensorProto.FLOAT, TensorProto.INT32


class DecoderGraph:
    """A graph in the making: its methods add what a part of a decoder computes and return the name of the result."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []

    def constant(self, value: npt.ArrayLike) -> str:
        name = f"constant_{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def node(self, kind: str, *inputs: str, outputs: Iterable[str] = (), domain: str = "", **attributes: Any) -> str:
        names = list(outputs) or [f"value_{len(self._nodes)}"]
        self._nodes.append(helper.make_node(kind, list(inputs), names, domain=domain, **attributes))
        return names[0]

    def taken(self, name: str, shape: Iterable[int | str], kind: int = FLOAT) -> str:
        """An input of the graph."""
        self._inputs.append(helper.make_tensor_value_info(name, kind, ["batch", *shape]))
        return name

    def given(self, name: str, shape: Iterable[int | str]) -> str:
        """An output of the graph; what gives it is added after or before."""
        self._outputs.append(helper.make_tensor_value_info(name, FLOAT, ["batch", *shape]))
        return name

    def finished(self) -> bytes:
        graph = helper.make_graph(self._nodes, "decoder", self._inputs, self._outputs, self._constants)
        opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid(RUNTIME, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION).SerializeToString()

    def reshaped(self, x: str, *shape: int, outputs: Iterable[str] = ()) -> str:
        return self.node("Reshape", x, self.constant(np.array(shape)), outputs=outputs)

    def parts(self, x: str, number: int) -> list[str]:
        """`x` (N, number, ...) as so many (N, 1, ...); `x` itself where it is one."""
        names = [f"{x}_{each}" for each in range(number)]
        if number > 1:
            self.node("Split", x, outputs=names, axis=1, num_outputs=number)
        return names if number > 1 else [x]

    def norm(self, x: str, norm: Norm) -> str:
        weights = self.constant(norm.scale), self.constant(norm.bias)
        return self.node("LayerNormalization", x, *weights, epsilon=norm.epsilon)

    def linear(self, rows: str, linear: Linear) -> str:
        return self.node("Gemm", rows, self.constant(linear.weight), self.constant(linear.bias))

    def rest_of_block(self, rows: str, attended: str, block: Block) -> str:
        """Adds what attention found, and then the perceptron."""
        rows = self.node("Add", rows, self.linear(attended, block.out))
        hidden = self.node("Gelu", self.linear(self.norm(rows, block.mlp_norm), block.up))
        return self.node("Add", rows, self.linear(hidden, block.down))


def start_graph(weights: StepWeights, patches: int, channels: int) -> bytes:
    """`image_tokens` (N, P, C) -> `seen_0` ...: keys (N, H, D, P) and values (N, H, P, D) of each look at the image."""
    graph = DecoderGraph()
    image = graph.taken("image_tokens", (patches, channels))
    names = (f"seen_{number}" for number in count())
    for block in weights.layers:
        if isinstance(block, Norm) or not block.image_norm:
            continue
        normed = graph.norm(image, block.image_norm)
        _, keys, values = block.projections.parts(3)
        for part, order in ((keys, (0, 2, 3, 1)), (values, (0, 2, 1, 3))):
            product = graph.node("MatMul", normed, graph.constant(part.weight))
            by_heads = (patches, weights.heads, len(part.bias) // weights.heads)
            found = graph.reshaped(graph.node("Add", product, graph.constant(part.bias)), -1, *by_heads)
            result = graph.given(next(names), [by_heads[axis - 1] for axis in order[1:]])
            graph.node("Transpose", found, outputs=[result], perm=order)
    return graph.finished()


def step_graph(weights: StepWeights, patches: int, tokens: int = 1) -> bytes:
    """`token`, `position` (N,) int32, `slot_*`, `seen_*` -> `logits` (N, V), `kept_*`: slots with this token's row.

    With several `tokens`, which follow one another, `token` and `position` are (N, tokens) and `logits` (N, tokens, V):
    all rows go through a product together, but attention takes them in turn, each as it would be taken alone.
    """
    graph, axis = DecoderGraph(), (tokens,) if tokens > 1 else ()
    token, position = graph.taken("token", axis, INT32), graph.taken("position", axis, INT32)
    logits = graph.given("logits", (*axis, weights.to_logits.shape[1]))
    positions = graph.parts(position, tokens)
    if axis:
        token, position = graph.reshaped(token, -1), graph.reshaped(position, -1)
    places = graph.node("Gather", graph.constant(weights.positions), position)
    rows = graph.node("Add", graph.node("Gather", graph.constant(weights.words), token), places)
    slots, seen = count(), count()
    for layer in weights.layers:
        if isinstance(layer, Norm):
            rows = graph.norm(rows, layer)
            continue
        block = layer if layer.image_norm else layer.with_wider_heads(weights.heads, _HEAD_UNIT)
        if block.image_norm:
            shown = f"seen_{next(seen)}", f"seen_{next(seen)}"
            attended = _over_image(graph, rows, block, weights.heads, (tokens, patches), shown)
        else:
            numbers = (next(slots), next(slots))
            attended = _over_text(graph, rows, block, weights.heads, len(weights.positions), positions, numbers)
        rows = graph.rest_of_block(rows, attended, block)
    product = (graph.norm(rows, weights.last), graph.constant(weights.to_logits))
    if axis:
        graph.reshaped(graph.node("MatMul", *product), -1, *axis, weights.to_logits.shape[1], outputs=[logits])
    else:
        graph.node("MatMul", *product, outputs=[logits])
    return graph.finished()


def _over_image(
    graph: DecoderGraph, rows: str, block: Block, heads: int, sizes: tuple[int, int], seen: tuple[str, str]
) -> str:
    """What rows find in the image; `sizes` are the tokens of a text and the patches. Adds the inputs `seen`."""
    tokens, patches = sizes
    queries = block.projections.parts(3)[0]
    width = len(queries.bias) // heads
    axis = (tokens,) if tokens > 1 else ()
    asked = graph.reshaped(graph.linear(graph.norm(rows, block.attention_norm), queries), -1, *axis, heads, 1, width)
    keys, values = graph.taken(seen[0], (heads, width, patches)), graph.taken(seen[1], (heads, patches, width))
    if axis:
        keys, values = (graph.node("Unsqueeze", each, graph.constant(np.array([1]))) for each in (keys, values))
    shares = graph.node("Softmax", graph.node("MatMul", asked, keys))
    return graph.reshaped(graph.node("MatMul", shares, values), -1, heads * width)


def _over_text(
    graph: DecoderGraph,
    rows: str,
    block: Block,
    heads: int,
    length: int,
    positions: list[str],
    numbers: tuple[int, int],
) -> str:
    """What rows find in the tokens up to their own; adds the slots of these numbers."""
    width = len(block.out.weight) // heads
    slots = [graph.taken(f"slot_{number}", (heads, length, width)) for number in numbers]
    kept = [graph.given(f"kept_{number}", (heads, length, width)) for number in numbers]
    projected = graph.linear(graph.norm(rows, block.attention_norm), block.projections)
    projected = graph.reshaped(projected, -1, len(positions), 3 * heads * width)
    full, found = graph.constant(np.array(length, np.int32)), []
    for row, position in zip(graph.parts(projected, len(positions)), positions, strict=True):
        last = position == positions[-1]
        after = kept if last else [f"{slot}_after_{position}" for slot in slots]
        attended = graph.node(
            "GroupQueryAttention",
            *(row, "", "", *slots, position, full),  # filled before this token; what a slot can hold
            outputs=[f"{row}_attended", *after],
            domain=RUNTIME,
            num_heads=heads,
            kv_num_heads=heads,
            scale=1.0,
        )
        found.append(attended)
        slots = after
    attended = graph.node("Concat", *found, axis=1) if len(found) > 1 else found[0]
    return graph.reshaped(attended, -1, heads * width)
