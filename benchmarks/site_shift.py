"""A site whose images look otherwise: what `radserve adapt --recalibrate-only platt --normalise` makes of it.

    python benchmarks/site_shift.py PNEUMONIAMNIST.NPZ [COUNT]

COUNT images of each of train and val, half of them with pneumonia, are changed as another detector or its processing
would; the reference is every 24th image of training as it was. One JSON line for each change: calibration error and
AUROC on val by method, the lower bound of the AUROC gain, and whether the pack would be written.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from radserve.evaluation.calibrators import Method
from radserve.models.catalogue import built_in_folder
from radserve.models.pack import load_pack
from radserve.server.adapting import refit

Pixels = npt.NDArray[np.uint8]
MANIFEST = """\
[task]
label = "Pneumonia"
input = "chest_radiograph"
[data]
file = "site.npz"
reference = "reference.npz"
overlap = "allow"
[card]
name = "PneumoniaMNIST, changed"
source = "MedMNIST v2, doi 10.1038/s41597-022-01721-8"
licence = "CC BY 4.0"
consent_basis = "published research data, de-identified by its authors"
"""
CHANGES: Mapping[str, Callable[[Pixels], Pixels]] = {
    "none": lambda images: images,
    "gain 0.5, offset 60": lambda images: (60 + images * 0.5).astype(np.uint8),
    "gamma 3, gain 0.47, offset 60": lambda images: (60 + 120 * (images / 255.0) ** 3).astype(np.uint8),
    "gamma 0.4": lambda images: (255 * (images / 255.0) ** 0.4).astype(np.uint8),
}


def write_site(folder: Path, arrays: Mapping[str, Pixels], change: Callable[[Pixels], Pixels], count: int) -> Path:
    """The manifest of the changed images and their reference."""
    rng = np.random.default_rng(0)
    made = {}
    for split in ("train", "val"):
        labels = arrays[f"{split}_labels"].ravel()
        rows = np.concatenate([rng.permutation(np.flatnonzero(labels == each))[: count // 2] for each in (0, 1)])
        made |= {f"{split}_images": change(arrays[f"{split}_images"][rows]), f"{split}_labels": labels[rows]}
    np.savez(folder / "site.npz", **made)
    np.savez(folder / "reference.npz", train_images=arrays["train_images"][::24])
    manifest = folder / "site.toml"
    manifest.write_text(MANIFEST)
    return manifest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("count", type=int, nargs="?", default=270)
    given = parser.parse_args()
    base = load_pack(built_in_folder() / "cxr-bus-mini")
    with np.load(given.data) as loaded:
        arrays = {name: loaded[name] for name in loaded.files}
    for name, change in CHANGES.items():
        with tempfile.TemporaryDirectory() as folder:
            manifest = write_site(Path(folder), arrays, change, given.count)
            out = Path(folder) / "pack"
            made = refit(base, manifest, out, Method.PLATT, normalise=True, keep_failed=True).made
        assert made.compared is not None
        figures = {each.method: [round(each.ece, 4), round(each.auroc, 4)] for each in made.figures}
        told = {"change": name, "ece, auroc": figures, "bound": round(made.compared.gain_lower_bound, 4)}
        print(json.dumps(told | {"written": made.passed}), flush=True)


if __name__ == "__main__":
    main()
