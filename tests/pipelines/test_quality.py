"""Image quality: what nobody would read is marked, ordinary images are not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from radserve.image import Image
from radserve.pipelines.quality import quality_problems
from tests.support.dicoms import cr
from tests.support.results import sample_image

ROWS, COLUMNS = 600, 500
GRADIENT = np.linspace(0, 4095, ROWS * COLUMNS).reshape(ROWS, COLUMNS).astype(np.uint16)


def image(pixels: np.ndarray, photometric: str = "MONOCHROME2") -> Image:
    made = sample_image(cr(pixels), bits_stored=12)
    properties = replace(made.properties, photometric_interpretation=photometric, value_range=(0.0, 4095.0))
    return replace(made, properties=properties)


def half(value: int) -> np.ndarray:
    return np.where(np.arange(ROWS)[:, np.newaxis] < ROWS // 2, value, GRADIENT).astype(np.uint16)


@pytest.mark.parametrize(
    "pixels", [GRADIENT, half(0), np.random.default_rng(0).normal(2000, 300, (ROWS, COLUMNS)).astype(np.uint16)]
)
def test_ordinary_and_collimated_images_have_no_problem(pixels: np.ndarray) -> None:
    assert not list(quality_problems(image(pixels), [0]))


@pytest.mark.parametrize(
    ("made", "problem"),
    [
        (image(np.full((ROWS, COLUMNS), 7, np.uint16)), "blank"),
        (image(half(4095)), "clipped"),
        (image(half(0), "MONOCHROME1"), "clipped"),
        (image((GRADIENT // 256 + 2000).astype(np.uint16)), "nearly uniform"),
    ],
)
def test_what_nobody_would_read_is_marked(made: Image, problem: str) -> None:
    (found,) = quality_problems(made, [0])
    assert found.startswith(f"An image is {problem}")


def test_frames_are_counted_and_only_those_that_were_analysed() -> None:
    made = image(GRADIENT)
    blank = np.full_like(GRADIENT, 9)
    many = replace(made, array=np.stack([GRADIENT, blank, blank, GRADIENT, blank]), planes=())
    (found,) = quality_problems(many, [0, 1, 2])
    assert found == "2 of 3 analysed frames of an image are blank: all pixels have one value."
    assert not list(quality_problems(many, [0, 3]))
