"""The files of a result: JSON, report text, PNG overlays, DICOM objects."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from radserve.dicom_io.overlay import render_overlay
from radserve.dicom_io.result_objects import check_outputs, report_file
from radserve.dicom_io.write_base import OutputKind
from radserve.dicom_io.write_outputs import applicable, write_outputs
from radserve.image import Image
from radserve.results import Artifact, StudyResult
from radserve.server.result_json import result_to_json, to_bytes
from radserve.workers import WorkerPool


class ArtifactWriter:
    """The ReportWriter of the server. DICOM headers are foreign bytes, so what reads them runs in the sandbox."""

    def __init__(self, workers: WorkerPool) -> None:
        self._workers = workers

    async def write(
        self, result: StudyResult, images: Sequence[Image], outputs: Sequence[str] = ()
    ) -> tuple[Artifact, ...]:
        """Return the DICOM objects, overlay-*.png, report.txt and result.json; raises what the writers raise.

        The objects are the SR, the SEG of a model that segments, and those that `outputs` names (OutputKind).
        """
        kinds = {OutputKind.SR, *check_outputs(outputs)}
        if any(finding.mask for finding in result.findings):
            kinds.add(OutputKind.SEG)
        objects, overlays = await asyncio.gather(
            self._workers.run(write_outputs, result, images, applicable(result, images, kinds)),
            asyncio.gather(*(self._overlays(image, result) for image in images)),
        )
        pictures = [Artifact(name, "image/png", data) for each in overlays for name, data in each]
        return (
            *objects,
            *pictures,
            report_file(result),
            Artifact("result.json", "application/json", to_bytes(result_to_json(result))),
        )

    async def _overlays(self, image: Image, result: StudyResult) -> list[tuple[str, bytes]]:
        shown = [each for each in result.findings if each.region.instance == image.instance]
        return await self._workers.run(render_overlay, image, shown)
