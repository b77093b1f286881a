"""The ONNX operators that exported towers are made of, in PyTorch, so that a gradient goes through them.

Semantics: https://onnx.ai/onnx/operators, opset 13 to 18, at inference. An operator gets its attributes and its inputs;
an input that was left out is None.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from onnx import TensorProto, numpy_helper
from torch import Tensor
from torch.nn import functional

Attributes = Mapping[str, Any]
Operator = Callable[..., Tensor | tuple[Tensor, ...]]

_TYPES = {
    TensorProto.FLOAT: torch.float32,
    TensorProto.DOUBLE: torch.float64,
    TensorProto.FLOAT16: torch.float16,
    TensorProto.BFLOAT16: torch.bfloat16,
    TensorProto.INT32: torch.int32,
    TensorProto.INT64: torch.int64,
    TensorProto.BOOL: torch.bool,
}


def _numbers(tensor: Tensor | None) -> list[int]:
    return [] if tensor is None else [int(each) for each in tensor.reshape(-1).tolist()]


def _axes(attributes: Attributes, given: Tensor | None) -> list[int]:
    """Axes stand in an attribute up to opset 12 or 17, in an input from then on."""
    return list(attributes.get("axes", ())) or _numbers(given)


def _constant(attributes: Attributes) -> Tensor:
    if "value" in attributes:
        return torch.from_numpy(numpy_helper.to_array(attributes["value"]).copy())
    name = next(iter(attributes))
    return torch.tensor(attributes[name], dtype=torch.int64 if "int" in name else torch.float32)


def _filled(attributes: Attributes, shape: Tensor) -> Tensor:
    value = attributes.get("value")
    filling = torch.zeros(1) if value is None else torch.from_numpy(numpy_helper.to_array(value).copy())
    return filling.reshape(()).expand(_numbers(shape)).clone()


def _shape(attributes: Attributes, data: Tensor) -> Tensor:
    return torch.tensor(data.shape[attributes.get("start", 0) : attributes.get("end")], dtype=torch.int64)


def _reshape(attributes: Attributes, data: Tensor, shape: Tensor) -> Tensor:
    sizes = _numbers(shape)
    if not attributes.get("allowzero"):
        sizes = [data.shape[axis] if size == 0 else size for axis, size in enumerate(sizes)]
    return data.reshape(sizes)


def _squeeze(attributes: Attributes, data: Tensor, axes: Tensor | None = None) -> Tensor:
    chosen = _axes(attributes, axes)
    return data.squeeze(tuple(chosen)) if chosen else data.squeeze()


def _unsqueeze(attributes: Attributes, data: Tensor, axes: Tensor | None = None) -> Tensor:
    chosen = _axes(attributes, axes)
    rank = data.ndim + len(chosen)
    for axis in sorted(each % rank for each in chosen):
        data = data.unsqueeze(axis)
    return data


def _slice(
    _: Attributes, data: Tensor, starts: Tensor, ends: Tensor, axes: Tensor | None = None, steps: Tensor | None = None
) -> Tensor:
    first, last = _numbers(starts), _numbers(ends)
    chosen = _numbers(axes) or list(range(len(first)))
    strides = _numbers(steps) or [1] * len(first)
    for axis, start, end, step in zip(chosen, first, last, strides, strict=True):
        places = range(*slice(start, end, step).indices(data.shape[axis]))
        if step == 1:
            data = data.narrow(axis, places.start, len(places))
        else:
            data = data.index_select(axis, torch.tensor(list(places), dtype=torch.int64))
    return data


def _split(attributes: Attributes, data: Tensor, sizes: Tensor | None = None) -> tuple[Tensor, ...]:
    axis = attributes.get("axis", 0)
    wanted = _numbers(sizes) or math.ceil(data.shape[axis] / attributes["num_outputs"])
    return tuple(torch.split(data, wanted, axis))


def _gather(attributes: Attributes, data: Tensor, indices: Tensor) -> Tensor:
    axis = attributes.get("axis", 0) % data.ndim
    places = torch.where(indices < 0, indices + data.shape[axis], indices)
    found = data.index_select(axis, places.reshape(-1))
    return found.reshape(*data.shape[:axis], *indices.shape, *data.shape[axis + 1 :])


def _gather_elements(attributes: Attributes, data: Tensor, indices: Tensor) -> Tensor:
    axis = attributes.get("axis", 0)
    return data.gather(axis, torch.where(indices < 0, indices + data.shape[axis], indices))


def _gather_nd(attributes: Attributes, data: Tensor, indices: Tensor) -> Tensor:
    if attributes.get("batch_dims", 0):
        raise NotImplementedError("GatherND with batch_dims")
    return data[tuple(indices[..., axis] for axis in range(indices.shape[-1]))]


def _expand(_: Attributes, data: Tensor, shape: Tensor) -> Tensor:
    return data.expand(np.broadcast_shapes(tuple(data.shape), tuple(_numbers(shape))))


def _cast(attributes: Attributes, data: Tensor) -> Tensor:
    return data.to(_TYPES[attributes["to"]])


def _division(_: Attributes, one: Tensor, other: Tensor) -> Tensor:
    if one.is_floating_point():
        return one / other
    return torch.div(one, other, rounding_mode="trunc")


def _gemm(attributes: Attributes, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    left = a.T if attributes.get("transA") else a
    right = b.T if attributes.get("transB") else b
    product: Tensor = attributes.get("alpha", 1.0) * (left @ right)
    return product if c is None else product + attributes.get("beta", 1.0) * c


def _reduction(
    reduce: Callable[[Tensor, list[int], bool], Tensor],
    attributes: Attributes,
    data: Tensor,
    axes: Tensor | None = None,
) -> Tensor:
    chosen = _axes(attributes, axes)
    if not chosen and attributes.get("noop_with_empty_axes"):
        return data
    return reduce(data, chosen or list(range(data.ndim)), bool(attributes.get("keepdims", 1)))


def _arg_max(attributes: Attributes, data: Tensor) -> Tensor:
    if attributes.get("select_last_index"):
        raise NotImplementedError("ArgMax with select_last_index")
    # Equal values: the first, which torch does not promise.
    axis = attributes.get("axis", 0)
    top = data == data.amax(dim=axis, keepdim=True)
    order = torch.arange(data.shape[axis], 0, -1).reshape(
        [-1 if at == axis % data.ndim else 1 for at in range(data.ndim)]
    )
    return (top * order).argmax(dim=axis, keepdim=bool(attributes.get("keepdims", 1)))


def _clip(_: Attributes, data: Tensor, least: Tensor | None = None, most: Tensor | None = None) -> Tensor:
    return data if least is None and most is None else data.clamp(least, most)


def _layer_norm(attributes: Attributes, data: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor:
    shape = data.shape[attributes.get("axis", -1) % data.ndim :]
    return functional.layer_norm(data, shape, scale.reshape(shape), bias, attributes.get("epsilon", 1e-5))


def _batch_norm(
    attributes: Attributes, data: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor
) -> Tensor:
    return functional.batch_norm(data, mean, variance, scale, bias, eps=attributes.get("epsilon", 1e-5))


def _lp_norm(attributes: Attributes, data: Tensor) -> Tensor:
    return functional.normalize(data, p=attributes.get("p", 2), dim=attributes.get("axis", -1))


def _padded(attributes: Attributes, data: Tensor, value: float) -> Tensor:
    if attributes.get("auto_pad", b"NOTSET") != b"NOTSET":
        raise NotImplementedError("auto_pad")
    pads = list(attributes.get("pads", ()))
    half = len(pads) // 2
    pairs = [number for axis in reversed(range(half)) for number in (pads[axis], pads[axis + half])]
    return functional.pad(data, pairs, value=value) if any(pairs) else data


def _convolution(attributes: Attributes, data: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    spatial = weight.ndim - 2
    convolve = (functional.conv1d, functional.conv2d, functional.conv3d)[spatial - 1]
    strides, dilations = (attributes.get(name, [1] * spatial) for name in ("strides", "dilations"))
    padded = _padded(attributes, data, 0.0)
    return convolve(padded, weight, bias, strides, 0, dilations, attributes.get("group", 1))


def _max_pool(attributes: Attributes, data: Tensor) -> Tensor:
    size = attributes["kernel_shape"]
    pool = (functional.max_pool1d, functional.max_pool2d, functional.max_pool3d)[len(size) - 1]
    strides = attributes.get("strides", [1] * len(size))
    dilations = attributes.get("dilations", [1] * len(size))
    padded = _padded(attributes, data, -math.inf)
    return pool(padded, size, strides, 0, dilations, bool(attributes.get("ceil_mode")))


def _average_pool(attributes: Attributes, data: Tensor) -> Tensor:
    size = attributes["kernel_shape"]
    if attributes.get("ceil_mode"):
        raise NotImplementedError("AveragePool with ceil_mode")
    pool = (functional.avg_pool1d, functional.avg_pool2d, functional.avg_pool3d)[len(size) - 1]
    strides = attributes.get("strides", [1] * len(size))
    total = pool(_padded(attributes, data, 0.0), size, strides)
    if attributes.get("count_include_pad") or not any(attributes.get("pads", ())):
        return total
    return total / pool(_padded(attributes, torch.ones_like(data), 0.0), size, strides)


def _resize(
    attributes: Attributes,
    data: Tensor,
    _: Tensor | None = None,
    scales: Tensor | None = None,
    sizes: Tensor | None = None,
) -> Tensor:
    mode = attributes.get("mode", b"nearest")
    place = attributes.get("coordinate_transformation_mode", b"half_pixel")
    if mode != b"linear" or place not in (b"half_pixel", b"pytorch_half_pixel") or attributes.get("antialias"):
        raise NotImplementedError(f"Resize by {mode!r} with {place!r}")
    spatial = data.ndim - 2
    kind = ("linear", "bilinear", "trilinear")[spatial - 1]
    if sizes is not None:
        return functional.interpolate(data, size=_numbers(sizes)[2:], mode=kind, align_corners=False)
    assert scales is not None  # noqa: S101  # one of them is there
    factors = [float(each) for each in scales.tolist()[2:]]
    wanted = [math.floor(size * factor) for size, factor in zip(data.shape[2:], factors, strict=True)]
    return functional.interpolate(data, size=wanted, mode=kind, align_corners=False)


def _gelu(attributes: Attributes, data: Tensor) -> Tensor:
    return functional.gelu(data, approximate=attributes.get("approximate", b"none").decode())


def _pairwise(combine: Callable[[Tensor, Tensor], Tensor]) -> Operator:
    return lambda _, *inputs: functools.reduce(combine, inputs)


def _plain(compute: Callable[..., Tensor]) -> Operator:
    """An operator without attributes."""
    return lambda _, *inputs: compute(*inputs)


def _reducing(reduce: Callable[[Tensor, list[int], bool], Tensor]) -> Operator:
    return functools.partial(_reduction, reduce)


def _concat(attributes: Attributes, *inputs: Tensor) -> Tensor:
    return torch.cat(inputs, dim=attributes["axis"])


def _transpose(attributes: Attributes, data: Tensor) -> Tensor:
    return data.permute(attributes.get("perm") or list(reversed(range(data.ndim))))


def _range(_: Attributes, start: Tensor, limit: Tensor, delta: Tensor) -> Tensor:
    return torch.arange(start.item(), limit.item(), delta.item(), dtype=start.dtype)


def _softmax(attributes: Attributes, data: Tensor) -> Tensor:
    return data.softmax(attributes.get("axis", -1))


def _flatten(attributes: Attributes, data: Tensor) -> Tensor:
    return data.reshape(math.prod(data.shape[: attributes.get("axis", 1)]), -1)


def _global_average(_: Attributes, data: Tensor) -> Tensor:
    return data.mean(dim=tuple(range(2, data.ndim)), keepdim=True)


def _leaky(attributes: Attributes, data: Tensor) -> Tensor:
    return functional.leaky_relu(data, attributes.get("alpha", 0.01))


def _hard_sigmoid(attributes: Attributes, data: Tensor) -> Tensor:
    line: Tensor = attributes.get("alpha", 0.2) * data + attributes.get("beta", 0.5)
    return line.clamp(0, 1)


def _trilu(attributes: Attributes, data: Tensor, k: Tensor | None = None) -> Tensor:
    diagonal = 0 if k is None else int(k)
    return data.triu(diagonal) if attributes.get("upper", 1) else data.tril(diagonal)


def _power(_: Attributes, base: Tensor, exponent: Tensor) -> Tensor:
    return base.pow(exponent).to(base.dtype)


_PLAIN: Mapping[str, Callable[..., Tensor]] = {
    "Abs": torch.abs, "And": torch.logical_and, "Cos": torch.cos, "Equal": torch.eq, "Erf": torch.erf,
    "Exp": torch.exp, "Floor": torch.floor, "Greater": torch.gt, "GreaterOrEqual": torch.ge,
    "HardSwish": functional.hardswish, "Identity": torch.clone, "IsNaN": torch.isnan, "Less": torch.lt,
    "LessOrEqual": torch.le, "Log": torch.log, "MatMul": torch.matmul, "Neg": torch.neg,
    "Not": torch.logical_not, "Or": torch.logical_or, "Reciprocal": torch.reciprocal, "Relu": torch.relu,
    "Sigmoid": torch.sigmoid, "Sin": torch.sin, "Softplus": functional.softplus, "Sqrt": torch.sqrt,
    "Tanh": torch.tanh, "Where": torch.where,
}  # fmt: skip
_PAIRWISE: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "Add": torch.add, "Max": torch.maximum, "Min": torch.minimum, "Mul": torch.mul, "Sub": torch.sub, "Sum": torch.add,
}  # fmt: skip
OPERATORS: Mapping[str, Operator] = {
    **{name: _plain(compute) for name, compute in _PLAIN.items()},
    **{name: _pairwise(combine) for name, combine in _PAIRWISE.items()},
    "ReduceMean": _reducing(lambda data, axes, keep: data.mean(axes, keepdim=keep)),
    "ReduceSum": _reducing(lambda data, axes, keep: data.sum(axes, keepdim=keep)),
    "ReduceMax": _reducing(lambda data, axes, keep: data.amax(axes, keepdim=keep)),
    "ReduceMin": _reducing(lambda data, axes, keep: data.amin(axes, keepdim=keep)),
    "ReduceL2": _reducing(lambda data, axes, keep: torch.linalg.vector_norm(data, dim=axes, keepdim=keep)),
    "ArgMax": _arg_max,
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_norm,
    "Cast": _cast,
    "Clip": _clip,
    "Concat": _concat,
    "Constant": _constant,
    "ConstantOfShape": _filled,
    "Conv": _convolution,
    "Div": _division,
    "Expand": _expand,
    "Flatten": _flatten,
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "GatherND": _gather_nd,
    "Gelu": _gelu,
    "Gemm": _gemm,
    "GlobalAveragePool": _global_average,
    "HardSigmoid": _hard_sigmoid,
    "LayerNormalization": _layer_norm,
    "LeakyRelu": _leaky,
    "LpNormalization": _lp_norm,
    "MaxPool": _max_pool,
    "Pow": _power,
    "Range": _range,
    "Reshape": _reshape,
    "Resize": _resize,
    "Shape": _shape,
    "Slice": _slice,
    "Softmax": _softmax,
    "Split": _split,
    "Squeeze": _squeeze,
    "Transpose": _transpose,
    "Trilu": _trilu,
    "Unsqueeze": _unsqueeze,
}
