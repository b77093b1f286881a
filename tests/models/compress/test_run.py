"""From a pack to a compressed pack: what is written, what is recorded, and what the gate refuses."""

from __future__ import annotations

import json
import re
import tomllib
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from radserve.errors import ErrorCode, PackError, RadserveError
from radserve.models.compress.default_samples import read_samples
from radserve.models.compress.latency import timings_of
from radserve.models.compress.methods import Method, MethodOptions
from radserve.models.compress.run import compress
from radserve.models.compress.samples import Reader
from radserve.models.compress.scores import pack_scores
from radserve.models.exemplars import ExemplarIndex
from radserve.models.onnx_graph import OnnxGraph
from radserve.models.pack import IMAGE_ENCODER, ModelPack, load_pack
from radserve.models.pack_signature import sign_folder
from radserve.models.pack_writing import sealed
from radserve.server.cli import app
from tests.support.packs import EMBEDDING, OWN_ENCODER, make_tiny_pack, seal
from tests.support.signing import keys


def reader(pack: ModelPack, data: Path) -> Reader:
    return partial(read_samples, pack, data)


def test_a_compressed_pack_says_what_it_is_and_what_the_gate_found(pack: ModelPack, data: Path, tmp_path: Path) -> None:
    made = compress(pack, Method.INT8_DYNAMIC, reader(pack, data), tmp_path / "small", keep_failed=True, test=True)
    small = load_pack(tmp_path / "small")
    assert small == made.pack
    assert (small.name, small.version) == ("tiny", "1.0.0+int8-dynamic")
    assert small.digest != pack.digest and pack.digest[:12] in small.initialised_from
    assert {graph.precision for graph in small.graphs.values()} == {"int8"}
    assert not {model.name for model in small.models} & {model.name for model in pack.models}
    record = json.loads((tmp_path / "small" / "compression.json").read_text())
    assert record["original"] == {"name": "tiny", "version": "1.0.0", "digest": pack.digest}
    assert record["gate"]["split"] == "val" and record["gate"]["margin"] == 0.01
    assert record["gate"]["passed"] == all(each["passed"] for each in record["gate"]["labels"])
    parity = json.loads((tmp_path / "small" / "parity.json").read_text())
    assert parity["against"] == f"tiny 1.0.0 ({pack.digest[:12]})" and parity["precision"] == "int8"
    pixels = np.concatenate([each.pixels for each in read_samples(pack, data, "val")])
    found = [OnnxGraph(each.read(IMAGE_ENCODER)).run({"pixels": pixels})["embedding"] for each in (pack, small)]
    (embedding,) = (each for each in parity["outputs"] if each["name"] == "embedding")
    assert 0 < embedding["max_abs_diff"] <= np.abs(found[0] - found[1]).max() + 1e-6
    assert embedding["least_cosine"] >= (found[0] * found[1]).sum(axis=1).min() - 1e-6
    assert small.ref.parity.startswith("int8, opset ")
    card = (tmp_path / "small" / "MODEL_CARD.md").read_text()
    assert card.startswith("# tiny 1.0.0+int8-dynamic: int8 (dynamic)") and "# tiny\n" in card


def test_the_recorded_areas_are_those_of_the_packs_on_the_named_splits(
    pack: ModelPack, data: Path, tmp_path: Path
) -> None:
    compress(pack, Method.INT8_DYNAMIC, reader(pack, data), tmp_path / "small", keep_failed=True, test=True)
    record = json.loads((tmp_path / "small" / "compression.json").read_text())
    for split, rows in (("val", record["gate"]["labels"]), ("test", record["test_split"])):
        for samples, row in zip(read_samples(pack, data, split), rows, strict=True):
            for which, key in ((pack, "auroc_before"), (load_pack(tmp_path / "small"), "auroc_after")):
                logits = pack_scores(which).logits(samples)
                assert row[key] == pytest.approx(roc_auc_score(samples.positive, logits))


