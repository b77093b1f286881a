"""The out-of-distribution gate of the default pack on planted images and on the test splits.

    python benchmarks/gate.py --data FOLDER [--json FILE]

Every image goes through the pack's own preprocessing and image encoder in this process. Foreign: photographs, pages,
noise, one grey value (benchmarks/planted.py), the other data set's test images, and the input's own test images with
their grey values inverted. AUROC: foreign images against the input's own test images.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.medmnist_dicom import COLLECTIONS, Collection, read_split
from benchmarks.planted import Array, planted
from radserve.evaluation.roc import auc
from radserve.image import PixelProperties
from radserve.models.catalogue import PackCatalogue
from radserve.models.onnx_runner import OnnxRunner
from radserve.models.pack import IMAGE_ENCODER, ModelPack
from radserve.models.pack_types import PackInput
from radserve.pipelines.classify import run_graphs
from radserve.pipelines.deadline import Deadline
from radserve.pipelines.preprocess.adapter import Task, run_task
from radserve.pipelines.preprocess.chain import input_chain

PROPERTIES = PixelProperties("MONOCHROME2", bits_stored=8, value_range=(0.0, 1.0))
Scores = npt.NDArray[np.float64]


class Gauge:
    """Scores images (rows, columns) in [0, 1] with the gate of one input."""

    def __init__(self, pack: ModelPack, use: PackInput) -> None:
        self.pack, self.use, self.gate = pack, use, pack.gates[use.name]
        self.chain = input_chain(pack, use)
        self.runner = OnnxRunner([pack])

    def __call__(self, images: Sequence[Array]) -> Scores:
        prepared = [run_task(Task(self.chain, (image,), PROPERTIES, np.eye(3)))[0][0] for image in images]
        tokens = asyncio.run(self._tokens(np.stack(prepared)))
        return self.gate.score(tokens)

    async def _tokens(self, tensors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        found = await run_graphs(self.pack, self.runner, self.use, tensors, Deadline())
        return np.stack([outputs[IMAGE_ENCODER]["image_tokens"] for outputs in found])


def measure(pack: ModelPack, data: Path) -> dict[str, dict[str, Any]]:
    """By input: false alarms on the test split; for each kind of foreign image its number, share stopped, and AUROC."""
    tests = {each: _images(data, each) for each in COLLECTIONS}
    rows = {}
    for collection, own in tests.items():
        (use,) = [each for each in pack.inputs if collection.finding in each.labels]
        (other,) = [each for each in COLLECTIONS if each is not collection]
        gauge, limit = Gauge(pack, use), use.gate.threshold if use.gate else float("inf")
        known = gauge(own)
        kinds = planted() | {"the other input's images": tests[other], "inverted": [1 - image for image in own]}
        scores = {kind: gauge(images) for kind, images in kinds.items()}
        rows[use.name] = {
            "test_images": len(known),
            "false_alarms": float((known > limit).mean()),
            "auroc": _area(np.concatenate([*scores.values()]), known),
            "foreign": {
                kind: {"images": len(each), "stopped": float((each > limit).mean()), "auroc": _area(each, known)}
                for kind, each in scores.items()
            },
        }
    return rows


def _area(foreign: Scores, known: Scores) -> float:
    return auc(np.concatenate([foreign, known]), np.arange(len(foreign) + len(known)) < len(foreign))


def _images(data: Path, collection: Collection) -> list[Array]:
    return [each.pixels.astype(np.float32) / 255 for each in read_split(data, collection, "test")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with pneumoniamnist.npz and breastmnist.npz")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    rows = measure(PackCatalogue().get("cxr-bus-mini"), given.data)
    for name, row in rows.items():
        print(f"{name}: {row['test_images']} test images, {row['false_alarms']:.1%} stopped; AUROC {row['auroc']:.4f}")
        for kind, each in row["foreign"].items():
            print(f"  {kind}: {each['images']}, {each['stopped']:.1%} stopped, AUROC {each['auroc']:.4f}")
    if given.json:
        given.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
