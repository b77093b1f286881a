"""A student learns its teacher's embeddings of images it has not seen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from radserve.models.compress.default_samples import read_samples
from radserve.models.compress.distill import BATCH, Student, _learn
from radserve.models.compress.scores import pack_scores
from radserve.models.pack import IMAGE_ENCODER, ModelPack
from tests.support.packs import CHANNELS, EMBEDDING


def test_training_brings_a_student_near_its_teacher_on_new_images(pack: ModelPack, data: Path) -> None:
    scores = pack_scores(pack)
    directions = torch.tensor(np.stack(list(scores.directions.values())), dtype=torch.float32)
    validation, train = (read_samples(pack, data, split) for split in ("val", "train"))
    pixels = np.concatenate([each.pixels for each in validation])
    taught = np.concatenate([scores.embeddings(each) for each in validation])
    torch.manual_seed(0)
    student = Student(1, 8, 7, CHANNELS, EMBEDDING)

    def cosine() -> float:
        with torch.no_grad():
            embedding = student.eval()(torch.from_numpy(pixels))[0].numpy()
        return float((embedding * taught).sum(axis=1).mean())

    before = cosine()
    steps = 100 * max(1, sum(len(each.pixels) for each in train) // BATCH)
    _learn(student, scores.graphs[IMAGE_ENCODER], train, directions, steps, seed=0)
    assert before < 0.5
    assert cosine() > 0.9