def test_a_variant_that_is_not_shown_to_be_as_good_is_refused_and_nothing_is_written(
    pack: ModelPack, data: Path, tmp_path: Path
) -> None:
    with pytest.raises(PackError, match="not shown to be within") as caught:
        compress(pack, Method.INT8_DYNAMIC, reader(pack, data), tmp_path / "small", margin=-1.0)
    assert caught.value.code is ErrorCode.PACK_INVALID
    assert "Pneumonia" in caught.value.client_message
    assert not (tmp_path / "small").exists()


def test_a_failed_variant_that_is_kept_says_so_in_record_and_card(pack: ModelPack, data: Path, tmp_path: Path) -> None:
    made = compress(pack, Method.FP16, reader(pack, data), tmp_path / "small", margin=-1.0, keep_failed=True)
    assert not made.outcome.passed
    assert json.loads((tmp_path / "small" / "compression.json").read_text())["gate"]["passed"] is False
    assert "NOT passed" in (tmp_path / "small" / "MODEL_CARD.md").read_text()


def test_the_command_reports_size_parity_and_speed_whatever_they_are(
    pack: ModelPack, data: Path, tmp_path: Path
) -> None:
    given = ["--data", str(data), "--out", str(tmp_path / "small"), "--pack-dir", str(pack.folder), "--keep-failed"]
    run = CliRunner().invoke(app, ["models", "compress", "tiny", "--method", "fp16", *given])
    assert run.exit_code == 0, run.output
    assert re.search(r"graphs: [\d,]+ bytes of [\d,]+ \(\d+\.\d%\); parity: fp16, opset", run.output)
    timings = re.findall(r"(\w+) x (\d): ([\d.]+) ms for ([\d.]+) \(speed-up [\d.]+\)", run.output)
    assert {(graph, int(batch)) for graph, batch, *_ in timings} == set(timings_of(pack))


def test_the_same_compression_gives_the_same_pack(pack: ModelPack, data: Path, tmp_path: Path) -> None:
    first, second = (
        compress(pack, Method.INT8_STATIC, reader(pack, data), tmp_path / name, keep_failed=True)
        for name in ("one", "two")
    )
    assert first.pack.digest == second.pack.digest


def test_a_pack_is_never_overwritten(pack: ModelPack, data: Path, tmp_path: Path) -> None:
    (tmp_path / "small").mkdir()
    with pytest.raises(RadserveError, match="never overwritten"):
        compress(pack, Method.FP16, reader(pack, data), tmp_path / "small", keep_failed=True)


def test_a_signed_pack_in_another_hand_with_a_folder_is_compressed_all_the_same(data: Path, tmp_path: Path) -> None:
    folder = make_tiny_pack(tmp_path / "tiny")
    (folder / "graphs").mkdir()
    (folder / "text_encoder.onnx").rename(folder / "graphs" / "text.onnx")
    text = (folder / "pack.toml").read_text().split("\n[files]\n")[0]
    text = text.replace('version = "1.0.0"', 'version="1.0.0" # the first').replace(
        "text_encoder.onnx", "graphs/text.onnx"
    )
    sealed(folder, tomllib.loads(text))
    (folder / "pack.toml").write_text((folder / "pack.toml").read_text().replace("version = ", "version="))
    private, _ = keys(tmp_path)
    sign_folder(folder, private)
    signed = load_pack(folder)
    small = compress(signed, Method.FP16, reader(signed, data), tmp_path / "small", keep_failed=True).pack
    assert small.version == "1.0.0+fp16"
    assert {graph.precision for graph in small.graphs.values()} == {"fp16"}
    assert not (tmp_path / "small" / "model.sig").exists()


