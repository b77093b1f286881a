"""The findings of a study's series: each decoded, preprocessed and asked what the pack can answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from radserve.errors import DicomError, ErrorCode, GeometryError, RadserveError, WorkerError
from radserve.findings import Finding
from radserve.image import Image
from radserve.models.pack import ModelPack
from radserve.models.pack_types import PackInput
from radserve.pipelines.classify import EncodedFrame, encode_frames, find_label
from radserve.pipelines.deadline import Deadline
from radserve.pipelines.foreign import check_findings, gauge
from radserve.pipelines.intended_use import IntendedUsePolicy
from radserve.pipelines.limits import check_limits
from radserve.pipelines.prompts import PromptEmbeddings
from radserve.pipelines.quality import quality_problems
from radserve.pipelines.stopwatch import Stopwatch
from radserve.pipelines.volumes import cut_warnings, find_in_volume
from radserve.ports import InstanceSource, ModelRunner, Preprocessor
from radserve.references import AcquisitionContext, InstanceRef, SourceContext
from radserve.results import ResultWarning, SeriesSummary, WarningCode

NOT_OF_THE_INPUT = (ErrorCode.CANCELLED, ErrorCode.INTERNAL)  # errors that say nothing against an image


@dataclass(frozen=True, slots=True)
class SeriesPlan:
    """A series as found in the store, and the pack's input it fits, if any."""

    series_instance_uid: str
    acquisition: AcquisitionContext
    instances: tuple[InstanceRef, ...]
    use: PackInput | None

    def summary(self, *, analysed: bool) -> SeriesSummary:
        """How the result lists it."""
        return SeriesSummary(
            series_instance_uid=self.series_instance_uid,
            modality=self.acquisition.modality,
            body_part=self.acquisition.body_part,
            instances=len(self.instances),
            analysed=analysed,
            input_name=self.use.name if self.use and analysed else "",
        )


