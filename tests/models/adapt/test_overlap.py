"""An image in two splits, the same or nearly, refuses a run, is left out, or is told of: what the manifest says."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from radserve.errors import ErrorCode, RadserveError
from radserve.models.adapt.dataset import LabelledImages
from radserve.models.adapt.overlap import without_overlap


def images(*, exact: bool = False, near: bool = False) -> LabelledImages:
    """Ten images of train, six of val, six of test. `exact`: the first of val is the second of train. `near`: the first
    of test is the third of train in another grey window, cropped by a pixel, under another patient's name."""
    rng = np.random.default_rng(0)
    found = [(255 * ndimage.gaussian_filter(rng.random((48, 48)), 1)).astype(np.uint8) for _ in range(22)]
    if exact:
        found[10] = found[1].copy()
    if near:
        found[16] = (found[2][1:, 1:] * 0.8 + 20).astype(np.uint8)
    splits = np.repeat(["train", "val", "test"], [10, 6, 6])
    return LabelledImages(found, np.arange(22) % 2 == 0, np.array([f"p{n}" for n in range(22)]), splits)


def test_splits_that_share_nothing_stay_as_they_are() -> None:
    given = images()
    assert without_overlap(given, "refuse") is given


@pytest.mark.parametrize(
    ("kinds", "said"),
    [
        ({"exact": True}, "train and val share 1 exact and 0 near"),
        ({"near": True}, "train and test share 0 exact and 1 near"),
    ],
)
def test_an_overlap_refuses_the_run_with_counts_and_no_name(kinds: dict[str, bool], said: str) -> None:
    with pytest.raises(RadserveError, match=said) as caught:
        without_overlap(images(**kinds), "refuse")
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT
    assert "leave-out" in caught.value.client_message
    assert "p1" not in caught.value.client_message


def test_the_image_of_the_earlier_split_is_left_out_and_the_others_keep_their_numbers() -> None:
    kept = without_overlap(images(exact=True, near=True), "leave-out")
    assert kept.rows == (1, *range(4, 23))
    assert [len(kept.of(split)) for split in ("train", "val", "test")] == [8, 6, 6]
    assert kept.patients.tolist() == [f"p{row - 1}" for row in kept.rows]
    assert kept.warnings[-1].endswith("2 of train and 0 of val were left out")
    assert without_overlap(kept, "refuse") is kept


def test_what_is_allowed_is_told_of() -> None:
    kept = without_overlap(images(exact=True), "allow")
    assert kept.rows == tuple(range(1, 23))
    assert "1 exact and 0 near duplicate pairs of images, and were allowed to" in kept.warnings[-1]
