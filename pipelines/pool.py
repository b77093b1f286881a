"""Stored studies as a pool of cases to choose from: for each the label's probability and the embedding it came from."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from radserve.errors import ErrorCode, PackError, RadserveError
from radserve.models.pack import ModelPack
from radserve.models.pack_types import PackInput
from radserve.models.tokenizer import pack_tokenizer
from radserve.pipelines.classify import encode_frames
from radserve.pipelines.deadline import Deadline
from radserve.pipelines.intended_use import input_for
from radserve.pipelines.preprocess.adapter import prepare_now
from radserve.pipelines.preprocess.chain import input_chain
from radserve.pipelines.prompts import embed_prompts
from radserve.pipelines.scoring import score_label
from radserve.ports import InstanceSource, ModelRunner
from radserve.references import InstanceRef, StudyRef


@dataclass(frozen=True, slots=True)
class PoolCase:
    """A study: the probability on the frame that speaks most for the label, and that frame's `embedding` (E,)."""

    study_instance_uid: str
    probability: float
    embedding: npt.NDArray[np.float32] = field(repr=False)


async def pool_cases(
    pack: ModelPack, label: str, source: InstanceSource, runner: ModelRunner
) -> AsyncIterator[PoolCase | tuple[str, RadserveError]]:
    """Every stored study with images that the label is answered on, or its UID with why an image could not be read.

    Probability and frame are those of the study's finding; nothing is stored. Raises PACK_INVALID for a pack without an
    image encoder and for a label that it does not know.
    """
    asked = pack.label(label)
    if not any(pack.encodes(use) for use in pack.inputs if label in use.labels):
        raise PackError(ErrorCode.PACK_INVALID, f"pack {pack.name!r} has no image encoder: its cases have no embedding")
    direction = (await embed_prompts(pack, pack_tokenizer(pack), runner)).directions.get(label)
    for study in await source.list_studies():
        best: tuple[float, PoolCase] | None = None
        try:
            for instance, use in await _instances(pack, label, source, study):
                chain = input_chain(pack, use)
                image = await source.read_image(instance)
                frames = range(image.frames)
                prepared = prepare_now(chain, image, frames)
                encoding = encode_frames(pack, runner, use, instance, frames, prepared, Deadline(), embeds=True)
                async for frame in encoding:
                    score = score_label(asked, direction, frame.outputs, pack.exemplars.get(label))
                    if best is None or score.logit > best[0]:
                        case = PoolCase(study.study_instance_uid, score.probability, frame.embedding)
                        best = score.logit, case
        except RadserveError as error:
            yield study.study_instance_uid, error
            continue
        if best:
            yield best[1]


async def _instances(
    pack: ModelPack, label: str, source: InstanceSource, study: StudyRef
) -> list[tuple[InstanceRef, PackInput]]:
    """The images of a study on which the label is answered, each with its input."""
    found = []
    for instance, acquisition in await source.list_instances(study):
        use = input_for(pack, acquisition)
        if use is not None and use.kind == "image" and label in use.labels:
            found.append((instance, use))
    return found
