"""The analysis of a study without services: a tiny pack in ONNX Runtime, images from memory, resizing without MONAI."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from radserve.dicom_io.volume import assemble_volume
from radserve.errors import ErrorCode, RequestError
from radserve.geometry import SpatialTransform
from radserve.image import Image, Volume
from radserve.models.onnx_runner import OnnxRunner
from radserve.models.pack import ModelPack, load_pack
from radserve.models.tokenizer import pack_tokenizer
from radserve.pipelines.authoring import ReportAuthor
from radserve.pipelines.claims import built_in_claims
from radserve.pipelines.decoders import StepDecoder
from radserve.pipelines.intended_use import IntendedUsePolicy
from radserve.pipelines.preprocess.adapter import prepare_now, prepare_volume_now
from radserve.pipelines.preprocess.chain import input_chain
from radserve.pipelines.prompts import embed_prompts
from radserve.pipelines.study import AnalysisLimits, StudyAnalyser
from radserve.ports import Preprocessor
from radserve.presentation import present_frame
from radserve.references import AcquisitionContext, InstanceRef, StudyRef
from radserve.tensors import InferenceRequest, InferenceResponse, ModelRef, PreparedInput
from tests.support.dicoms import cr
from tests.support.packs import make_tiny_pack
from tests.support.results import sample_image


class MemorySource:
    """An InstanceSource of images in memory; counts how often each is read."""

    def __init__(self, images: Sequence[Image]) -> None:
        self.images = {image.instance.sop_instance_uid: image for image in images}
        self.reads: list[str] = []
        self.strangers: set[str] = set()  # studies of another patient

    async def list_studies(self) -> Sequence[StudyRef]:
        return [StudyRef(uid) for uid in sorted({i.instance.study_instance_uid for i in self.images.values()})]

    async def list_instances(self, study: StudyRef) -> Sequence[tuple[InstanceRef, AcquisitionContext]]:
        found = [
            (image.instance, image.context)
            for image in self.images.values()
            if image.instance.study_instance_uid == study.study_instance_uid
        ]
        if not found:
            raise RequestError(ErrorCode.STUDY_NOT_FOUND, f"study {study.study_instance_uid} is not stored")
        return found

    async def same_patient(self, one: StudyRef, other: StudyRef) -> bool:
        await self.list_instances(other)
        return other.study_instance_uid not in self.strangers

    async def read_image(self, instance: InstanceRef) -> Image:
        self.reads.append(instance.sop_instance_uid)
        return self.images[instance.sop_instance_uid]

    async def read_volume(self, instances: Sequence[InstanceRef]) -> Volume:
        return assemble_volume([await self.read_image(instance) for instance in instances])


class DeclaredPreprocessor:
    """A Preprocessor that runs the pack's own chain with MONAI, in this process."""

    def __init__(self, pack: ModelPack) -> None:
        self._chains = {use.name: input_chain(pack, use) for use in pack.inputs}

    async def prepare(self, image: Image, input_name: str, frames: Sequence[int]) -> Sequence[PreparedInput]:
        return prepare_now(self._chains[input_name], image, frames)

    async def prepare_volume(self, volume: Volume, input_name: str) -> PreparedInput:
        return prepare_volume_now(self._chains[input_name], volume)


class NearestPreprocessor:
    """A Preprocessor that picks the nearest pixels of a 28 x 28 grid."""

    async def prepare(self, image: Image, input_name: str, frames: Sequence[int]) -> Sequence[PreparedInput]:
        transform = SpatialTransform.resize(image.array.shape[1:], (28, 28))
        grid = np.stack(np.meshgrid(np.arange(28), np.arange(28), indexing="ij"), axis=-1)
        rows, columns = np.moveaxis(np.rint(transform.apply(grid)).astype(int), -1, 0)
        return [
            PreparedInput(present_frame(image, frame)[rows, columns][np.newaxis], transform, image.provenance)
            for frame in frames
        ]

    async def prepare_volume(self, volume: Volume, input_name: str) -> PreparedInput:
        raise NotImplementedError


class RecordingRunner:
    """A ModelRunner that passes on, and keeps every request."""

    def __init__(self, runner: OnnxRunner) -> None:
        self._runner = runner
        self.requests: list[InferenceRequest] = []

    def runs(self, graph: str) -> int:
        return sum(request.model.name.endswith(graph) for request in self.requests)

    async def infer(self, request: InferenceRequest) -> InferenceResponse:
        self.requests.append(request)
        return await self._runner.infer(request)

    async def is_ready(self, model: ModelRef) -> bool:
        return True


def images_of(count: int = 1, *, study: str = "one", series: str = "a", **tags: Any) -> Iterator[Image]:
    """Chest radiographs of a child, 56 x 42, each with other pixels; `tags` change the acquisition context."""
    given: Mapping[str, Any] = {"view_position": "PA", "body_part": "CHEST", "age_years": 3.0, **tags}
    for number in range(count):
        pixels = np.random.default_rng(number).integers(0, 4096, (56, 42)).astype(np.uint16)
        image = sample_image(cr(pixels, study=study, series=series, instance=f"{series}{number}"), bits_stored=12)
        yield replace(image, context=replace(image.context, **given))


async def make_analyser(
    folder: Path, images: Sequence[Image], *, strict: bool = False, limits: AnalysisLimits | None = None
) -> tuple[StudyAnalyser, RecordingRunner, MemorySource]:
    """An analyser of the tiny pack over the images, with what watches it."""
    return await analyser_of(load_pack(make_tiny_pack(folder / "tiny")), images, NearestPreprocessor(), strict, limits)


async def analyser_of(
    pack: ModelPack,
    images: Sequence[Image],
    preprocessor: Preprocessor | None = None,
    strict: bool = False,
    limits: AnalysisLimits | None = None,
) -> tuple[StudyAnalyser, RecordingRunner, MemorySource]:
    """An analyser of any pack over the images, with what watches it; prepares as the pack declares without another."""
    runner = RecordingRunner(OnnxRunner([pack]))
    tokenizer = pack_tokenizer(pack)
    source = MemorySource(images)
    analyser = StudyAnalyser(
        pack=pack,
        author=ReportAuthor.of(pack, tokenizer, StepDecoder(pack, tokenizer.words, runner), built_in_claims())
        if pack.decoder and tokenizer
        else None,
        prompts=await embed_prompts(pack, tokenizer, runner),
        source=source,
        preprocessor=preprocessor or DeclaredPreprocessor(pack),
        runner=runner,
        policy=IntendedUsePolicy(strict=strict),
        limits=limits or AnalysisLimits(),
    )
    return analyser, runner, source
