"""From the outputs of a pack's graphs to the score of a label, and a faithful map of where it came from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from radserve._checks import read_only
from radserve.errors import ErrorCode, ModelError
from radserve.findings import HeatMap
from radserve.geometry import SpatialTransform
from radserve.models.exemplars import ExemplarIndex
from radserve.models.log_odds import LEAST_PROBABILITY, logits_of
from radserve.models.pack import IMAGE_ENCODER
from radserve.models.pack_types import MaskScoring, OutputScoring, PackLabel, PromptScoring
from radserve.references import InstanceRef

Outputs = Mapping[str, Mapping[str, npt.NDArray[Any]]]
"""By graph and output name, the outputs for one image or volume, without the batch axis."""


@dataclass(frozen=True, slots=True, eq=False)
class EncodedFrame:
    """A frame as the graphs see it: their `outputs`, and the way back to the source. `frame` counts from 1."""

    instance: InstanceRef
    frame: int
    outputs: Outputs
    transform: SpatialTransform

    def __post_init__(self) -> None:
        kept = {
            graph: MappingProxyType({name: read_only(array) for name, array in found.items()})
            for graph, found in self.outputs.items()
        }
        object.__setattr__(self, "outputs", MappingProxyType(kept))

    @property
    def embedding(self) -> npt.NDArray[np.float32]:
        """The image's unit vector (E,)."""
        return self.outputs[IMAGE_ENCODER]["embedding"]

    @property
    def patch_embeddings(self) -> npt.NDArray[np.float32] | None:
        """(P, E), which add up to the embedding; the P patches are a square grid, row by row. None without."""
        return self.outputs[IMAGE_ENCODER].get("patch_embeddings")

    @property
    def image_tokens(self) -> npt.NDArray[np.float32]:
        """(P, C): what the report decoder attends to."""
        return self.outputs[IMAGE_ENCODER]["image_tokens"]


@dataclass(frozen=True, slots=True)
class LabelScore:
    """The logit of a label, with its uncalibrated score and its calibrated probability."""

    logit: float
    score: float
    probability: float


def score_label(
    label: PackLabel,
    direction: npt.NDArray[np.float64] | None,
    outputs: Outputs,
    exemplars: ExemplarIndex | None = None,
) -> LabelScore:
    """Score one label by its kind: prompts (with their `direction`), an output of a classifier, or a mask.

    `exemplars` are the label's examples in the pack; what they say is added to the logit.
    """
    logit = _logit(label, direction, outputs)
    if exemplars is not None:
        logit += float(exemplars.evidence(outputs[IMAGE_ENCODER]["embedding"][None])[0])
    return LabelScore(logit, sigmoid(logit), sigmoid(logit / label.temperature + label.offset))


def _logit(label: PackLabel, direction: npt.NDArray[np.float64] | None, outputs: Outputs) -> float:
    match label.scoring:
        case PromptScoring() as scoring:
            # The softmax over a prompt pair is the sigmoid of the scaled difference of the cosines.
            cosine = float(outputs[IMAGE_ENCODER]["embedding"].astype(np.float64) @ _given(label, direction))
            return scoring.logit_scale * cosine + scoring.logit_bias
        case OutputScoring() as scoring:
            values = outputs[scoring.graph][scoring.output]
            return float(logits_of(values, scoring.index, scoring.activation))
        case MaskScoring() as scoring:
            probabilities = mask_probabilities(scoring, outputs).ravel()
            count = min(scoring.least_voxels, probabilities.size)
            greatest = np.partition(probabilities, probabilities.size - count)[probabilities.size - count :]
            return logit_of(float(greatest.mean(dtype=np.float64)))


def mask_probabilities(scoring: MaskScoring, outputs: Outputs) -> npt.NDArray[np.float32]:
    """The probability of the label at each place of the segmentation's grid, float32 in [0, 1]."""
    values = outputs[scoring.graph][scoring.output]
    if scoring.activation == "none":
        return np.asarray(np.clip(values[scoring.channel], 0.0, 1.0), dtype=np.float32)
    logits = logits_of(values, scoring.channel, scoring.activation)
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * logits)), dtype=np.float32)  # the sigmoid, without overflow


def explain_label(label: PackLabel, direction: npt.NDArray[np.float64] | None, frame: EncodedFrame) -> HeatMap | None:
    """What each place adds to the difference of the cosines, or to the logit of a classifier; None where not known."""
    match label.scoring:
        case PromptScoring() if frame.patch_embeddings is not None:
            values = _grid(frame.patch_embeddings.astype(np.float64) @ _given(label, direction))
        case OutputScoring() as scoring if scoring.map:
            values = frame.outputs[scoring.graph][scoring.map][scoring.index]
        case _:
            return None
    to_prepared = SpatialTransform.resize(frame.transform.prepared_shape, values.shape)
    return HeatMap(values.astype(np.float32), frame.transform.then(to_prepared))


def sigmoid(logit: float) -> float:
    """Sigmoid without overflow, in double precision."""
    if logit >= 0:
        return 1.0 / (1.0 + math.exp(-logit))
    return math.exp(logit) / (1.0 + math.exp(logit))


def logit_of(probability: float) -> float:
    """The log odds of a probability, kept finite."""
    inside = min(max(probability, LEAST_PROBABILITY), 1 - LEAST_PROBABILITY)
    return math.log(inside) - math.log1p(-inside)


def _grid(contributions: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    side = math.isqrt(contributions.size)
    if side * side != contributions.size:
        got = f"patch grid: got {contributions.size} patches, expected a square"
        raise ModelError(ErrorCode.MODEL_OUTPUT_INVALID, got)
    return contributions.reshape(side, side)


def _given(label: PackLabel, direction: npt.NDArray[np.float64] | None) -> npt.NDArray[np.float64]:
    if direction is None:
        raise ModelError(ErrorCode.MODEL_OUTPUT_INVALID, f"label {label.name!r} has no embedded prompts")
    return direction
