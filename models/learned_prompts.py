"""Prompts that were learned, not written: the two sides of a label as text embeddings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from radserve._checks import read_only
from radserve.models.pack_files import invalid

POSITIVE, NEGATIVE = "text_positive", "text_negative"


@dataclass(frozen=True, slots=True, eq=False)
class LearnedPrompts:
    """Unit vectors (E,) float32 of the positive and, unless the label has a single contrast, of the negative side."""

    positive: npt.NDArray[np.float32] = field(repr=False)
    negative: npt.NDArray[np.float32] | None = field(repr=False)

    def __post_init__(self) -> None:
        for name in ("positive", "negative"):
            if (side := getattr(self, name)) is not None:
                object.__setattr__(self, name, read_only(side))

    @property
    def direction(self) -> npt.NDArray[np.float64]:
        """(E,): from the negative to the positive side, or the positive side alone."""
        positive = self.positive.astype(np.float64)
        return positive if self.negative is None else positive - self.negative.astype(np.float64)


def learned_prompts_of(
    tensors: Mapping[str, npt.NDArray[Any]], width: int, *, pair: bool, where: str
) -> LearnedPrompts:
    """The sides in the tensors of a file, for encoders of `width`. Raises PACK_INVALID naming file and tensor."""
    for name in (POSITIVE, NEGATIVE) if pair else (POSITIVE,):
        side = tensors.get(name)
        if side is None or side.dtype != np.float32 or side.shape != (width,):
            got = "nothing" if side is None else f"{side.dtype} {side.shape}"
            raise invalid(f"{where}: {name}: got {got}, expected float32 ({width},), as the encoders' embeddings")
        if not np.isclose(np.linalg.norm(side), 1, atol=1e-3):
            raise invalid(f"{where}: {name} is not a finite unit vector")
    return LearnedPrompts(tensors[POSITIVE], tensors[NEGATIVE] if pair else None)
