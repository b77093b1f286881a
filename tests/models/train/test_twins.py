"""Test images with a twin in the train split are known, found by their pixels alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from radserve.models.train import twins
from radserve.models.train.data import TASKS

_DATA = Path(__file__).parents[4] / "shared" / "data"


def _pictures(count: int) -> np.ndarray:
    """Different smooth pictures (count, 64, 64) uint8."""
    coarse = np.random.default_rng(0).integers(0, 256, (count, 12, 12)).astype(np.uint8)
    return np.stack([np.asarray(Pillow.fromarray(each).resize((64, 64), Pillow.Resampling.BICUBIC)) for each in coarse])


def test_a_brightened_copy_in_the_other_split_is_a_twin_and_one_in_the_same_split_is_not() -> None:
    pictures = _pictures(6)
    brighter = (pictures * 0.8 + 30).astype(np.uint8)
    train, test = pictures[:4], np.concatenate([pictures[4:], brighter[4:5], brighter[1:2]])
    assert twins.find_twins(train, test) == [twins.pixel_digest(brighter[1])]


def test_a_file_that_is_not_on_the_list_has_no_twins() -> None:
    assert not twins.have_twin(_pictures(3), "other.npz").any()


@pytest.mark.skipif(not _DATA.exists(), reason="needs pneumoniamnist.npz and breastmnist.npz in ../shared/data")
def test_the_list_is_what_the_breast_images_give() -> None:
    name = TASKS[1].file_name
    train, test = twins.read_images(_DATA, name)
    listed = {twins.pixel_digest(image) for image in test[twins.have_twin(test, name)]}
    assert listed == set(twins.find_twins(train, test)) and len(listed) == 59