@dataclass(frozen=True, slots=True, eq=False)
class SeriesOutcome:
    """`key_frame` is what the decoder describes; `sources` are the headers of all instances that findings stand on.

    `unread`: how many images could not be read.
    """

    plan: SeriesPlan
    findings: tuple[Finding, ...]
    key_frame: EncodedFrame | None
    images: tuple[Image, ...]
    sources: tuple[SourceContext, ...]
    warnings: tuple[ResultWarning, ...]
    unread: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class SeriesFinder:
    """Answers the questions of one pack on series. Holds no state of a study."""

    pack: ModelPack
    prompts: PromptEmbeddings
    source: InstanceSource
    preprocessor: Preprocessor
    runner: ModelRunner
    policy: IntendedUsePolicy
    max_frames_per_instance: int

    async def find_all(
        self, plans: Sequence[SeriesPlan], watch: Stopwatch, deadline: Deadline
    ) -> tuple[list[SeriesOutcome], list[ResultWarning]]:
        """The outcomes of the series, and warnings for those that cannot be read; the first error where none can."""
        outcomes: list[SeriesOutcome] = []
        errors: list[RadserveError] = []
        warnings: list[ResultWarning] = []
        for plan in plans:
            if plan.use is None:
                continue
            try:
                outcomes.append(await self._find(plan, plan.use, watch, deadline))
            except (DicomError, GeometryError, WorkerError) as error:
                if error.code in NOT_OF_THE_INPUT:
                    raise
                errors.append(error)
                text = f"A series of modality {plan.acquisition.modality} was not analysed ({cause_of(error)})."
                warnings.append(ResultWarning(WarningCode.SERIES_NOT_ANALYSED, text))
        if not outcomes:
            raise errors[0]
        return outcomes, warnings

    async def _find(self, plan: SeriesPlan, use: PackInput, watch: Stopwatch, deadline: Deadline) -> SeriesOutcome:
        if use.kind == "volume":
            return await self._find_in_volume(plan, use, watch, deadline)
        return await self._find_in_images(plan, use, watch, deadline)

    async def _find_in_volume(
        self, plan: SeriesPlan, use: PackInput, watch: Stopwatch, deadline: Deadline
    ) -> SeriesOutcome:
        with watch.stage("decode"):
            volume = await self.source.read_volume(plan.instances)
            unlike = check_limits(use, volume, self.policy)
        with watch.stage("preprocess"):
            prepared = await self.preprocessor.prepare_volume(volume, use.name)
        with watch.stage("classify"):
            directions = self.prompts.directions
            found = await find_in_volume(self.pack, use, directions, self.runner, volume, prepared, deadline)
        images = await self._images(found, watch)
        warnings = [ResultWarning(WarningCode.PIXELS, text) for text in volume.provenance.warnings]
        warnings += [*unlike, *cut_warnings(volume.geometry, prepared.transform)]
        return SeriesOutcome(plan, found, None, images, volume.sources, tuple(warnings))

    async def _find_in_images(
        self, plan: SeriesPlan, use: PackInput, watch: Stopwatch, deadline: Deadline
    ) -> SeriesOutcome:
        encoded: list[EncodedFrame] = []
        warnings: list[ResultWarning] = []
        errors: list[RadserveError] = []
        for instance in plan.instances:
            deadline.remaining_s()
            try:
                with watch.stage("decode"):
                    image = await self.source.read_image(instance)
            except (DicomError, WorkerError) as error:
                if error.code in NOT_OF_THE_INPUT:
                    raise
                errors.append(error)
                text = f"The image {instance.sop_instance_uid} was not analysed ({cause_of(error)})."
                warnings.append(ResultWarning(WarningCode.IMAGE_NOT_ANALYSED, text))
                continue
            frames = _sample(image.frames, self.max_frames_per_instance)
            warnings += _image_warnings(image, frames)
            with watch.stage("preprocess"):
                prepared = await self.preprocessor.prepare(image, use.name, frames)
            with watch.stage("classify"):
                encoding = encode_frames(self.pack, self.runner, use, instance, frames, prepared, deadline)
                encoded += [frame async for frame in encoding]
        if not encoded:
            raise errors[0]
        found = [
            find_label(self.pack, label, self.prompts.directions.get(label.name), encoded)
            for label in self.pack.labels
            if label.name in use.labels
        ]
        findings = gauge(self.pack, use, found)
        warnings += check_findings(use, findings, self.policy)
        images = await self._images(findings, watch, image)
        sources = tuple(each.source for each in images)
        return SeriesOutcome(plan, findings, found[0][1], images, sources, tuple(warnings), len(errors))

    async def _images(
        self, findings: Sequence[Finding], watch: Stopwatch, last: Image | None = None
    ) -> tuple[Image, ...]:
        """The images that findings stand on. A long series is not held in memory: they are read again."""
        shown = dict.fromkeys(finding.region.instance for finding in findings)
        with watch.stage("decode"):
            kept = [last if last and each == last.instance else await self.source.read_image(each) for each in shown]
        return tuple(kept)


def _sample(frames: int, most: int) -> list[int]:
    """At most `most` of the frame indices 0 .. frames - 1, evenly spread, first and last among them."""
    if frames <= most:
        return list(range(frames))
    return sorted({round(index) for index in np.linspace(0, frames - 1, most)})


def _image_warnings(image: Image, analysed: Sequence[int]) -> list[ResultWarning]:
    warnings = [ResultWarning(WarningCode.PIXELS, text) for text in image.provenance.warnings]
    warnings += [ResultWarning(WarningCode.IMAGE_QUALITY, text) for text in quality_problems(image, analysed)]
    if len(analysed) < image.frames:
        message = f"{len(analysed)} of the {image.frames} frames of an image were analysed, evenly spread."
        warnings.append(ResultWarning(WarningCode.FRAMES_SAMPLED, message))
    return warnings


def cause_of(error: RadserveError) -> str:
    """An error in the words of a warning."""
    return f"{error.code}: {error.client_message}"
