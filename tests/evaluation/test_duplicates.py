"""Duplicates: 100 planted pairs are found and nothing else; look-alike radiographs are told apart; overlaps refuse."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image as PillowImage

from radserve.errors import ErrorCode, RadserveError
from radserve.evaluation.duplicates import Kind, check_splits, find_pairs, overlap_error
from radserve.evaluation.fingerprints import fingerprint
from tests.support.evaluating import Grey, texture

RADIOGRAPHS = Path(__file__).parents[3] / "shared" / "data" / "pneumoniamnist.npz"


def chests(n: int) -> list[Grey]:
    """Chest radiographs of different patients, enlarged: all look alike to a coarse hash."""
    if not RADIOGRAPHS.exists():
        pytest.skip("pneumoniamnist.npz is not beside the repository (../shared/data)")
    with np.load(RADIOGRAPHS) as arrays:
        images = arrays["train_images"]
    chosen = np.unique(images.reshape(len(images), -1), axis=0)  # it has a few exact duplicates of its own
    chosen = chosen[np.random.default_rng(7).permutation(len(chosen))[:n]].reshape(-1, 28, 28)
    return [
        np.asarray(PillowImage.fromarray(each).resize((224, 224), PillowImage.Resampling.BICUBIC)) for each in chosen
    ]


def re_encoded(image: Grey, rng: np.random.Generator) -> Grey:
    with io.BytesIO() as stream:
        PillowImage.fromarray(image).save(stream, "JPEG", quality=int(rng.integers(30, 95)))
        return np.asarray(PillowImage.open(stream))


def cropped(image: Grey, rng: np.random.Generator) -> Grey:
    """Two per cent off the height and the width, anywhere; half of them brought back to the old size."""
    rows, columns = image.shape
    off_rows, off_columns = round(0.02 * rows), round(0.02 * columns)
    top, left = rng.integers(0, off_rows + 1), rng.integers(0, off_columns + 1)
    part = image[top : rows - off_rows + top, left : columns - off_columns + left]
    if rng.integers(2):
        return part
    return np.asarray(PillowImage.fromarray(part).resize((columns, rows), PillowImage.Resampling.BILINEAR))


def re_windowed(image: Grey, rng: np.random.Generator) -> Grey:
    centre, width = rng.uniform(0.4, 0.6), rng.uniform(0.6, 1.4)
    return np.round(255 * np.clip((image / 255 - centre) / width + 0.5, 0, 1)).astype(np.uint8)


@pytest.mark.parametrize("source", ["textures", "radiographs"])
def test_100_planted_pairs_are_found_and_nothing_else(source: str) -> None:
    """The criterion: recall at least 0.98 and precision at least 0.99, among 250 originals."""
    originals = [texture(seed, 128) for seed in range(250)] if source == "textures" else chests(250)
    rng = np.random.default_rng(11)
    changes: list[Callable[[Grey, np.random.Generator], Grey]] = [re_encoded, cropped, re_windowed]
    copies = [changes[at % 3](originals[at], rng) for at in range(100)]
    pairs = find_pairs([fingerprint(image) for image in originals + copies])
    found = {(pair.first, pair.second) for pair in pairs}
    planted = {(at, 250 + at) for at in range(100)}
    recall, precision = len(found & planted) / 100, len(found & planted) / len(found)
    assert recall >= 0.98, sorted(planted - found)
    assert precision >= 0.99, sorted(found - planted)


def test_a_copy_that_is_cropped_windowed_and_re_encoded_at_once_is_found() -> None:
    rng = np.random.default_rng(5)
    originals = [texture(seed) for seed in range(20)]
    copies = [re_encoded(re_windowed(cropped(each, rng), rng), rng) for each in originals]
    pairs = find_pairs([fingerprint(each) for each in originals + copies])
    assert {(pair.first, pair.second) for pair in pairs} == {(at, 20 + at) for at in range(20)}


def test_equal_pixels_are_exact_whatever_type_holds_them_and_one_bit_more_is_near() -> None:
    image = texture(1)
    other = image.copy()
    other[5, 5] ^= 1
    prints = [fingerprint(each) for each in (image, image.astype(np.uint16), other, texture(2))]
    pairs = find_pairs(prints)
    assert [(pair.first, pair.second, pair.kind) for pair in pairs] == [
        (0, 1, Kind.EXACT),
        (0, 2, Kind.NEAR),
        (1, 2, Kind.NEAR),
    ]
    assert pairs[0].similarity == 1.0
    assert pairs[1].similarity > 0.99


def test_images_of_one_grey_value_are_compared_exactly_only() -> None:
    flat = [np.full((40, 40), value, np.uint8) for value in (7, 7, 9)]
    found = check_splits([fingerprint(each) for each in flat], ["train", "train", "train"])
    assert [(pair.rows, pair.kind) for pair in found.pairs] == [((1, 2), Kind.EXACT)]
    assert "3 images of one grey value" in found.warnings[1]


def test_duplicates_inside_a_split_do_not_refuse_but_an_overlap_of_splits_does() -> None:
    image = texture(1)
    prints = [fingerprint(each) for each in (image, image, texture(2), texture(3))]
    inside = check_splits(prints, ["train", "train", "test", "test"])
    assert inside.inside == {"train": {"exact": 1, "near": 0}, "test": {"exact": 0, "near": 0}}
    assert overlap_error(inside) is None
    between = check_splits(prints, ["train", "test", "train", "test"])
    error = overlap_error(between)
    assert error is not None
    assert error.code is ErrorCode.INVALID_ARGUMENT
    assert "train and test share 1 exact and 0 near duplicate pairs" in error.client_message


def test_one_patient_in_two_splits_is_an_overlap_and_is_never_named() -> None:
    prints = [fingerprint(texture(seed)) for seed in range(3)]
    found = check_splits(prints, ["train", "train", "test"], ["DOE", "ROE", "DOE"])
    assert [each.shared_patients for each in found.overlaps] == [1]
    error = overlap_error(found)
    assert error is not None
    assert "1 patients" in error.client_message
    assert "DOE" not in error.client_message + repr(found)


def test_pairs_say_whether_they_are_of_one_patient() -> None:
    image = texture(1)
    prints = [fingerprint(each) for each in (image, image, image)]
    found = check_splits(prints, ["train"] * 3, ["a", "a", "b"])
    assert [(pair.rows, pair.same_patient) for pair in found.pairs] == [
        ((1, 2), True),
        ((1, 3), False),
        ((2, 3), False),
    ]


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((3, 3, 3)), r"shape \(3, 3, 3\)"),
        (np.zeros((0, 3)), r"shape \(0, 3\)"),
        (np.full((3, 3), np.nan), "not finite"),
    ],
)
def test_what_is_no_grey_image_is_refused(image: npt.NDArray[np.float64], message: str) -> None:
    with pytest.raises(RadserveError, match=message):
        fingerprint(image)


def test_different_lengths_and_a_threshold_out_of_range_are_refused() -> None:
    prints = [fingerprint(texture(1))]
    with pytest.raises(RadserveError, match="differ in length"):
        check_splits(prints, ["train", "test"])
    with pytest.raises(RadserveError, match="near threshold: got 0"):
        find_pairs(prints, near_threshold=0)
