"""What goes to a model and comes back: specifications, requests, responses, prepared inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from radserve._checks import check_one_of, invalid, read_only
from radserve.geometry import SpatialTransform
from radserve.image import Provenance

DTYPES = ("float32", "int64")


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Name, dtype and shape of a tensor; the first axis is the batch, given as -1; the others are fixed."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        check_one_of(f"TensorSpec {self.name} dtype", self.dtype, DTYPES)
        if len(self.shape) < 2 or self.shape[0] != -1 or min(self.shape[1:]) < 1:
            raise invalid(f"TensorSpec {self.name} shape", self.shape, "(-1, fixed sizes ...)")

    def check(self, array: npt.NDArray[Any]) -> None:
        """Raise unless `array` is of this dtype and of this shape for a batch of at least one."""
        if str(array.dtype) != self.dtype or array.shape[1:] != self.shape[1:] or not len(array):
            raise invalid(f"tensor {self.name}", (str(array.dtype), array.shape), f"{self.dtype} {self.shape}")


@dataclass(frozen=True, slots=True)
class ModelRef:
    """A graph of a pack as the model server knows it: its name there and its integer version."""

    name: str
    version: int

    def __post_init__(self) -> None:
        if not self.name or self.version < 1:
            raise invalid("ModelRef", (self.name, self.version), "a name and a version of at least 1")


@dataclass(frozen=True, slots=True, eq=False)
class PreparedInput:
    """An image or volume made ready for a model: `tensor`, the way back, and provenance.

    `tensor` is float32 (channels, rows, columns), of a volume (channels, slices, rows, columns).
    """

    tensor: npt.NDArray[np.float32] = field(repr=False)
    transform: SpatialTransform
    provenance: Provenance

    def __post_init__(self) -> None:
        if self.tensor.dtype != np.float32 or not np.isfinite(self.tensor).all():
            raise invalid("PreparedInput.tensor", str(self.tensor.dtype), "finite float32 values")
        if self.tensor.shape[1:] != self.transform.prepared_shape:
            raise invalid("PreparedInput.tensor", self.tensor.shape, f"(channels, *{self.transform.prepared_shape})")
        object.__setattr__(self, "tensor", read_only(self.tensor))


@dataclass(frozen=True, slots=True, eq=False)
class InferenceRequest:
    """Tensors for one model. `timeout_s` is what remains of the caller's deadline; None waits without bound."""

    model: ModelRef
    inputs: Mapping[str, npt.NDArray[Any]]
    timeout_s: float | None = None

    def __post_init__(self) -> None:
        if not self.inputs:
            raise invalid("InferenceRequest.inputs", "none", "at least one tensor")
        frozen = {name: read_only(array) for name, array in self.inputs.items()}
        object.__setattr__(self, "inputs", MappingProxyType(frozen))


@dataclass(frozen=True, slots=True, eq=False)
class InferenceResponse:
    """The outputs of one model for one request, by name; read-only."""

    model: ModelRef
    outputs: Mapping[str, npt.NDArray[Any]]

    def __post_init__(self) -> None:
        frozen = {name: read_only(array) for name, array in self.outputs.items()}
        object.__setattr__(self, "outputs", MappingProxyType(frozen))
