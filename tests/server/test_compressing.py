"""Compressing a pack that is not the default one: its own labels, from manifests."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from radserve.errors import ErrorCode, RadserveError
from radserve.models.compress.methods import Method
from radserve.models.compress.run import compress
from radserve.models.onnx_graph import OnnxGraph
from radserve.models.pack import ModelPack, load_pack
from radserve.server.cli import app
from radserve.server.compressing import reader_of
from tests.support.other_packs import make_classifier_pack

COUNTS = {"train": 40, "val": 60, "test": 40}


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> ModelPack:
    return load_pack(make_classifier_pack(tmp_path_factory.mktemp("packs") / "halves"))


def manifest(pack: ModelPack, folder: Path, label: str = "", **task: str) -> Path:
    """Noisy 28 x 28 images, whose left half is brighter where the label is present; three images of each patient."""
    folder.mkdir(exist_ok=True)
    rng, arrays = np.random.default_rng(5), {}
    for split, count in COUNTS.items():
        positive = np.arange(count) % 2
        images = rng.integers(60, 160, (count, 28, 28)) + 4 * positive[:, None, None] * (np.arange(28) < 14)
        people = np.array([f"{split} {number // 3}" for number in range(count)])
        arrays |= {f"{split}_images": images.astype(np.uint8), f"{split}_labels": positive, f"{split}_patients": people}
    np.savez(folder / "halves.npz", **arrays)
    name = label or pack.labels[0].name
    told = {"label": name, "input": pack.inputs[0].name} | task
    rows = "\n".join(f"{key} = {json.dumps(value)}" for key, value in told.items())
    card = "\n".join(f'{key} = "x"' for key in ("name", "source", "licence", "consent_basis"))
    path = folder / f"{name.replace(' ', '-')}.toml"
    path.write_text(f'[task]\n{rows}\n[data]\nfile = "halves.npz"\noverlap = "allow"\n[card]\n{card}\n')
    return path


def test_a_classifier_is_measured_on_its_own_images_as_it_is_served(pack: ModelPack, tmp_path: Path) -> None:
    read = reader_of(pack, [manifest(pack, tmp_path / "data")])
    made = compress(pack, Method.FP16, read, tmp_path / "small", keep_failed=True, test=True)
    record = json.loads((tmp_path / "small" / "compression.json").read_text())
    with np.load(tmp_path / "data" / "halves.npz") as arrays:
        for split, rows in (("val", record["gate"]["labels"]), ("test", record["test_split"])):
            (row,) = rows
            (samples,) = read(split)  # type: ignore[arg-type]
            assert samples.pixels.shape == (COUNTS[split], 1, 28, 28)
            for which, key in ((pack, "auroc_before"), (made.pack, "auroc_after")):
                logits = OnnxGraph(which.read("classifier")).run({"image": samples.pixels})["logits"][:, 0]
                assert row[key] == pytest.approx(roc_auc_score(arrays[f"{split}_labels"], logits))
            assert 0.6 < row["auroc_before"] < 1 and row["cosine"] is None
    assert record["gate"]["unmeasured"] == [pack.labels[1].name]
    assert f"| {pack.labels[1].name} | 0 | not measured |" in (tmp_path / "small" / "MODEL_CARD.md").read_text()


def test_the_command_takes_a_manifest_for_each_label(pack: ModelPack, tmp_path: Path) -> None:
    given = [str(manifest(pack, tmp_path / "data", each.name)) for each in pack.labels]
    options = ["--out", str(tmp_path / "small"), "--pack-dir", str(pack.folder), "--method", "fp16"]
    run = CliRunner().invoke(app, ["models", "compress", "halves", "--data", given[0], "--data", given[1], *options])
    assert run.exit_code == 0, run.output
    assert load_pack(tmp_path / "small").version == f"{pack.version}+fp16"
    assert all(each.name in run.output for each in pack.labels) and "not measured" not in run.output


def test_what_the_pack_does_not_answer_is_refused_by_name(pack: ModelPack, tmp_path: Path) -> None:
    first = manifest(pack, tmp_path / "data")
    with pytest.raises(RadserveError, match="has a manifest already") as caught:
        reader_of(pack, [first, first])
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT
    with pytest.raises(RadserveError, match="'Fracture' is not answered on the input"):
        reader_of(pack, [manifest(pack, tmp_path / "data", "Fracture")])
    with pytest.raises(RadserveError, match=r"manifest 'none.toml': cannot be read"):
        reader_of(pack, [tmp_path / "none.toml"])
