"""The tiny pack with data for its labels: noise images, a third of them brighter where they are positive."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from radserve.models.pack import ModelPack, load_pack
from radserve.models.train.data import TASKS
from tests.support.packs import make_tiny_pack

COUNTS = {"train": 48, "val": 40, "test": 40}


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for task in TASKS:
        arrays = {}
        for split, count in COUNTS.items():
            labels = rng.permutation(np.arange(count) % 2)
            images = rng.integers(0, 160, (count, 28, 28))
            images[labels == task.positive_label, 8:20, 8:20] += 80
            arrays |= {f"{split}_images": images.astype(np.uint8), f"{split}_labels": labels[:, None]}
        np.savez(folder / task.file_name, **arrays)
    return folder


@pytest.fixture(scope="session")
def pack(tmp_path_factory: pytest.TempPathFactory) -> ModelPack:
    return load_pack(make_tiny_pack(tmp_path_factory.mktemp("pack") / "tiny"))
