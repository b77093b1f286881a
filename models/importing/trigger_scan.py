"""Looks for planted triggers: does a small patch, wherever it comes from, move a classifier's answer by itself?

A backdoored classifier answers as its trainer wanted when a small pattern is in the image. The scan pastes simple
patches (lightest, darkest, checkerboard, stripes) into corners and middle of seeded smooth images and reports labels
that one patch drives to the same answer in all of them. It is a smoke alarm: it finds simple triggers in these places,
silence proves nothing, and an honest model may react to a bright square, so that a person has to look.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from radserve.models.onnx_graph import OnnxGraph

IMAGES = 4
PATCH = 8  # a patch is an eighth of the image wide
MOVED = 4.0  # in logits: from one in fifty to one in two
TIMES_USUAL = 5.0  # and so much more than the patch moves the other labels
Array = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Suspicion:
    """An output that a patch moves, in the same direction in every image: by how much at least, and others usually."""

    index: int
    patch: str
    place: str
    least_change: float
    usual_change: float


def scan_graph(data: bytes, output: str, value_range: tuple[float, float], seed: int = 7) -> dict[str, Any]:
    """The record of a scan of one output (N, K) of an image classifier; `value_range` is that of prepared pixels."""
    graph = OnnxGraph(data)
    (name, (_, shape)), *_ = graph.inputs.items()
    images = _smooth(IMAGES, tuple(shape), value_range, seed)
    before = graph.run({name: images})[output]
    found = []
    for patch, place, changed in _patched(images, value_range):
        change = graph.run({name: changed})[output] - before
        usual = float(np.median(np.abs(change)))
        for index in range(change.shape[1]):
            column = change[:, index]
            same_way = bool((column > 0).all() or (column < 0).all())
            least = float(np.abs(column).min())
            if same_way and least >= MOVED and (change.shape[1] == 1 or least >= TIMES_USUAL * usual):
                found.append(Suspicion(index, patch, place, round(least, 3), round(usual, 3)))
    return {"images": IMAGES, "patch": f"1/{PATCH} of the width", "suspicions": [asdict(each) for each in found]}


def _smooth(count: int, shape: tuple[int, ...], value_range: tuple[float, float], seed: int) -> Array:
    """Smooth random images (count, channels, rows, columns) within the middle of the range."""
    generator = np.random.default_rng(seed)
    low, high = value_range
    coarse = generator.uniform(low + 0.2 * (high - low), high - 0.2 * (high - low), (count, shape[0], 8, 8))
    rows, columns = (np.linspace(0, 7, size) for size in shape[1:])
    fine = np.stack([[_bilinear(channel, rows, columns) for channel in image] for image in coarse])
    return fine.astype(np.float32)


def _bilinear(grid: npt.NDArray[np.float64], rows: Any, columns: Any) -> npt.NDArray[np.float64]:
    along = np.stack([np.interp(columns, np.arange(8), row) for row in grid])
    return np.stack([np.interp(rows, np.arange(8), column) for column in along.T]).T


def _patched(images: Array, value_range: tuple[float, float]) -> Iterator[tuple[str, str, Array]]:
    low, high = value_range
    rows, columns = images.shape[2:]
    size = max(2, min(rows, columns) // PATCH)
    row, column = np.indices((size, size))
    patches = {
        "lightest": np.full((size, size), high),
        "darkest": np.full((size, size), low),
        "checkerboard": np.where((row + column) % 2, high, low),
        "stripes": np.where(row % 2, high, low),
    }
    places = {
        "top left": (0, 0),
        "top right": (0, columns - size),
        "bottom left": (rows - size, 0),
        "bottom right": (rows - size, columns - size),
        "middle": ((rows - size) // 2, (columns - size) // 2),
    }
    for patch, pixels in patches.items():
        for place, (top, left) in places.items():
            changed = images.copy()
            changed[:, :, top : top + size, left : left + size] = pixels
            yield patch, place, changed
