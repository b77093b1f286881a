"""Whether the pixels of an image are worth looking at: a coarse look for what a reader of the result should know."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from radserve.image import Image

SAMPLES = 1 << 16  # pixels of a frame that are looked at, on a grid
CLIPPED_SHARE = 0.3  # of the pixels at the greatest value that the stored bits can express
LEAST_CONTRAST = 0.01  # between the 1st and the 99th percentile, as a share of the range of the stored bits


def quality_problems(image: Image, frames: Sequence[int]) -> Iterator[str]:
    """Sentences for blank, clipped and nearly uniform frames among `frames` (indices); none for good images.

    `image.array` is (frames, rows, columns) in modality values. Collimated and cut-out images have much black, so only
    the bright end counts as clipped. The limits are coarse on purpose: they mark what nobody would read.
    """
    found = [_problem(image, frame) for frame in frames]
    for problem in dict.fromkeys(filter(None, found)):
        count = found.count(problem)
        subject = "An image" if image.frames == 1 else f"{count} of {len(frames)} analysed frames of an image"
        verb = "is" if image.frames == 1 or count == 1 else "are"
        yield f"{subject} {verb} {problem}."


def _problem(image: Image, frame: int) -> str:
    pixels = image.array[frame]
    step = max(1, int(np.sqrt(pixels.size / SAMPLES)))
    sample = pixels[::step, ::step]
    low, high = float(sample.min()), float(sample.max())
    if low == high:
        return "blank: all pixels have one value"
    least, greatest = image.properties.value_range
    brightest = least if image.properties.photometric_interpretation == "MONOCHROME1" else greatest
    if np.mean(sample == brightest) > CLIPPED_SHARE:
        return f"clipped: more than {CLIPPED_SHARE:.0%} of the pixels are at the brightest value there is"
    first, last = np.percentile(sample, (1, 99))
    if last - first < LEAST_CONTRAST * (greatest - least):
        return f"nearly uniform: the contrast is below {LEAST_CONTRAST:.0%} of the range"
    return ""
