"""Labelled images as a pack's graphs get them, for calibration, learning and the gate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from radserve.models.pack import ModelPack
from radserve.models.pack_types import PackInput

FloatArray = npt.NDArray[np.float32]
Split = Literal["train", "val", "test"]
Reader = Callable[[Split], Sequence["Samples"]]
"""Reads the samples of a split, a set of them for each label that is measured."""


@dataclass(frozen=True)
class Samples:
    """The images of one label on the input `use`: `pixels` (N, channels, rows, columns) float32, prepared, and
    `positive` and `patients` (N,), whose images are not independent."""

    label: str
    use: PackInput
    pixels: FloatArray
    positive: npt.NDArray[np.bool_]
    patients: npt.NDArray[np.str_]


def by_graph(pack: ModelPack, samples: Sequence[Samples]) -> dict[str, list[Samples]]:
    """The samples that each graph of the pack sees that takes images."""
    found: dict[str, list[Samples]] = {}
    for each in samples:
        for graph in pack.graphs_of(each.use, embeds=True):
            found.setdefault(graph, []).append(each)
    return found


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
