"""A site whose images look otherwise (gamma, gain, offset): mapped grey values and a new calibration make it right."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from radserve.errors import ErrorCode, PackError
from radserve.evaluation.calibrators import Method
from radserve.models.catalogue import built_in_folder
from radserve.models.onnx_runner import OnnxRunner
from radserve.models.pack import ModelPack, load_pack
from radserve.pipelines.embedding import embed_images
from radserve.server.adapting import Refitted, refit
from tests.support.packs import make_tiny_pack
from tests.support.planted import planted_images, write_manifest

DATA = Path(__file__).parents[3] / "shared" / "data" / "pneumoniamnist.npz"
COUNT = 120  # images of each split
TASK = '[task]\nlabel = "Pneumonia"\ninput = "chest_radiograph"\n'


def shifted(images: np.ndarray) -> np.ndarray:
    return (60 + 120 * (images / 255.0) ** 3).astype(np.uint8)


def site(folder: Path, change: Callable[[np.ndarray], np.ndarray]) -> Path:
    """The manifest of a site with changed images, and as the reference the images of training as they were."""
    with np.load(DATA) as arrays:
        given = {name: arrays[name] for name in arrays.files}
    rng = np.random.default_rng(0)
    made = {}
    for split, name in (("train", "train"), ("val", "val")):
        labels = given[f"{name}_labels"].ravel()
        rows = np.concatenate([rng.permutation(np.flatnonzero(labels == each))[: COUNT // 2] for each in (0, 1)])
        made |= {f"{split}_images": change(given[f"{name}_images"][rows]), f"{split}_labels": labels[rows]}
    np.savez(folder / "site.npz", **made)
    np.savez(folder / "reference.npz", train_images=given["train_images"][::24])
    manifest = write_manifest(folder / "site.toml", "site.npz", TASK)
    text = manifest.read_text().replace("[card]", 'reference = "reference.npz"\noverlap = "allow"\n[card]')
    manifest.write_text(text)
    return manifest


@pytest.fixture(scope="module")
def base() -> ModelPack:
    return load_pack(built_in_folder() / "cxr-bus-mini")


@pytest.fixture(scope="module")
def made(base: ModelPack, tmp_path_factory: pytest.TempPathFactory) -> Refitted:
    if not DATA.exists():
        pytest.skip("the MedMNIST files are not in ../shared/data")
    folder = tmp_path_factory.mktemp("site")
    return refit(base, site(folder, shifted), folder / "pack", Method.PLATT, normalise=True)


def test_the_calibration_error_falls_on_held_out_images_of_the_site(made: Refitted) -> None:
    figures = {each.method: each for each in made.made.figures}
    assert made.made.passed
    assert figures["platt"].ece < figures["before"].ece
    assert made.made.compared is not None
    assert made.made.compared.auroc_after > made.made.compared.auroc_before


def test_a_temperature_changes_no_rank(made: Refitted) -> None:
    figures = {each.method: each for each in made.made.figures}
    assert figures["temperature"].auroc == figures["platt"].auroc == figures["normalised"].auroc


def test_the_map_stands_in_the_chain_of_the_pack_and_is_what_is_served(base: ModelPack, made: Refitted) -> None:
    name = "chest_radiograph"
    steps = [step.transform for step in made.pack.input(name).preprocess]
    before = [step.transform for step in base.input(name).preprocess]
    at = before.index("NormalizeIntensity")
    assert steps == [*before[:at], "MapIntensity", *before[at:]]
    assert made.pack.input("breast_ultrasound").preprocess == base.input("breast_ultrasound").preprocess
    with np.load(DATA) as arrays:
        images = list(shifted(arrays["val_images"][:12]))
    served = embed_images(made.pack, made.pack.input(name), "Pneumonia", images, OnnxRunner([made.pack]))
    assert made.made.intensity is not None
    mapped = made.made.intensity.within(base.input(name))
    learned = embed_images(base, mapped, "Pneumonia", images, OnnxRunner([base]))
    assert asyncio.run(served).logits.tobytes() == asyncio.run(learned).logits.tobytes()


def test_record_and_card_say_what_was_mapped(base: ModelPack, made: Refitted) -> None:
    (path,) = made.pack.folder.glob("recalibration_*.json")
    record = json.loads(path.read_text())["normalisation"]
    assert (record["method"], record["reference"]) == ("quantiles", "reference.npz")
    assert record["auroc"]["images"] == COUNT
    assert record["source"] == list(made.made.intensity.source) if made.made.intensity else False
    card = (made.pack.folder / "MODEL_CARD.md").read_text()
    assert "Grey values of the input chest_radiograph are mapped" in card
    assert {name: graph.sha256 for name, graph in made.pack.graphs.items()} == {
        name: graph.sha256 for name, graph in base.graphs.items()
    }


def test_a_map_that_costs_auroc_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    """A reference of one dark and one bright half leaves nothing of the planted stripes."""
    pack = load_pack(make_tiny_pack(tmp_path / "tiny"))
    data = planted_images(tmp_path)
    reference = np.zeros((4, 28, 28), np.uint8)
    reference[:2] = 255
    np.savez(tmp_path / "reference.npz", train_images=reference)
    task = '[task]\nlabel = "Pneumonia"\ninput = "chest radiograph"\nleast_gain = -1e-9\n'
    manifest = write_manifest(tmp_path / "site.toml", data.name, task)
    manifest.write_text(manifest.read_text().replace("[card]", 'reference = "reference.npz"\n[card]'))
    with pytest.raises(PackError, match="or the AUROC does") as caught:
        refit(pack, manifest, tmp_path / "out", Method.PLATT, normalise=True)
    assert caught.value.code is ErrorCode.PACK_INVALID
    assert not (tmp_path / "out").exists()
