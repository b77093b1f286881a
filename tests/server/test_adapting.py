"""From a manifest to a derived pack: the base stays as it is, and what is served is what was learned."""

from __future__ import annotations

import asyncio
import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from scipy.special import expit
from sklearn.metrics import roc_auc_score

from radserve.errors import ErrorCode, PackError, RadserveError
from radserve.evaluation.calibrators import Method
from radserve.models.adapt.dataset import read_images
from radserve.models.adapt.manifest import read_manifest
from radserve.models.onnx_graph import OnnxGraph
from radserve.models.onnx_runner import OnnxRunner
from radserve.models.pack import IMAGE_ENCODER, ModelPack, load_pack
from radserve.pipelines.embedding import Embedded, embed_images
from radserve.server.adapting import adapt, refit
from tests.support.packs import OWN_ENCODER, make_tiny_pack
from tests.support.planted import as_table, planted_images, write_manifest

TASK = '[task]\nlabel = "Pneumonia"\ninput = "chest radiograph"\ncurve = [1, 4]\nstrength = 100.0\n'
NEW = """[task]
label = "Nodule"
input = "chest radiograph"
curve = [1]
[task.new]
code = {value = "427359005", scheme = "SCT", meaning = "Solitary nodule of lung"}
site = {value = "39607008", scheme = "SCT", meaning = "Lung structure"}
assertions = {positive = ["nodule"], negative = ["no nodule"]}
"""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> ModelPack:
    return load_pack(make_tiny_pack(tmp_path_factory.mktemp("pack") / "tiny"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return planted_images(tmp_path_factory.mktemp("planted"))


def manifest(data: Path, task: str) -> Path:
    name = hashlib.sha256(task.encode()).hexdigest()[:8]
    return write_manifest(data.with_name(f"{name}.toml"), data.name, task)


@pytest.fixture(scope="module")
def adapted(base: ModelPack, data: Path, tmp_path_factory: pytest.TempPathFactory) -> ModelPack:
    out = tmp_path_factory.mktemp("out") / "adapted"
    return adapt(base, manifest(data, TASK), out, test=True).pack


def embedded(pack: ModelPack, label: str, path: Path, cache: Path | None = None) -> Embedded:
    images = read_images(read_manifest(path)).images
    use = pack.input("chest radiograph")
    return asyncio.run(embed_images(pack, use, label, images, OnnxRunner([pack]), cache))


def test_the_weights_of_the_base_are_in_the_pack_unchanged(base: ModelPack, adapted: ModelPack) -> None:
    for name, graph in base.graphs.items():
        assert adapted.graphs[name].sha256 == graph.sha256
    assert adapted.digest != base.digest
    assert adapted.ref.version == "1.0.0+adapted-pneumonia"
    before, after = (onnx.load_model_from_string(pack.read(name)) for pack, name in
                     ((base, IMAGE_ENCODER), (adapted, "head_pneumonia")))  # fmt: skip
    copied = {each.name: numpy_helper.to_array(each) for each in after.graph.initializer}
    for each in before.graph.initializer:
        assert copied[each.name].tobytes() == numpy_helper.to_array(each).tobytes()


def test_the_served_head_is_the_learned_one_and_its_map_adds_up_to_the_logit(
    base: ModelPack,
    adapted: ModelPack,
    data: Path,
) -> None:
    path = manifest(data, TASK)
    embeddings = embedded(base, "Pneumonia", path).embeddings
    weights = {
        each.name: numpy_helper.to_array(each)
        for each in onnx.load_model_from_string(adapted.read("head_pneumonia")).graph.initializer
    }
    expected = embeddings @ weights["adapter_weight"][:, 0].astype(np.float64) + float(weights["adapter_bias"][0])
    np.testing.assert_allclose(embedded(adapted, "Pneumonia", path).logits, expected, rtol=1e-4, atol=1e-3)
    pixels = np.random.default_rng(5).standard_normal((3, 1, 28, 28)).astype(np.float32)
    outputs = OnnxGraph(adapted.read("head_pneumonia")).run({"pixels": pixels})
    total = outputs["adapter_map"].sum(axis=(1, 2, 3)) + weights["adapter_bias"]
    np.testing.assert_allclose(total, outputs["adapter_logit"][:, 0], rtol=1e-4, atol=1e-3)


def test_the_head_of_an_input_stands_behind_a_copy_of_its_own_image_encoder(data: Path, tmp_path: Path) -> None:
    pack = load_pack(make_tiny_pack(tmp_path / "tiny", own_encoder=True))
    task = TASK.replace("Pneumonia", "Malignant breast lesion").replace("chest radiograph", "breast ultrasound")
    adapted = adapt(pack, manifest(data, task), tmp_path / "adapted", test=True).pack
    copied = {
        each.name: numpy_helper.to_array(each).tobytes()
        for each in onnx.load_model_from_string(adapted.read("head_malignant_breast_lesion")).graph.initializer
    }
    for each in onnx.load_model_from_string(pack.read(OWN_ENCODER)).graph.initializer:
        assert copied[each.name] == numpy_helper.to_array(each).tobytes()
    assert adapted.graphs_of(adapted.input("breast ultrasound"))[0] == OWN_ENCODER


def test_a_second_task_changes_no_output_of_the_first(
    base: ModelPack,
    adapted: ModelPack,
    data: Path,
    tmp_path: Path,
) -> None:
    both = adapt(adapted, manifest(data, NEW), tmp_path / "both", keep_failed=True).pack
    path = manifest(data, TASK)
    one, two = (embedded(pack, "Pneumonia", path) for pack in (adapted, both))
    assert one.logits.tobytes() == two.logits.tobytes()
    assert both.label("Pneumonia") == adapted.label("Pneumonia")
    untouched = "Malignant breast lesion"
    assert both.label(untouched) == base.label(untouched)
    assert both.label("Nodule").code.value == "427359005"
    assert "Nodule" in both.input("chest radiograph").labels
    assert json.loads((both.folder / "adaptation_nodule.json").read_text())["base"]["digest"] == adapted.digest


def test_everything_is_linked_by_hash(base: ModelPack, adapted: ModelPack, data: Path) -> None:
    path = manifest(data, TASK)
    record = json.loads((adapted.folder / "adaptation_pneumonia.json").read_text())
    assert record["base"]["digest"] == base.digest
    assert record["manifest_sha256"] == read_manifest(path).sha256
    assert record["data"]["sha256"] == read_images(read_manifest(path)).sha256
    assert record["files"]["head_pneumonia.onnx"] == adapted.graphs["head_pneumonia"].sha256
    assert [len(point["auroc"]) for point in record["curve"]] == [3] * 6
    assert record["gate"]["split"] == "val"
    assert record["test_split"]["images"] == 40
    card = (adapted.folder / "MODEL_CARD.md").read_text()
    assert "consent basis: no persons" in card
    assert "Random weights" in card


def test_from_a_table_of_files_the_pipeline_beats_zero_shot_by_the_stated_margin_and_more_examples_do_not_harm(
    base: ModelPack, data: Path, adapted: ModelPack, tmp_path: Path
) -> None:
    table = as_table(data, tmp_path)
    task = TASK.replace("curve = [1, 4]", "curve = [1, 4, 16]\nseeds = [0, 1, 2, 3, 4]\nleast_gain = 0.1")
    path = write_manifest(tmp_path / "task.toml", table.name, task)
    made = adapt(base, path, tmp_path / "out").pack
    record = json.loads((made.folder / "adaptation_pneumonia.json").read_text())
    images = read_images(read_manifest(path))
    rows = images.of("val")
    zero_shot, head = (
        roc_auc_score(images.positive[rows], embedded(pack, "Pneumonia", path).logits[rows]) for pack in (base, made)
    )
    assert record["gate"]["passed"] and record["gate"]["gain_lower_bound"] > 0.1
    assert (record["gate"]["auroc_before"], record["gate"]["auroc_after"]) == pytest.approx((zero_shot, head))
    assert head - zero_shot > 0.1
    for method in ("prototype", "logistic"):
        means = [np.mean(point["auroc"]) for point in record["curve"] if point["method"] == method]
        assert len(means) == 4 and means[-1] - means[0] > 0.1, method
        assert (np.diff(means) > -0.005).all(), method  # close to 1 a few pairs go either way
    # The same images in another form of file make the same head.
    assert made.graphs["head_pneumonia"].sha256 == adapted.graphs["head_pneumonia"].sha256


def test_an_adaptation_that_the_gate_refuses_writes_nothing(
    base: ModelPack,
    data: Path,
    tmp_path: Path,
) -> None:
    path = manifest(data, TASK + "least_gain = 0.9\n")
    with pytest.raises(PackError, match=r"not above 0\.9"):
        adapt(base, path, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_label_that_the_pack_has_or_has_not_is_told_apart(
    base: ModelPack,
    data: Path,
    tmp_path: Path,
) -> None:
    for task, cause in (
        (TASK.replace("Pneumonia", "Mass"), "is no label of the pack"),
        (NEW.replace("Nodule", "Pneumonia"), "is a label of the pack"),
        (TASK.replace("Pneumonia", "Malignant breast lesion"), "is not answered on the input"),
    ):
        with pytest.raises(RadserveError, match=cause) as caught:
            adapt(base, manifest(data, task), tmp_path / "out")
        assert caught.value.code is ErrorCode.INVALID_ARGUMENT


def test_embeddings_are_kept_by_what_they_were_made_from(
    base: ModelPack,
    data: Path,
    tmp_path: Path,
) -> None:
    path = manifest(data, TASK)
    first = embedded(base, "Pneumonia", path, tmp_path)
    (kept,) = tmp_path.iterdir()
    again = embedded(base, "Pneumonia", path, tmp_path)
    assert first.embeddings.tobytes() == again.embeddings.tobytes()
    kept.write_bytes(b"damaged")
    assert embedded(base, "Pneumonia", path, tmp_path).logits.tobytes() == first.logits.tobytes()
    assert len(list(tmp_path.iterdir())) == 1


def test_a_recalibrated_pack_has_every_graph_and_decision_of_the_base(
    base: ModelPack, data: Path, tmp_path: Path
) -> None:
    path = manifest(data, TASK)
    made = refit(base, path, tmp_path / "out", Method.TEMPERATURE, keep_failed=True)
    old, new = base.label("Pneumonia"), made.pack.label("Pneumonia")
    assert {name: graph.sha256 for name, graph in made.pack.graphs.items()} == {
        name: graph.sha256 for name, graph in base.graphs.items()
    }
    assert new.scoring == old.scoring
    assert new.temperature != old.temperature
    logits = embedded(base, "Pneumonia", path).logits
    decided = [expit(logits / each.temperature + each.offset) >= each.threshold for each in (old, new)]
    assert (decided[0] == decided[1]).all()
    (record,) = made.pack.folder.glob("recalibration_*.json")
    assert json.loads(record.read_text())["base"]["digest"] == base.digest
    assert made.pack.label("Malignant breast lesion") == base.label("Malignant breast lesion")
