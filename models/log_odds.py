"""The log odds that an output of a classifier or of a segmentation states, whatever activation it ends in."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from radserve.errors import ErrorCode, ModelError
from radserve.models.pack_types import Activation

LEAST_PROBABILITY = 1e-7  # probabilities of a graph are kept this far from 0 and 1 when they become logits


def logits_of(values: npt.NDArray[Any], index: int, activation: Activation) -> npt.NDArray[np.float64]:
    """The log odds of channel `index` of `values` (K, ...), whatever the graph gives; shape (...)."""
    wide = values.astype(np.float64)
    if activation == "sigmoid":
        return np.asarray(wide[index])
    if activation == "none":
        inside = np.clip(wide[index], LEAST_PROBABILITY, 1 - LEAST_PROBABILITY)
        return np.asarray(np.log(inside) - np.log1p(-inside))
    if len(wide) < 2:
        raise ModelError(ErrorCode.MODEL_OUTPUT_INVALID, "softmax over one channel says nothing: use sigmoid")
    others = np.delete(wide, index, axis=0)
    top = others.max(axis=0)
    return np.asarray(wide[index] - (top + np.log(np.exp(others - top).sum(axis=0))))
