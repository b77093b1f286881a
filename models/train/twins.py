"""`python -m radserve.models.train.twins --data DIR`: finds the test images that have a twin in the train split.

The official splits overlap. The list serves the evaluation alone, which gives its figures with and without them;
training uses the official train split whole. It is kept beside this module as pixel digests, for finding the twins of
5,856 images takes minutes. Image fingerprints alone decide; no label is read.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
from importlib.resources import files
from pathlib import Path

import numpy as np
import numpy.typing as npt

from radserve.evaluation.duplicates import find_pairs
from radserve.evaluation.fingerprints import fingerprint

_FILE = "twins.json"

Images = npt.NDArray[np.uint8]


def find_twins(train: Images, test: Images) -> list[str]:
    """Pixel digests, sorted, of the `test` images (N, H, W) that have an exact or near twin in `train` (M, H, W)."""
    pairs = find_pairs([fingerprint(image) for image in (*train, *test)])
    found = {pair.second - len(train) for pair in pairs if pair.first < len(train) <= pair.second}
    return sorted({pixel_digest(test[index]) for index in found})


def pixel_digest(image: npt.NDArray[np.uint8]) -> str:
    """SHA-256 (hex) of the pixels (H, W), row by row."""
    return hashlib.sha256(np.ascontiguousarray(image).tobytes()).hexdigest()


def have_twin(images: Images, file_name: str) -> npt.NDArray[np.bool_]:
    """Which test `images` (N, H, W) of a data file are on the list; none of a file it does not know."""
    twins = frozenset(json.loads(files("radserve.models.train").joinpath(_FILE).read_text()).get(file_name, ()))
    return np.array([pixel_digest(image) in twins for image in images], dtype=np.bool_)


def read_images(folder: Path, file_name: str) -> tuple[Images, Images]:
    """The images of the official train and test splits."""
    with np.load(folder / file_name) as arrays:
        return arrays["train_images"], arrays["test_images"]


def main(arguments: list[str] | None = None) -> None:
    from radserve.models.train.data import TASKS

    parser = argparse.ArgumentParser(prog="python -m radserve.models.train.twins", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with pneumoniamnist.npz and breastmnist.npz")
    parser.add_argument("--out", type=Path, required=True, help=f"where to write {_FILE}")
    options = parser.parse_args(arguments)
    found = {task.file_name: find_twins(*read_images(options.data, task.file_name)) for task in TASKS}
    options.out.write_text(json.dumps(found, indent=1) + "\n")
    logging.getLogger(__name__).warning("%s", {name: len(each) for name, each in found.items()})


if __name__ == "__main__":
    main()
