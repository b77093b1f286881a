"""Fits the calibration of a label on the validation split and, where there is such, on the train split out of fold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from radserve.models.tokenizer import PackTokenizer
from radserve.models.train.architecture import RadCoCa
from radserve.models.train.augment import Augmentation
from radserve.models.train.calibrate import Calibration, calibrate
from radserve.models.train.data import LabelledImages, Task, load_split
from radserve.models.train.out_of_fold import Logits
from radserve.models.train.prompt_file import Prompts
from radserve.models.train.scoring import image_logits

VIEWS = 3  # perturbed ones of every image
_SEED = 0


def fit_calibration(
    model: RadCoCa, tokenizer: PackTokenizer, prompts: Prompts, folder: Path, task: Task, out_of_fold: Logits
) -> Calibration:
    """All of it on the validation images and, of a label in `out_of_fold`, on those logits of the train split as well.

    Without these, slope and offset are of perturbed views too, so that they hold for images a little unlike the
    validation split (Tomani et al., CVPR 2021, "Post-hoc uncertainty calibration for domain drift scenarios"); the
    perturbations are those of training. Threshold and band of no answer come from the unperturbed images.
    """
    labelled, label = load_split(folder, task, "val"), task.wording.label

    def logits_of(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
        return image_logits(model, tokenizer, {label: prompts[label]}, images)[label]

    plain, positive = logits_of(labelled.images[:, 0].numpy()), labelled.positive.numpy()
    if label in out_of_fold:
        learned = load_split(folder, task, "train").positive.numpy()
        return calibrate(np.concatenate([plain, out_of_fold[label]]), np.concatenate([positive, learned]))
    return calibrate(plain, positive, [logits_of(images) for images in _views(labelled, task)])


def _views(labelled: LabelledImages, task: Task) -> list[npt.NDArray[np.uint8]]:
    generator = torch.Generator().manual_seed(_SEED)
    pixels, may_flip = labelled.images.float() / 255, torch.full((len(labelled),), task.may_flip)
    views = (Augmentation().apply(pixels, may_flip, generator) for _ in range(VIEWS))
    return [(view[:, 0] * 255).round().to(torch.uint8).numpy() for view in views]
