"""The weights of a decoder, read out of its exported step graph (needs the package onnx).

They are told by what is computed with them and in what order, as models/train/decoder_step.py computes it: names do not
tell, since an exporter turns weights and merges those of equal values.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Norm:
    """A layer normalisation over the last axis: `scale` and `bias` (W,)."""

    scale: Array
    bias: Array
    epsilon: float


@dataclass(frozen=True)
class Linear:
    """`x @ weight + bias`: `weight` (I, O), `bias` (O,)."""

    weight: Array
    bias: Array

    def parts(self, number: int) -> list[Linear]:
        """As many products side by side."""
        weights, biases = np.split(self.weight, number, axis=1), np.split(self.bias, number)
        return [Linear(*both) for both in zip(weights, biases, strict=True)]


@dataclass(frozen=True)
class Block:
    """A transformer block that normalises first.

    `projections` (W, 3 W) are queries, keys and values, heads in turn; queries are divided by the root of a head's
    width. `image_norm` is there where keys and values are of the image.
    """

    attention_norm: Norm
    projections: Linear
    out: Linear
    mlp_norm: Norm
    up: Linear
    down: Linear
    image_norm: Norm | None

    def with_wider_heads(self, heads: int, unit: int) -> Block:
        """The same with zeros behind each head, so that its width is a multiple of `unit`."""
        weight, bias = (_widened(each, 3 * heads, unit) for each in (self.projections.weight, self.projections.bias))
        out = Linear(_widened(self.out.weight.T, heads, unit).T, self.out.bias)
        return replace(self, projections=Linear(weight, bias), out=out)


def _widened(columns: Array, heads: int, unit: int) -> Array:
    """`columns` (..., heads * D) with zeros behind each D up to a multiple of `unit`."""
    by_heads = columns.reshape(*columns.shape[:-1], heads, -1)
    missing = -by_heads.shape[-1] % unit
    padded = np.pad(by_heads, [(0, 0)] * (by_heads.ndim - 1) + [(0, missing)])
    return padded.reshape(*columns.shape[:-1], -1)


@dataclass(frozen=True)
class StepWeights:
    """`words` (V, W), `positions` (T, W), what follows them in turn, and `to_logits` (W, V)."""

    words: Array
    positions: Array
    layers: tuple[Block | Norm, ...]
    last: Norm
    to_logits: Array
    heads: int


def step_weights(model: onnx.ModelProto) -> StepWeights:
    """Read a step graph; raises KeyError or ValueError for one that is not of this build."""
    read = _Reader(model)
    layers: list[Block | Norm] = []
    while read.parts:
        opens_block = len(read.parts) > 1 and isinstance(read.parts[1], _Product)
        layers.append(read.block() if opens_block else read.norm())
    last = layers.pop()
    if not isinstance(last, Norm):
        raise ValueError("got a block at the end, expected a norm")
    return StepWeights(
        read.array(read.gathered["token"]),
        read.array(read.gathered["position"]),
        tuple(layers),
        last,
        read.array(read.products[-1].weight),
        read.heads,
    )


@dataclass(frozen=True)
class _Product:
    """A product with constants, by their names."""

    of: str
    weight: str
    bias: str = ""


class _Reader:
    """Norms and products of a graph in the order in which they are computed, those over the image apart."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._values: dict[str, npt.NDArray[Any]] = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
        self._image_norms: dict[str, Norm] = {}  # by the weight of the product that takes what they give
        self.parts: list[Norm | _Product] = []
        self.products: list[_Product] = []
        self.gathered: dict[str, str] = {}
        self.heads = 0
        over_image: dict[str, Norm] = {}
        open_products: dict[str, _Product] = {}
        for node in model.graph.node:
            source, other = node.input[0], node.input[-1]
            if node.op_type == "Transpose" and source in self._values:
                order = next(helper.get_attribute_value(each) for each in node.attribute if each.name == "perm")
                self._values[node.output[0]] = self._values[source].transpose(order)
            elif node.op_type == "Gather":
                self.gathered[other] = source
            elif node.op_type == "LayerNormalization" and source == "image_tokens":
                over_image[node.output[0]] = self._norm(node)
            elif node.op_type == "LayerNormalization":
                self.parts.append(self._norm(node))
            elif node.op_type == "MatMul" and other in self._values:
                product = open_products[node.output[0]] = _Product(source, other)
                self.products.append(product)
            elif node.op_type == "Add" and source in open_products:
                product = open_products[source]
                if product.of in over_image:
                    self._image_norms[product.weight] = over_image[product.of]
                else:
                    self.parts.append(replace(product, bias=other))
            elif node.op_type == "Reshape" and len(shape := self._values[other]) == 4:
                self.heads = int(shape[2])  # queries become (N, 1, heads, width of one)

    def array(self, name: str) -> Array:
        value = self._values[name]
        if value.dtype != np.float32:
            raise ValueError(f"{name}: got {value.dtype}, expected float32")
        return value

    def _norm(self, node: onnx.NodeProto) -> Norm:
        told = {each.name: helper.get_attribute_value(each) for each in node.attribute}
        return Norm(self.array(node.input[1]), self.array(node.input[2]), told.get("epsilon", 1e-5))

    def norm(self) -> Norm:
        """The next part."""
        part = self.parts.pop(0)
        if not isinstance(part, Norm):
            raise ValueError(f"got the product with {part.weight}, expected a norm")
        return part

    def _linear(self) -> tuple[Linear, str]:
        part = self.parts.pop(0)
        if not isinstance(part, _Product):
            raise ValueError("got a norm, expected a product")
        return Linear(self.array(part.weight), self.array(part.bias)), part.weight

    def block(self) -> Block:
        """The next six parts."""
        attention_norm, (projections, name), (out, _) = self.norm(), self._linear(), self._linear()
        width = len(projections.weight)
        scale = np.repeat(np.array([(width / self.heads) ** -0.5, 1, 1], np.float32), width)
        return Block(
            attention_norm,
            Linear(projections.weight * scale, projections.bias * scale),
            out,
            self.norm(),
            self._linear()[0],
            self._linear()[0],
            self._image_norms.get(name),
        )