def test_the_gate_measures_labels_as_they_are_served(data: Path, tmp_path: Path) -> None:
    folder, rng = make_tiny_pack(tmp_path / "tiny"), np.random.default_rng(0)
    sides = rng.standard_normal((2, EMBEDDING)).astype(np.float32)
    sides /= np.linalg.norm(sides, axis=1, keepdims=True)
    (folder / "learned.safetensors").write_bytes(save({"text_positive": sides[0], "text_negative": sides[1]}))
    index = ExemplarIndex(sides, np.array([True, False]), ("a", "b"), 3.0, 2.0)
    (folder / "examples.safetensors").write_bytes(save(index.tensors()))
    prompts = (folder / "prompts.toml").read_text()
    named = '[labels."Pneumonia"]\n'
    (folder / "prompts.toml").write_text(prompts.replace(named, f'{named}learned = "learned.safetensors"\n'))
    text = (folder / "pack.toml").read_text()
    examples = 'exemplars = {file = "examples.safetensors", alpha = 3.0, beta = 2.0}'
    (folder / "pack.toml").write_text(text.replace("logit_scale = 10.0", f"logit_scale = 10.0\n{examples}", 1))
    pack = load_pack(seal(folder))
    samples = next(each for each in read_samples(pack, data, "val") if each.label == "Pneumonia")
    scores = pack_scores(pack)
    embeddings = scores.embeddings(samples)
    expected = 10 * (embeddings @ (sides[0] - sides[1]).astype(np.float64)) + index.evidence(embeddings)
    assert np.allclose(scores.logits(samples), expected)


def test_missing_data_and_an_unknown_method_are_named(pack: ModelPack, tmp_path: Path) -> None:
    with pytest.raises(RadserveError, match="no data for the label 'Pneumonia'"):
        compress(pack, Method.FP16, reader(pack, tmp_path), tmp_path / "small")
    options = ["--data", str(tmp_path), "--out", str(tmp_path / "x"), "--pack-dir", str(pack.folder)]
    run = CliRunner().invoke(app, ["models", "compress", "tiny", "--method", "magic", *options])
    assert isinstance(run.exception, RadserveError)
    assert "got 'magic'" in run.exception.client_message


@pytest.mark.slow
def test_a_distilled_encoder_keeps_the_contract_of_the_original(pack: ModelPack, data: Path, tmp_path: Path) -> None:
    options = MethodOptions(epochs=5, width=8)
    made = compress(pack, Method.DISTILL, reader(pack, data), tmp_path / "small", options=options, keep_failed=True)
    graph = OnnxGraph(made.pack.read(IMAGE_ENCODER))
    pixels = read_samples(pack, data, "val")[0].pixels
    answer = graph.run({"pixels": pixels})
    assert np.allclose(answer["patch_embeddings"].sum(axis=1), answer["embedding"], atol=1e-5)
    assert np.allclose(np.linalg.norm(answer["embedding"], axis=1), 1, atol=1e-5)
    taught = OnnxGraph(pack.read(IMAGE_ENCODER)).run({"pixels": pixels})
    assert {name: array.shape for name, array in answer.items()} == {n: a.shape for n, a in taught.items()}
    record = json.loads((made.pack.folder / "compression.json").read_text())
    cosines = (answer["embedding"] * taught["embedding"]).sum(axis=1)
    reported = record["gate"]["labels"][0]["cosine"]
    assert reported == pytest.approx(float(cosines.mean()), abs=1e-5)
    assert "distilled" in made.pack.description and "distilled" in (made.pack.folder / "MODEL_CARD.md").read_text()


@pytest.mark.parametrize("method", [Method.INT8_STATIC, Method.DISTILL])
def test_every_image_encoder_is_compressed_on_the_images_it_sees(data: Path, tmp_path: Path, method: Method) -> None:
    pack = load_pack(make_tiny_pack(tmp_path / "tiny", own_encoder=True))
    before, (chest, breast) = pack_scores(pack), read_samples(pack, data, "val")
    swapped = before.graphs["image_encoder"].run({"pixels": breast.pixels})["embedding"]
    assert not np.allclose(before.embeddings(breast), swapped) and before.embeddings(chest).shape == (40, EMBEDDING)
    made = compress(
        pack, method, reader(pack, data), tmp_path / "small", keep_failed=True, options=MethodOptions(epochs=1, width=8)
    )
    parity = json.loads((tmp_path / "small" / "parity.json").read_text())
    assert {each["graph"] for each in parity["outputs"]} == {"image_encoder", OWN_ENCODER}
    for name in ("image_encoder", OWN_ENCODER):
        assert made.pack.read(name) != pack.read(name)
