"""Inputs and outputs of an ONNX file, read without running it and without the `onnx` library.

Only the fields needed are described (numbers from onnx.proto3); protobuf skips the rest, weights too. A graph whose
weights lie in other files is refused: they would be outside the pack's hashes. So every place that can hold a tensor is
described, also those of functions and of training.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from radserve.errors import ErrorCode, PackError, RadserveError
from radserve.tensors import TensorSpec

_EXTERNAL = 1  # TensorProto.DataLocation.EXTERNAL
_DTYPES = {1: "float32", 7: "int64"}  # TensorProto.DataType
_NUMBER, _TEXT, _MESSAGE = (
    FieldDescriptorProto.TYPE_INT64,
    FieldDescriptorProto.TYPE_STRING,
    FieldDescriptorProto.TYPE_MESSAGE,
)
# message -> field -> (number in onnx.proto3, type, message type, repeated)
_FIELDS: dict[str, dict[str, tuple[int, int, str, bool]]] = {
    "Model": {
        "graph": (7, _MESSAGE, "Graph", False),
        "training_info": (20, _MESSAGE, "Training", True),
        "functions": (25, _MESSAGE, "Function", True),
    },
    "Training": {"initialization": (1, _MESSAGE, "Graph", False), "algorithm": (2, _MESSAGE, "Graph", False)},
    "Function": {"node": (7, _MESSAGE, "Node", True), "attribute_proto": (11, _MESSAGE, "Attribute", True)},
    "Graph": {
        "node": (1, _MESSAGE, "Node", True),
        "initializer": (5, _MESSAGE, "Tensor", True),
        "input": (11, _MESSAGE, "ValueInfo", True),
        "output": (12, _MESSAGE, "ValueInfo", True),
        "sparse_initializer": (15, _MESSAGE, "SparseTensor", True),
    },
    "Node": {"attribute": (5, _MESSAGE, "Attribute", True)},
    "Attribute": {
        "t": (5, _MESSAGE, "Tensor", False),
        "g": (6, _MESSAGE, "Graph", False),
        "tensors": (10, _MESSAGE, "Tensor", True),
        "graphs": (11, _MESSAGE, "Graph", True),
        "sparse_tensor": (22, _MESSAGE, "SparseTensor", False),
        "sparse_tensors": (23, _MESSAGE, "SparseTensor", True),
    },
    "SparseTensor": {"values": (1, _MESSAGE, "Tensor", False), "indices": (2, _MESSAGE, "Tensor", False)},
    "Tensor": {"name": (8, _TEXT, "", False), "data_location": (14, _NUMBER, "", False)},
    "ValueInfo": {"name": (1, _TEXT, "", False), "type": (2, _MESSAGE, "Type", False)},
    "Type": {"tensor_type": (1, _MESSAGE, "TensorType", False)},
    "TensorType": {"elem_type": (1, _NUMBER, "", False), "shape": (2, _MESSAGE, "Shape", False)},
    "Shape": {"dim": (1, _MESSAGE, "Dimension", True)},
    "Dimension": {"dim_value": (1, _NUMBER, "", False)},
}


@dataclass(frozen=True, slots=True)
class OnnxSignature:
    """Inputs and outputs of a graph in its own order."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


def read_signature(data: bytes, file: str) -> OnnxSignature:
    """Read the signature of the ONNX model in `data`; `file` is its name for messages.

    Raises PackError PACK_INVALID when it is not ONNX, keeps weights in other files, or has a tensor that is not
    float32 or int64 with a free first axis and fixed others.
    """
    model = _model_class()()
    try:
        model.ParseFromString(data)
    except (DecodeError, RecursionError) as error:
        raise _invalid(file, "is not an ONNX model") from error
    graph = model.graph
    if not graph.input or not graph.output:
        raise _invalid(file, "is not an ONNX model with inputs and outputs")
    _refuse_external_data(model, file)
    weights = {tensor.name for tensor in graph.initializer}
    inputs = tuple(_spec(value, file) for value in graph.input if value.name not in weights)
    return OnnxSignature(inputs, tuple(_spec(value, file) for value in graph.output))


def _spec(value: Any, file: str) -> TensorSpec:
    tensor = value.type.tensor_type
    dtype = _DTYPES.get(tensor.elem_type, f"ONNX type {tensor.elem_type}")
    shape = tuple(dimension.dim_value or -1 for dimension in tensor.shape.dim)
    try:
        return TensorSpec(value.name, dtype, shape)
    except RadserveError as error:
        raise _invalid(file, error.client_message) from error


def _refuse_external_data(model: Any, file: str) -> None:
    for tensor in _tensors(model):
        if tensor.data_location == _EXTERNAL:
            raise _invalid(file, f"keeps the weights {tensor.name!r} outside the file (external data)")


def _tensors(message: Any) -> Iterator[Any]:
    """Every tensor below a message, wherever it stands."""
    if message.DESCRIPTOR.name == "Tensor":
        yield message
        return
    for field, value in message.ListFields():
        if field.type == _MESSAGE:
            for each in [value] if isinstance(value, Message) else value:
                yield from _tensors(each)


@cache
def _model_class() -> Any:
    described = FileDescriptorProto(name="radserve/onnx_signature.proto", package="radserve.onnx", syntax="proto3")
    for message_name, fields in _FIELDS.items():
        message = described.message_type.add(name=message_name)
        for name, (number, kind, of, repeated) in fields.items():
            label = FieldDescriptorProto.LABEL_REPEATED if repeated else FieldDescriptorProto.LABEL_OPTIONAL
            field = message.field.add(name=name, number=number, type=kind, label=label)
            if of:
                field.type_name = f".radserve.onnx.{of}"
    pool = DescriptorPool()
    pool.Add(described)  # type: ignore[no-untyped-call]
    return GetMessageClass(pool.FindMessageTypeByName("radserve.onnx.Model"))  # type: ignore[no-untyped-call]


def _invalid(file: str, cause: str) -> PackError:
    return PackError(ErrorCode.PACK_INVALID, f"graph {file!r} {cause}")
