"""The out-of-distribution gate of a pack's input: how unlike the images the model learned from an image is.

Mahalanobis distance (Lee et al., NeurIPS 2018) of the image tokens' mean and deviation over the patches, under one
Gaussian fitted on the training images of the input. It sees what the image encoder sees: a photograph, noise, another
modality. It does not see that an image of the right kind is wrong.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save_file

from radserve._checks import read_only
from radserve.models.pack_files import invalid, tensors_in

Float32 = npt.NDArray[np.float32]
FloatArray = npt.NDArray[np.float64]
_NAMES = ("mean", "whitening")


def token_statistics(image_tokens: npt.NDArray[np.floating[Any]]) -> FloatArray:
    """Mean and deviation over the patches of `image_tokens` (..., P, C), one after the other: (..., 2 C) float64."""
    wide = np.asarray(image_tokens, dtype=np.float64)
    return np.concatenate([wide.mean(axis=-2), wide.std(axis=-2)], axis=-1)


@dataclass(frozen=True, slots=True, eq=False)
class Gate:
    """The Gaussian: `mean` (D,) and `whitening` (D, D) float32, a factor of the precision: its rows times its columns.

    The score is the squared distance divided by D: about 1 for images like those of training.
    """

    mean: Float32 = field(repr=False)
    whitening: Float32 = field(repr=False)

    def __post_init__(self) -> None:
        size = self.mean.size
        for name, shape in zip(_NAMES, ((size,), (size, size)), strict=True):
            value = getattr(self, name)
            if value.dtype != np.float32 or value.shape != shape or not np.isfinite(value).all():
                raise invalid(f"gate: got {name} {value.dtype} {value.shape}, expected finite float32 {shape}")
            object.__setattr__(self, name, read_only(value))

    def score(self, image_tokens: npt.NDArray[np.floating[Any]]) -> FloatArray:
        """Scores (...,) of `image_tokens` (..., P, C) with 2 C = D; higher is more foreign."""
        off = token_statistics(image_tokens) - self.mean
        return np.asarray(((off @ self.whitening.astype(np.float64)) ** 2).mean(axis=-1))

    def save(self, path: Path) -> None:
        save_file({name: np.ascontiguousarray(getattr(self, name)) for name in _NAMES}, path)


def read_gate(content: bytes, channels: int) -> Gate:
    """The gate in a safetensors file, for image tokens of `channels`; raises PACK_INVALID."""
    tensors = tensors_in(content, "gate")
    if sorted(tensors) != sorted(_NAMES):
        raise invalid(f"gate: got tensors {sorted(tensors)}, expected {sorted(_NAMES)}")
    gate = Gate(tensors["mean"], tensors["whitening"])
    if gate.mean.size != 2 * channels:
        raise invalid(f"gate: got statistics of {gate.mean.size} values, expected {2 * channels}")
    return gate
