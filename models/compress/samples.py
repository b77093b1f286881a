"""Labelled images as a pack's image encoder gets them, for calibration, learning and the gate.

The data are the sets of the default pack (docs/packs.md): 28 x 28 images that only remain to be normalised.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from radserve.errors import ErrorCode, RadserveError
from radserve.models.pack import ModelPack
from radserve.models.pack_types import PackInput
from radserve.models.train.data import TASKS, Split, load_split

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Samples:
    """The images of one label: `pixels` (N, 1, rows, columns) float32, normalised, and `positive` (N,)."""

    label: str
    pixels: FloatArray
    positive: npt.NDArray[np.bool_]


def read_samples(pack: ModelPack, folder: Path, split: Split) -> list[Samples]:
    """The samples of every label of the pack on one official split.

    Raises RadserveError INVALID_ARGUMENT when a label has no data set in `folder`.
    """
    tasks = {task.wording.label: task for task in TASKS}
    found = []
    for label in pack.labels:
        task = tasks.get(label.name)
        if task is None or not (folder / task.file_name).is_file():
            message = f"no data for the label {label.name!r} in {folder.name!r}; known: {', '.join(sorted(tasks))}"
            raise RadserveError(ErrorCode.INVALID_ARGUMENT, message)
        images = load_split(folder, task, split)
        use = next(each for each in pack.inputs if label.name in each.labels)
        pixels = images.images.numpy().astype(np.float32) / np.float32(255)
        found.append(Samples(label.name, normalised(pixels, use), images.positive.numpy()))
    return found


def encoder_of(pack: ModelPack, label: str) -> str:
    """The graph that embeds the images of a label."""
    return next(use for use in pack.inputs if label in use.labels).image_encoder


def by_encoder(pack: ModelPack, samples: Sequence[Samples]) -> dict[str, list[Samples]]:
    """The samples that each image encoder of the pack sees."""
    found: dict[str, list[Samples]] = {}
    for each in samples:
        found.setdefault(encoder_of(pack, each.label), []).append(each)
    return found


def normalised(pixels: FloatArray, use: PackInput) -> FloatArray:
    """`pixels` (N, 1, rows, columns) in [0, 1] as the chain's NormalizeIntensity leaves them."""
    steps = [step for step in use.preprocess if step.transform == "NormalizeIntensity"]
    arguments: Mapping[str, float] = steps[-1].arguments if steps else {"subtrahend": 0.0, "divisor": 1.0}
    if "divisor" in arguments:
        scaled: FloatArray = ((pixels - arguments["subtrahend"]) / arguments["divisor"]).astype(np.float32)
        return scaled
    mean = pixels.mean(axis=(1, 2, 3), keepdims=True)
    deviation = pixels.std(axis=(1, 2, 3), keepdims=True)
    whitened: FloatArray = ((pixels - mean) / np.where(deviation == 0, 1, deviation)).astype(np.float32)
    return whitened


def some(samples: Sequence[Samples], count: int, seed: int = 0) -> FloatArray:
    """`count` images of each label, half of them positive, drawn without replacement."""
    rng = np.random.default_rng(seed)
    chosen = []
    for each in samples:
        for state in (False, True):
            of_state = np.flatnonzero(each.positive == state)
            drawn = rng.permutation(of_state)[: max(1, count // 2)]
            chosen.append(each.pixels[drawn])
    return np.concatenate(chosen)
