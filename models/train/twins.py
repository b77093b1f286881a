"""`python -m radserve.models.train.twins --data DIR`: finds the training images that have a twin in another split.

The official splits overlap. The list is kept beside this module as pixel digests, for finding the twins of 5,856 images
takes minutes. Image fingerprints alone decide; no label is read.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import numpy as np
import numpy.typing as npt

from radserve.evaluation.duplicates import find_pairs
from radserve.evaluation.fingerprints import fingerprint

_FILE = "twins.json"
_SPLITS = ("train", "val", "test")

Images = npt.NDArray[np.uint8]


def find_twins(splits: Sequence[Images]) -> dict[str, list[str]]:
    """Pixel digests, sorted, of the images with an exact or near twin; `splits` are train, val, test, each (N, H, W).

    `train`: those of the train split with a twin in another one. `test`: those of the test split with a twin in train.
    """
    images = [image for split in splits for image in split]
    count, first_of_test = len(splits[0]), len(splits[0]) + len(splits[1])
    pairs = [each for each in find_pairs([fingerprint(image) for image in images]) if each.first < count]
    found = {
        "train": {pair.first for pair in pairs if pair.second >= count},
        "test": {pair.second for pair in pairs if pair.second >= first_of_test},
    }
    return {name: sorted({pixel_digest(images[index]) for index in each}) for name, each in found.items()}


def pixel_digest(image: npt.NDArray[np.uint8]) -> str:
    """SHA-256 (hex) of the pixels (H, W), row by row."""
    return hashlib.sha256(np.ascontiguousarray(image).tobytes()).hexdigest()


def have_twin(images: Images, file_name: str, split: str) -> npt.NDArray[np.bool_]:
    """Which `images` (N, H, W) of the `train` or `test` split are on the list; none of a file it does not know."""
    listed = json.loads(files("radserve.models.train").joinpath(_FILE).read_text()).get(file_name, {})
    twins = frozenset(listed.get(split, ()))
    return np.array([pixel_digest(image) in twins for image in images], dtype=np.bool_)


def read_images(folder: Path, file_name: str) -> list[Images]:
    """The images of the three official splits."""
    with np.load(folder / file_name) as arrays:
        return [arrays[f"{name}_images"] for name in _SPLITS]


def main(arguments: list[str] | None = None) -> None:
    from radserve.models.train.data import TASKS

    parser = argparse.ArgumentParser(prog="python -m radserve.models.train.twins", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with pneumoniamnist.npz and breastmnist.npz")
    parser.add_argument("--out", type=Path, required=True, help=f"where to write {_FILE}")
    options = parser.parse_args(arguments)
    found = {task.file_name: find_twins(read_images(options.data, task.file_name)) for task in TASKS}
    options.out.write_text(json.dumps(found, indent=1) + "\n")
    logging.getLogger(__name__).warning("%s", {name: [len(each[s]) for s in each] for name, each in found.items()})


if __name__ == "__main__":
    main()
