"""Measures a trained network on one split: discrimination, calibration, and whether its reports agree with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt

from radserve.models.tokenizer import PackTokenizer
from radserve.models.train.architecture import RadCoCa
from radserve.models.train.calibrate import Calibration
from radserve.models.train.data import LabelledImages, Split, Task, load_split
from radserve.models.train.decoder_step import reports_of_tokens
from radserve.models.train.prompt_file import Prompts
from radserve.models.train.scoring import encoded, logits_of_embeddings
from radserve.models.train.wordings import START_TOKENS, asserted_states


@dataclass(frozen=True)
class Readings:
    """What the network says of every image of a split.

    Logits (N,) float64, what each report asserts by language, and the image tokens (N, P, C) float32 behind it.
    """

    logits: npt.NDArray[np.float64]
    positive: npt.NDArray[np.bool_]
    asserted: Mapping[str, tuple[frozenset[bool], ...]]
    image_tokens: npt.NDArray[np.float32]

    @property
    def scores(self) -> npt.NDArray[np.float64]:
        """Scores (N,) in [0, 1], as `scoring.score_images` gives them."""
        return cast(npt.NDArray[np.float64], 1 / (1 + np.exp(-self.logits)))

    def contradictions(self, calibration: Calibration) -> dict[str, int]:
        """How many reports do not assert exactly what the classifier decides at its operating point, by language."""
        decided = calibration.probabilities(self.logits) >= calibration.threshold
        return {
            language: sum(states != {bool(each)} for states, each in zip(asserted, decided, strict=True))
            for language, asserted in self.asserted.items()
        }

    def agreement(self) -> dict[str, float]:
        """The share of reports that assert exactly the image's label, by language."""
        truth = [{bool(each)} for each in self.positive]
        return {
            language: float(np.mean([one == other for one, other in zip(said, truth, strict=True)]))
            for language, said in self.asserted.items()
        }


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
    label, input_name = task.wording.label, task.wording.input_name
    embeddings, tokens = encoded(model, images, input_name)
    reports = {language: reports_of_tokens(model, tokenizer, tokens, start) for language, start in START_TOKENS.items()}
    return Readings(
        logits=logits_of_embeddings(model, tokenizer, {label: prompts[label]}, embeddings, input_name)[label],
        positive=labelled.positive.numpy(),
        asserted={
            language: tuple(asserted_states(tokenizer.pieces(report), task.wording) for report in written)
            for language, written in reports.items()
        },
        image_tokens=tokens.numpy(),
    )
