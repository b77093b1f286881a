"""Planted data: embeddings of two clouds, and images with stripes where they are positive."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from radserve.models.adapt.dataset import LabelledImages

CARD = '[card]\nname = "Planted"\nsource = "made by this test"\nlicence = "CC0-1.0"\nconsent_basis = "no persons"\n'
COUNTS = {"train": 80, "val": 60, "test": 40}


def planted_embeddings(separation: float, seed: int = 0) -> tuple[LabelledImages, np.ndarray]:
    """400 / 400 / 200 embeddings (N, 16): clouds of unit spread whose centres are so far apart."""
    rng = np.random.default_rng(seed)
    splits = np.repeat(["train", "val", "test"], [400, 400, 200])
    positive = np.arange(len(splits)) % 2 == 0
    direction = rng.standard_normal(16)
    direction *= separation / np.linalg.norm(direction)
    embeddings = rng.standard_normal((len(splits), 16)) + np.outer(positive, direction)
    patients = np.array([f"patient {number}" for number in range(len(splits))])
    return LabelledImages([np.zeros((1, 1), np.uint8)] * len(splits), positive, patients, splits), embeddings


def planted_images(folder: Path) -> Path:
    """Write an .npz of the form of MedMNIST, with patients of two images each."""
    rng = np.random.default_rng(0)
    arrays = {}
    for split, count in COUNTS.items():
        labels = np.arange(count) % 2
        images = rng.integers(0, 160, (count, 28, 28))
        images[labels == 1, ::4] += 40
        arrays |= {
            f"{split}_images": images.astype(np.uint8),
            f"{split}_labels": labels[:, None],
            f"{split}_patients": np.array([f"{split} {number // 2}" for number in range(count)]),
        }
    path = folder / "planted.npz"
    np.savez(path, **arrays)
    return path


def as_table(arrays: Path, folder: Path) -> Path:
    """Write the images of such an .npz as PNG files and a table (CSV) beside them."""
    data, rows = np.load(arrays), ["image,label,patient,split"]
    for split in COUNTS:
        for number, image in enumerate(data[f"{split}_images"]):
            name = f"{split}-{number}.png"
            Image.fromarray(image).save(folder / name)
            label, patient = data[f"{split}_labels"][number, 0], data[f"{split}_patients"][number]
            rows.append(f"{name},{label},{patient},{split}")
    path = folder / "planted.csv"
    path.write_text("\n".join(rows) + "\n")
    return path


def write_manifest(path: Path, file: str, task: str, *, card: str = CARD) -> Path:
    """A manifest beside its data: the [task] table as text, the data's file name, and the card."""
    path.write_text(f'{task}\n[data]\nfile = "{file}"\n{card}')
    return path
