"""The two MedMNIST v2 data sets as tensors, with one meaning of "positive" for both.

PneumoniaMNIST: label 1 is pneumonia. BreastMNIST: label **0** is malignant, 1 is normal or benign.
Yang et al., Scientific Data 10:41 (2023), doi 10.1038/s41597-022-01721-8, CC BY 4.0, official splits, each whole. These
overlap: twins.py knows which test images have a near twin in the train split, for the evaluation to tell them apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from radserve.models.train.wordings import MALIGNANT_BREAST_LESION, PNEUMONIA, LabelWording

Split = Literal["train", "val", "test"]


@dataclass(frozen=True)
class Task:
    """One data set: its file, the label value that means "present", and how its images may be augmented."""

    wording: LabelWording
    file_name: str
    positive_label: int
    may_flip: bool  # a chest film has a heart side; an ultrasound image has none


TASKS: tuple[Task, ...] = (
    Task(PNEUMONIA, "pneumoniamnist.npz", positive_label=1, may_flip=False),
    Task(MALIGNANT_BREAST_LESION, "breastmnist.npz", positive_label=0, may_flip=True),
)


@dataclass(frozen=True)
class LabelledImages:
    """`images` (N, 1, 28, 28) uint8 and `positive` (N,) bool."""

    images: Tensor
    positive: Tensor

    def __len__(self) -> int:
        return len(self.images)

    def head(self, count: int) -> LabelledImages:
        return LabelledImages(self.images[:count], self.positive[:count])

    def without(self, rows: npt.NDArray[np.int64]) -> LabelledImages:
        kept = torch.ones(len(self), dtype=torch.bool)
        kept[torch.from_numpy(rows)] = False
        return LabelledImages(self.images[kept], self.positive[kept])


def load_split(folder: Path, task: Task, split: Split) -> LabelledImages:
    """Read one official split of a task from `folder`."""
    with np.load(folder / task.file_name) as arrays:
        images, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"].ravel()
    return LabelledImages(torch.from_numpy(images).unsqueeze(1), torch.from_numpy(labels == task.positive_label))
