"""Images of the train split with a twin elsewhere are left out, found by their pixels alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from radserve.models.train import twins
from radserve.models.train.data import TASKS, load_split, load_training

_DATA = Path(__file__).parents[4] / "shared" / "data"


def _pictures(count: int) -> np.ndarray:
    """Different smooth pictures (count, 64, 64) uint8."""
    coarse = np.random.default_rng(0).integers(0, 256, (count, 12, 12)).astype(np.uint8)
    return np.stack([np.asarray(Pillow.fromarray(each).resize((64, 64), Pillow.Resampling.BICUBIC)) for each in coarse])


def test_a_brightened_copy_in_another_split_is_a_twin_and_one_in_the_same_split_is_not() -> None:
    pictures = _pictures(9)
    brighter = (pictures * 0.8 + 30).astype(np.uint8)
    train = np.concatenate([pictures[:4], brighter[3:4]])
    val, test = np.concatenate([pictures[4:6], brighter[:1]]), np.concatenate([pictures[6:], brighter[1:2]])
    found = twins.find_twins([train, val, test])
    assert found["train"] == sorted(map(twins.pixel_digest, pictures[:2]))
    assert found["test"] == [twins.pixel_digest(brighter[1])]


def test_a_file_that_is_not_on_the_list_has_no_twins() -> None:
    assert not twins.have_twin(_pictures(3), "other.npz", "train").any()


@pytest.mark.skipif(not _DATA.exists(), reason="needs pneumoniamnist.npz and breastmnist.npz in ../shared/data")
def test_the_list_is_what_the_breast_images_give() -> None:
    task = TASKS[1]
    splits = twins.read_images(_DATA, task.file_name)
    found = twins.find_twins(splits)
    for name, images in (("train", splits[0]), ("test", splits[2])):
        listed = {twins.pixel_digest(images[index]) for index in np.flatnonzero(_listed(images, name))}
        assert listed == set(found[name])
    left = load_training(_DATA, task)
    assert len(left) == len(load_split(_DATA, task, "train")) - int(_listed(splits[0], "train").sum()) == 440


def _listed(images: np.ndarray, split: str) -> np.ndarray:
    return twins.have_twin(images, TASKS[1].file_name, split)
