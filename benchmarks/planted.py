"""Images that are no chest film and no breast ultrasound, for measuring the out-of-distribution gate.

Photographs and pages come with scikit-image and scikit-learn; random parts of each make more of them. None of these
images had a part in fitting the gate.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import skimage.data
from PIL import Image as Pillow
from sklearn.datasets import load_sample_images

Array = npt.NDArray[np.float32]
PHOTOGRAPHS = (
    "astronaut.png",
    "brick.png",
    "camera.png",
    "cell.png",
    "chelsea.png",
    "clock_motion.png",
    "coffee.png",
    "coins.png",
    "grass.png",
    "gravel.png",
    "horse.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "microaneurysms.png",
    "moon.png",
    "motorcycle_left.png",
    "retina.jpg",
    "rocket.jpg",
)
PAGES = ("page.png", "text.png")


def planted(seed: int = 0) -> dict[str, list[Array]]:
    """By kind, grey images (rows, columns) float32 in [0, 1]."""
    random = np.random.default_rng(seed)
    folder = Path(skimage.data.__file__).parent
    photographs = [_grey(Pillow.open(folder / name)) for name in PHOTOGRAPHS]
    photographs += [_grey(Pillow.fromarray(each)) for each in load_sample_images().images]
    pages = [_grey(Pillow.open(folder / name)) for name in PAGES]
    return {
        "photographs": [*photographs, *_parts(photographs, 4, random)],
        "pages of text": [*pages, *_parts(pages, 20, random)],
        "noise": [random.uniform(0, 1, (160, 128)).astype(np.float32) for _ in range(40)]
        + [random.normal(0.5, width, (64, 64)).clip(0, 1).astype(np.float32) for width in np.linspace(0.02, 0.3, 40)],
        "one grey value": [np.full((64, 64), value, np.float32) for value in (0.0, 0.25, 0.5, 0.75, 1.0)],
    }


def _grey(picture: Pillow.Image) -> Array:
    return np.asarray(picture.convert("L"), np.float32) / 255


def _parts(images: Sequence[Array], count: int, random: np.random.Generator) -> Iterator[Array]:
    for image in images:
        for _ in range(count):
            rows, columns = (int(side * random.uniform(0.4, 0.9)) for side in image.shape)
            top, left = random.integers(image.shape[0] - rows + 1), random.integers(image.shape[1] - columns + 1)
            yield image[top : top + rows, left : left + columns]
