"""Findings of images: what the graphs say of each frame, and for each label the frame that speaks most for it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import numpy as np
import numpy.typing as npt

from radserve.errors import ErrorCode, ModelError
from radserve.findings import Exemplar, Finding, Region
from radserve.models.exemplars import ExemplarIndex
from radserve.models.pack import IMAGE_ENCODER, ModelPack
from radserve.models.pack_types import MaskScoring, PackInput, PackLabel
from radserve.pipelines.deadline import Deadline
from radserve.pipelines.regions import outline_region
from radserve.pipelines.scoring import EncodedFrame, LabelScore, Outputs, explain_label, score_label
from radserve.pipelines.segment import segment_frame
from radserve.ports import ModelRunner
from radserve.references import InstanceRef
from radserve.tensors import InferenceRequest, PreparedInput
from radserve.uids import derive_uid

__all__ = ["EncodedFrame", "LabelScore", "encode_frames", "explain_label", "find_label", "run_graphs", "score_label"]


async def run_graphs(
    pack: ModelPack,
    runner: ModelRunner,
    use: PackInput,
    tensors: npt.NDArray[np.float32],
    deadline: Deadline,
    *,
    embeds: bool = False,
) -> list[Outputs]:
    """The outputs of an input's graphs for each of the prepared `tensors` (N, channels, ...), in batches they take.

    Those of its image encoder stand under the standard name, whichever graph that is; `embeds` as in
    `ModelPack.graphs_of`.
    """
    graphs = pack.graphs_of(use, embeds=embeds)
    size = max(1, min(pack.graphs[name].max_batch_size for name in graphs))
    found: list[Outputs] = []
    for start in range(0, len(tensors), size):
        batch = tensors[start : start + size]
        answers = {}
        for name in graphs:
            entry = pack.graphs[name].inputs[0].name
            response = await runner.infer(InferenceRequest(pack.model(name), {entry: batch}, deadline.remaining_s()))
            if not all(np.isfinite(array).all() for array in response.outputs.values()):
                what = name.replace("_", " ")
                raise ModelError(ErrorCode.MODEL_OUTPUT_INVALID, f"the {what} returned values that are not numbers")
            answers[IMAGE_ENCODER if name == use.image_encoder else name] = response.outputs
        found += [
            {name: {output: array[index] for output, array in answer.items()} for name, answer in answers.items()}
            for index in range(len(batch))
        ]
    return found


async def encode_frames(
    pack: ModelPack,
    runner: ModelRunner,
    use: PackInput,
    instance: InstanceRef,
    frames: Sequence[int],
    prepared: Sequence[PreparedInput],
    deadline: Deadline,
    *,
    embeds: bool = False,
) -> AsyncIterator[EncodedFrame]:
    """Run the prepared frames (`frames` counts from 0) of an input through its graphs, as `run_graphs`."""
    size = max(1, min(pack.graphs[name].max_batch_size for name in pack.graphs_of(use, embeds=embeds)))
    for start in range(0, len(prepared), size):
        batch = prepared[start : start + size]
        tensors = np.stack([each.tensor for each in batch])
        found = await run_graphs(pack, runner, use, tensors, deadline, embeds=embeds)
        for index, (each, outputs) in enumerate(zip(batch, found, strict=True), start):
            yield EncodedFrame(instance, frames[index] + 1, outputs, each.transform)


def find_label(
    pack: ModelPack, label: PackLabel, direction: npt.NDArray[np.float64] | None, frames: Sequence[EncodedFrame]
) -> tuple[Finding, EncodedFrame]:
    """The finding of one label in one series, on the frame that speaks most for it (the first, when equal).

    `direction` is that of the label's prompts (PromptEmbeddings), None for a label that is not scored by prompts.
    """
    examples = pack.exemplars.get(label.name)
    scored = [(score_label(label, direction, frame.outputs, examples), frame) for frame in frames]
    best, key = max(scored, key=lambda pair: pair[0].logit)
    region, mask = Region(key.instance, key.frame), None
    if isinstance(label.scoring, MaskScoring):
        outline, found = segment_frame(label.scoring, key)
        region = Region(key.instance, key.frame, outline)
        mask = found if best.probability >= label.threshold else None
    elif heat_map := explain_label(label, direction, key):
        region = outline_region(key.instance, key.frame, heat_map)
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
        mask=mask,
        cannot_assess=_undecided(label, best.probability),
        exemplars=_nearest(label, examples, key),
    )
    return finding, key


def _nearest(label: PackLabel, examples: ExemplarIndex | None, frame: EncodedFrame) -> tuple[Exemplar, ...]:
    if examples is None or label.exemplars is None:
        return ()
    return tuple(Exemplar(*each) for each in examples.nearest(frame.embedding, label.exemplars.shown))


def _undecided(label: PackLabel, probability: float) -> bool:
    return label.cannot_assess is not None and label.cannot_assess[0] <= probability <= label.cannot_assess[1]
