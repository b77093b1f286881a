"""Fits the calibration of a label on the validation split, on its images as they are and perturbed."""

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
from radserve.models.train.prompt_file import Prompts
from radserve.models.train.scoring import image_logits

VIEWS = 3  # perturbed ones of every image
_SEED = 0


def fit_calibration(
    model: RadCoCa, tokenizer: PackTokenizer, prompts: Prompts, folder: Path, task: Task
) -> Calibration:
    """Slope and offset of all views, so that they hold for images a little unlike the validation split too.

    Tomani et al., CVPR 2021 ("Post-hoc uncertainty calibration for domain drift scenarios"); the perturbations are
    those of training. Threshold and band of no answer come from the unperturbed images.
    """
    labelled, label = load_split(folder, task, "val"), task.wording.label
    plain, *perturbed = (
        image_logits(model, tokenizer, {label: prompts[label]}, images)[label]
        for images in (labelled.images[:, 0].numpy(), *_views(labelled, task))
    )
    return calibrate(plain, labelled.positive.numpy(), perturbed)


def _views(labelled: LabelledImages, task: Task) -> list[npt.NDArray[np.uint8]]:
    generator = torch.Generator().manual_seed(_SEED)
    pixels, may_flip = labelled.images.float() / 255, torch.full((len(labelled),), task.may_flip)
    views = (Augmentation().apply(pixels, may_flip, generator) for _ in range(VIEWS))
    return [(view[:, 0] * 255).round().to(torch.uint8).numpy() for view in views]
