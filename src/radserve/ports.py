"""The ports between the stages: what one stage may ask of another. Wired in server/app.py and nowhere else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from radserve.findings import Artifact, StudyResult
from radserve.image import Image
from radserve.references import AcquisitionContext, InstanceRef, StudyRef
from radserve.tensors import InferenceRequest, InferenceResponse, ModelRef, PreparedInput


class InstanceSource(Protocol):
    """Gives what is known of stored studies and decodes their instances, each in a sandbox."""

    async def list_studies(self) -> Sequence[StudyRef]:
        """All stored studies, in the order of their UIDs."""
        ...

    async def list_instances(self, study: StudyRef) -> Sequence[tuple[InstanceRef, AcquisitionContext]]:
        """The instances of a study with their acquisition context, in series and instance order.

        Raises RequestError STUDY_NOT_FOUND.
        """
        ...

    async def read_image(self, instance: InstanceRef) -> Image:
        """Decode one instance. Raises DicomError or WorkerError with the cause."""
        ...


class Preprocessor(Protocol):
    """Turns an image into the tensors of a pack's input."""

    async def prepare(self, image: Image, input_name: str, frames: Sequence[int]) -> Sequence[PreparedInput]:
        """Prepare the frames (counted from 0) for the named input; same image, same bytes, always."""
        ...


class ModelRunner(Protocol):
    """Runs the graphs of a pack: Triton, or ONNX Runtime in this process."""

    async def infer(self, request: InferenceRequest) -> InferenceResponse:
        """Run one model. Raises ModelError (MODEL_UNAVAILABLE, DEADLINE_EXCEEDED, MODEL_OUTPUT_INVALID)."""
        ...

    async def is_ready(self, model: ModelRef) -> bool:
        """Whether the model answers now."""
        ...


class ReportWriter(Protocol):
    """Writes a result as the files that a PACS, a viewer and a person read."""

    async def write(self, result: StudyResult, images: Sequence[Image]) -> Sequence[Artifact]:
        """Return the artifacts of a result; the same result gives the same UIDs and the same findings."""
        ...


class ResultSink(Protocol):
    """Takes finished results: the caller's stream, a store, a PACS."""

    async def deliver(self, result: StudyResult, artifacts: Sequence[Artifact]) -> None:
        """Keep or send the result; idempotent for the same result."""
        ...
