"""Zero-shot classification: image embeddings against prompt pairs, and a faithful map of where a score came from."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from radserve._checks import read_only
from radserve.errors import ErrorCode, ModelError
from radserve.findings import Finding, HeatMap
from radserve.geometry import SpatialTransform
from radserve.models.pack import ModelPack
from radserve.models.pack_types import PackLabel
from radserve.pipelines.deadline import Deadline
from radserve.pipelines.regions import outline_region
from radserve.ports import ModelRunner
from radserve.references import InstanceRef
from radserve.tensors import InferenceRequest, PreparedInput
from radserve.uids import derive_uid


@dataclass(frozen=True, slots=True, eq=False)
class EncodedFrame:
    """A frame as the image encoder sees it.

    `embedding` (E,) is a unit vector; `patch_embeddings` (P, E) add up to it; `image_tokens` (P, C) are what the report
    decoder attends to. The P patches are a square grid over the prepared image, row by row. `frame` counts from 1.
    """

    instance: InstanceRef
    frame: int
    embedding: npt.NDArray[np.float32]
    patch_embeddings: npt.NDArray[np.float32]
    image_tokens: npt.NDArray[np.float32]
    transform: SpatialTransform

    def __post_init__(self) -> None:
        for name in ("embedding", "patch_embeddings", "image_tokens"):
            object.__setattr__(self, name, read_only(getattr(self, name)))


@dataclass(frozen=True, slots=True)
class LabelScore:
    """The logit of a label for one frame, with its uncalibrated score and its calibrated probability."""

    logit: float
    score: float
    probability: float


async def encode_frames(
    pack: ModelPack,
    runner: ModelRunner,
    instance: InstanceRef,
    frames: Sequence[int],
    prepared: Sequence[PreparedInput],
    deadline: Deadline,
) -> AsyncIterator[EncodedFrame]:
    """Run the prepared frames (`frames` counts from 0) through the image encoder, in batches the graph takes."""
    size = max(1, pack.graphs["image_encoder"].max_batch_size)
    for start in range(0, len(prepared), size):
        batch = prepared[start : start + size]
        pixels = np.stack([each.tensor for each in batch])
        request = InferenceRequest(pack.model("image_encoder"), {"pixels": pixels}, deadline.remaining_s())
        outputs = (await runner.infer(request)).outputs
        if not all(np.isfinite(array).all() for array in outputs.values()):
            raise ModelError(ErrorCode.MODEL_OUTPUT_INVALID, "the image encoder returned values that are not numbers")
        for index, each in enumerate(batch):
            yield EncodedFrame(
                instance,
                frames[start + index] + 1,
                outputs["embedding"][index],
                outputs["patch_embeddings"][index],
                outputs["image_tokens"][index],
                each.transform,
            )


def score_label(label: PackLabel, direction: npt.NDArray[np.float64], frame: EncodedFrame) -> LabelScore:
    """Score one label: the softmax over its prompt pair is the sigmoid of the scaled difference of the cosines."""
    logit = label.logit_scale * float(frame.embedding.astype(np.float64) @ direction)
    return LabelScore(logit, _sigmoid(logit), _sigmoid(logit / label.temperature + label.offset))


def explain_label(direction: npt.NDArray[np.float64], frame: EncodedFrame) -> HeatMap:
    """What each patch adds to the difference of the cosines; the values of the map add up to it."""
    contributions = frame.patch_embeddings.astype(np.float64) @ direction
    side = math.isqrt(contributions.size)
    if side * side != contributions.size:
        raise ModelError(
            ErrorCode.MODEL_OUTPUT_INVALID, f"patch grid: got {contributions.size} patches, expected a square"
        )
    to_prepared = SpatialTransform.resize(frame.transform.prepared_shape, (side, side))
    return HeatMap(contributions.reshape(side, side).astype(np.float32), frame.transform.then(to_prepared))


def find_label(
    pack: ModelPack, label: PackLabel, direction: npt.NDArray[np.float64], frames: Sequence[EncodedFrame]
) -> tuple[Finding, EncodedFrame]:
    """The finding of one label in one series, on the frame that speaks most for it (the first, when equal)."""
    scored = [(score_label(label, direction, frame), frame) for frame in frames]
    best, key = max(scored, key=lambda pair: pair[0].logit)
    region = outline_region(key.instance, key.frame, explain_label(direction, key))
    instances = sorted({frame.instance.sop_instance_uid for frame in frames})
    finding = Finding(
        label=label.name,
        code=label.code,
        site=label.site,
        score=best.score,
        probability=best.probability,
        threshold=label.threshold,
        region=region,
        tracking_identifier=f"{pack.name}/{label.name}",
        tracking_uid=derive_uid("tracking", key.instance.series_instance_uid, *instances, label.name, pack.digest),
    )
    return finding, key


def _sigmoid(logit: float) -> float:
    """Sigmoid without overflow, in double precision."""
    if logit >= 0:
        return 1.0 / (1.0 + math.exp(-logit))
    return math.exp(logit) / (1.0 + math.exp(logit))
