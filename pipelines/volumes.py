"""Findings of a series read as a volume: its slices go through the graphs together."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from itertools import product

import numpy as np
import numpy.typing as npt

from radserve.errors import ErrorCode, GeometryError
from radserve.findings import Finding, Region
from radserve.geometry import SpatialTransform, VolumeGeometry
from radserve.image import Volume
from radserve.models.pack import ModelPack
from radserve.models.pack_types import MaskScoring, PackInput, PackLabel
from radserve.pipelines.classify import run_graphs
from radserve.pipelines.deadline import Deadline
from radserve.pipelines.scoring import Outputs, mask_probabilities, score_label
from radserve.pipelines.segment import outline_of, segment_volume, volume_of
from radserve.ports import ModelRunner
from radserve.references import InstanceRef
from radserve.results import ResultWarning, WarningCode
from radserve.tensors import PreparedInput
from radserve.uids import derive_uid

Directions = Mapping[str, npt.NDArray[np.float64]]


async def find_in_volume(
    pack: ModelPack,
    use: PackInput,
    directions: Directions,
    runner: ModelRunner,
    volume: Volume,
    prepared: PreparedInput,
    deadline: Deadline,
) -> tuple[Finding, ...]:
    """The findings of an input's labels in a prepared volume, in the order of the pack's labels.

    A segmented label gets its mask, its volume in ml and the slice with most of it; any other stands on the middle
    slice, without a place. Raises ModelError; RequestError DEADLINE_EXCEEDED; GeometryError GEOMETRY_MISSING for slices
    in frames of one instance.
    """
    slices = slices_of(volume)
    (outputs,) = await run_graphs(pack, runner, use, prepared.tensor[np.newaxis], deadline)
    findings = []
    for label in pack.labels:
        if label.name in use.labels:
            deadline.remaining_s()
            direction = directions.get(label.name)
            # In a thread: to sample a mask on the slices of a whole CT takes long enough to hold up other requests.
            findings.append(await asyncio.to_thread(_find, pack, label, direction, volume, slices, prepared, outputs))
    return tuple(findings)


def slices_of(volume: Volume) -> tuple[tuple[InstanceRef, int], ...]:
    """The source frame of each slice of a volume. Raises GeometryError where that is not known."""
    if len(volume.slices) != len(volume.array):
        raise GeometryError(ErrorCode.GEOMETRY_MISSING, "the volume does not say which frames its slices came from")
    return volume.slices


def cut_warnings(geometry: VolumeGeometry, transform: SpatialTransform) -> list[ResultWarning]:
    """A warning with the lengths where more of a volume than one prepared voxel lies outside what was prepared of it.

    Of a turned volume the box around what was prepared counts.
    """
    shape = np.array(transform.source_shape)
    prepared = np.array(transform.prepared_shape)
    corners = np.array(list(product(*((-0.5, size - 0.5) for size in prepared))))
    reached = corners @ transform.matrix[:-1, :-1].T + transform.matrix[:-1, -1]
    first, last = np.maximum(reached.min(axis=0), -0.5), np.minimum(reached.max(axis=0), shape - 0.5)
    voxel = np.abs(transform.matrix[:-1, :-1]).sum(axis=1)
    if not (shape - (last - first) > voxel).any():
        return []
    spacing_mm = np.array(geometry.spacing_mm)
    whole, read = (" x ".join(f"{each:.0f}" for each in size * spacing_mm) for size in (shape, last - first))
    message = (
        f"Of the {whole} mm of a volume (slices, rows, columns) the model reads {read} mm; what lies outside was not "
        "analysed."
    )
    return [ResultWarning(WarningCode.VOLUME_CUT, message)]


def _find(
    pack: ModelPack,
    label: PackLabel,
    direction: npt.NDArray[np.float64] | None,
    volume: Volume,
    slices: tuple[tuple[InstanceRef, int], ...],
    prepared: PreparedInput,
    outputs: Outputs,
) -> Finding:
    score = score_label(label, direction, outputs)
    region, mask = Region(*slices[len(slices) // 2]), None
    if isinstance(label.scoring, MaskScoring) and score.probability >= label.threshold:
        mask = segment_volume(mask_probabilities(label.scoring, outputs), prepared.transform, slices)
    if mask:
        key = mask.key_frame
        region = Region(*mask.frames[key], outline_of(mask.frame(key)))
    series = slices[0][0].series_instance_uid
    instances = sorted({instance.sop_instance_uid for instance, _ in slices})
    return Finding(
        label=label.name,
        code=label.code,
        site=label.site,
        score=score.score,
        probability=score.probability,
        threshold=label.threshold,
        region=region,
        tracking_identifier=f"{pack.name}/{label.name}",
        tracking_uid=derive_uid("tracking", series, *instances, label.name, pack.digest),
        mask=mask,
        measurements=(volume_of(mask, float(np.prod(volume.geometry.spacing_mm))),) if mask else (),
    )
