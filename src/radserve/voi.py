"""From modality values to presentation values: the VOI LUT of PS3.3 C.11.2, as small pure values."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from radserve._checks import invalid, read_only

Float32Array = npt.NDArray[np.float32]


class VoiFunction(StrEnum):
    """VOI LUT Function (0028,1056)."""

    LINEAR = "LINEAR"
    LINEAR_EXACT = "LINEAR_EXACT"
    SIGMOID = "SIGMOID"


@dataclass(frozen=True, slots=True)
class VoiWindow:
    """A window over modality values: `center` and `width` in the units of these values (PS3.3 C.11.2.1.2)."""

    center: float
    width: float
    function: VoiFunction = VoiFunction.LINEAR

    def __post_init__(self) -> None:
        least = 1.0 if self.function is VoiFunction.LINEAR else 0.0
        enough = self.width >= least if self.function is VoiFunction.LINEAR else self.width > least
        if not (np.isfinite(self.center) and np.isfinite(self.width) and enough):
            bound = "at least 1" if self.function is VoiFunction.LINEAR else "above 0"
            raise invalid("VoiWindow (center, width)", (self.center, self.width), f"finite, width {bound}")

    def apply(self, values: npt.NDArray[Any]) -> Float32Array:
        """Map modality values (any shape, any real dtype) to float32 in [0, 1], 0 the dark end of MONOCHROME2."""
        if self.function is VoiFunction.SIGMOID:
            scaled = (values.astype(np.float32) - np.float32(self.center)) * np.float32(-4.0 / self.width)
            return np.asarray(1.0 / (1.0 + np.exp(np.minimum(scaled, 80.0))), dtype=np.float32)
        low, span = self._linear_bounds()
        if span == 0:  # LINEAR of width 1 is a step (C.11.2.1.2.1)
            return (values > low).astype(np.float32)
        out = values.astype(np.float32)
        out -= np.float32(low)
        out *= np.float32(1.0 / span)
        return np.clip(out, 0.0, 1.0, out=out)

    def _linear_bounds(self) -> tuple[float, float]:
        if self.function is VoiFunction.LINEAR:  # C.11.2.1.2.1: the last value at or below low is black
            return self.center - 0.5 - (self.width - 1) / 2, self.width - 1
        return self.center - self.width / 2, self.width  # C.11.2.1.3.2


@dataclass(frozen=True, slots=True, eq=False)
class VoiLut:
    """A VOI LUT (0028,3010): `table` (1-D, unsigned), its first mapped value, the bits of its entries (C.11.2.1.1)."""

    table: npt.NDArray[Any]
    first_value: int
    bits: int

    def __post_init__(self) -> None:
        if self.table.ndim != 1 or self.table.size < 1 or self.table.dtype.kind != "u":
            got = (self.table.shape, str(self.table.dtype))
            raise invalid("VoiLut.table", got, "a non-empty 1-D unsigned array")
        if not 8 <= self.bits <= 16:
            raise invalid("VoiLut.bits", self.bits, "8 to 16")
        object.__setattr__(self, "table", read_only(self.table))

    def apply(self, values: npt.NDArray[Any]) -> Float32Array:
        """Map modality values to float32 in [0, 1]; values outside the table take its end entries."""
        table = np.clip(self.table.astype(np.float32) / np.float32((1 << self.bits) - 1), 0.0, 1.0)
        index = np.clip(np.rint(values).astype(np.int64) - self.first_value, 0, table.size - 1)
        return np.asarray(table[index], dtype=np.float32)


VoiTransform = VoiWindow | VoiLut
