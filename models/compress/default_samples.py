"""The data sets of the default pack (docs/packs.md) as its graphs get them: 28 x 28 images, yet to be normalised."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from radserve.errors import ErrorCode, RadserveError
from radserve.models.compress.samples import FloatArray, Samples, Split
from radserve.models.pack import ModelPack
from radserve.models.pack_types import PackInput
from radserve.models.train.data import TASKS, load_split


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
        alone = np.arange(len(pixels)).astype(str)
        found.append(Samples(label.name, use, normalised(pixels, use), images.positive.numpy(), alone))
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
