"""The Preprocessor port by MONAI: chains run in worker processes, so that the serving process never imports torch."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from radserve.errors import ErrorCode, PackError, RadserveError
from radserve.geometry import FloatArray, SpatialTransform
from radserve.image import Image, PixelProperties, Provenance, Volume
from radserve.pipelines.preprocess.chain import TransformSpec, check_chain, starts_with_window
from radserve.tensors import PreparedInput
from radserve.workers import WorkerPool

_log = logging.getLogger(__name__)

PRELOAD = "radserve.pipelines.preprocess.worker"
"""What a worker of the pool should import before its first task: MONAI, which takes seconds, and no more of it."""

Chain = tuple[TransformSpec, ...]
Outcome = tuple[npt.NDArray[np.float32], FloatArray]


@dataclass(frozen=True, slots=True)
class Task:
    """What a worker needs, and no more: no header, no patient data but the pixels.

    `arrays` are modality values of one shape; `affine` maps their indices to millimetres where the chain needs lengths.
    """

    chain: Chain
    arrays: tuple[npt.NDArray[Any], ...]
    properties: PixelProperties
    affine: FloatArray


class MonaiPreprocessor:
    """Runs the declared chain of an input on images and volumes, in the workers of a pool.

    `chains` gives the chain of each input name. Start the pool with `preload=(PRELOAD,)`.
    """

    def __init__(self, chains: Mapping[str, Sequence[TransformSpec]], workers: WorkerPool) -> None:
        self._chains = MappingProxyType({name: tuple(chain) for name, chain in chains.items()})
        self._workers = workers
        for chain in self._chains.values():
            check_chain(chain)

    async def prepare(self, image: Image, input_name: str, frames: Sequence[int]) -> tuple[PreparedInput, ...]:
        """Prepare the frames (counted from 0) for the named input; same image, same bytes, always.

        Raises RadserveError: PACK_INVALID, UNSUPPORTED_PIXELS, INVALID_ARGUMENT for a frame that is not there, or the
        WorkerError of the pool.
        """
        task = frames_task(self._chain(input_name), image, frames)
        return _inputs(task, image.provenance, await self._workers.run(run_task, task))

    async def prepare_volume(self, volume: Volume, input_name: str) -> PreparedInput:
        """Prepare a volume, all slices together: the tensor is (1, slices, rows, columns). Raises as `prepare`."""
        task = volume_task(self._chain(input_name), volume)
        (prepared,) = _inputs(task, volume.provenance, await self._workers.run(run_task, task))
        return prepared

    def _chain(self, input_name: str) -> Chain:
        if input_name not in self._chains:
            raise PackError(ErrorCode.PACK_INVALID, f"input {input_name!r} is not one of {sorted(self._chains)}")
        return self._chains[input_name]


def prepare_now(chain: Sequence[TransformSpec], image: Image, frames: Sequence[int]) -> tuple[PreparedInput, ...]:
    """Do what `MonaiPreprocessor.prepare` does, in this process: for notebooks, tests and benchmarks."""
    task = frames_task(tuple(chain), image, frames)
    return _inputs(task, image.provenance, run_task(task))


def prepare_volume_now(chain: Sequence[TransformSpec], volume: Volume) -> PreparedInput:
    """Do what `MonaiPreprocessor.prepare_volume` does, in this process."""
    task = volume_task(tuple(chain), volume)
    (prepared,) = _inputs(task, volume.provenance, run_task(task))
    return prepared


def run_task(task: Task) -> tuple[Outcome, ...]:
    """Run the chain on each array, on one thread. This is what the workers call; it imports MONAI."""
    import torch

    from radserve.pipelines.preprocess.transforms import run_chain

    torch.set_num_threads(1)  # workers are as many as the cores
    return tuple(run_chain(task.chain, array, task.properties, task.affine) for array in task.arrays)


def frames_task(chain: Chain, image: Image, frames: Sequence[int]) -> Task:
    """The task of some frames of an image. MONAI is told the spacing only where the chain needs lengths."""
    _check_polarity(chain, image.properties)
    for frame in frames:
        if not 0 <= frame < image.frames:
            raise RadserveError(ErrorCode.INVALID_ARGUMENT, f"frame: got {frame}, expected 0 to {image.frames - 1}")
    spacing_mm: tuple[float, ...] = (1.0, 1.0)
    for spec in chain:
        if spec.name == "Orientation":
            raise PackError(ErrorCode.PACK_INVALID, "transform Orientation is for volumes, not for single frames")
        if spec.rule.physical:
            spacing_mm = _known_spacing_mm(spec, image.properties)
    return Task(chain, tuple(image.array[frame] for frame in frames), image.properties, np.diag([*spacing_mm, 1.0]))


def volume_task(chain: Chain, volume: Volume) -> Task:
    """The task of a volume. Here, and nowhere else, patient coordinates turn from LPS to the RAS that MONAI reads."""
    _check_polarity(chain, volume.properties)
    affine_ras = np.diag([-1.0, -1.0, 1.0, 1.0]) @ volume.geometry.affine_lps
    physical = any(spec.rule.physical for spec in chain)
    return Task(chain, (volume.array,), volume.properties, affine_ras if physical else np.eye(4))


def _known_spacing_mm(spec: TransformSpec, properties: PixelProperties) -> tuple[float, float]:
    if properties.pixel_spacing_mm is None:
        message = f"transform {spec.name} needs Pixel Spacing or Imager Pixel Spacing, which the image has not"
        raise RadserveError(ErrorCode.UNSUPPORTED_PIXELS, message)
    return properties.pixel_spacing_mm


def _check_polarity(chain: Chain, properties: PixelProperties) -> None:
    """Only windowing inverts MONOCHROME1; without it a model would see a negative, and say nothing."""
    if properties.photometric_interpretation == "MONOCHROME1" and not starts_with_window(chain):
        message = "MONOCHROME1 pixels need a chain that begins with VoiWindow"
        raise RadserveError(ErrorCode.UNSUPPORTED_PIXELS, message)


def _inputs(task: Task, source: Provenance, outcomes: Sequence[Outcome]) -> tuple[PreparedInput, ...]:
    provenance = replace(source, steps=(*source.steps, *map(str, task.chain)))
    to_source = np.linalg.inv(task.affine)
    prepared = []
    for array, (tensor, affine) in zip(task.arrays, outcomes, strict=True):
        matrix = to_source @ affine
        matrix[-1] = np.eye(len(matrix))[-1]  # exactly, where the inverse rounds
        transform = SpatialTransform(matrix, array.shape, tensor.shape[1:])
        prepared.append(PreparedInput(tensor, transform, provenance))
    return tuple(prepared)
