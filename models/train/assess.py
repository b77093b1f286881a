"""Measures a trained network on one split: discrimination, calibration, and whether its reports agree with it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from radserve.models.tokenizer import PackTokenizer
from radserve.models.train.architecture import RadCoCa
from radserve.models.train.data import LabelledImages, Split, Task, load_split
from radserve.models.train.decoder_step import cached_reports
from radserve.models.train.prompt_file import Prompts
from radserve.models.train.scoring import image_logits
from radserve.models.train.wordings import asserted_states


@dataclass(frozen=True)
class Readings:
    """What the network says of every image of a split: logits (N,) float64 and what each report asserts."""

    logits: npt.NDArray[np.float64]
    positive: npt.NDArray[np.bool_]
    asserted: tuple[frozenset[bool], ...]

    def contradictions(self, temperature: float, threshold: float) -> int:
        """How many reports do not assert exactly what the classifier decides at its operating point."""
        decided = 1 / (1 + np.exp(-self.logits / temperature)) >= threshold
        return sum(states != {bool(decision)} for states, decision in zip(self.asserted, decided, strict=True))


def read_split(
    model: RadCoCa, tokenizer: PackTokenizer, prompts: Prompts, folder: Path, task: Task, split: Split
) -> Readings:
    """Score and describe every image of one official split."""
    return read_images(model, tokenizer, prompts, task, load_split(folder, task, split))


def read_images(
    model: RadCoCa, tokenizer: PackTokenizer, prompts: Prompts, task: Task, labelled: LabelledImages
) -> Readings:
    """Score and describe `labelled` images of a task."""
    images = labelled.images[:, 0].numpy()
    label = task.wording.label
    reports = cached_reports(model, tokenizer, images)
    return Readings(
        logits=image_logits(model, tokenizer, {label: prompts[label]}, images)[label],
        positive=labelled.positive.numpy(),
        asserted=tuple(asserted_states(tokenizer.pieces(report), task.wording) for report in reports),
    )
