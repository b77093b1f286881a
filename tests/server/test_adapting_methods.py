"""Context vectors, low-rank changes and exemplars from a manifest to what is served, and as a file that travels."""

from __future__ import annotations

import asyncio
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from typer.testing import CliRunner

from radserve.errors import ErrorCode, PackError, RadserveError
from radserve.models.adapt.adapter_file import Adapter, read_adapter
from radserve.models.adapt.dataset import read_images
from radserve.models.adapt.manifest import read_manifest
from radserve.models.onnx_runner import OnnxRunner
from radserve.models.pack import ModelPack, load_pack
from radserve.models.prompts.prompt_set import prompt_set_of_pack
from radserve.pipelines.deadline import Deadline
from radserve.pipelines.embedding import embed_images
from radserve.pipelines.study import Analysis, AnalysisRequest
from radserve.references import StudyRef
from radserve.results import StudyResult
from radserve.server.adapting import Adapted, adapt, apply
from radserve.server.cli import app
from tests.support.operation import Operated
from tests.support.packs import make_tiny_pack, seal
from tests.support.pipeline import analyser_of, images_of
from tests.support.planted import CARD, planted_images, write_manifest

pytestmark = pytest.mark.timeout(1200)  # models are learned in it, which took 265 s on a machine that others filled
METHODS = ("logistic", "context-vectors", "low-rank", "exemplars")
TASK = """[task]
label = "Pneumonia"
input = "chest radiograph"
curve = []
shots = 16
[task.context]
length = 3
variant = "class-specific"
steps = 20
rate = 0.5
[task.low_rank]
rank = 2
steps = 20
rate = 0.02
"""
OPEN_CARD = f"{CARD}deidentified = true\n"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> ModelPack:
    return load_pack(make_tiny_pack(tmp_path_factory.mktemp("pack") / "tiny"))


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = planted_images(tmp_path_factory.mktemp("planted"))
    return write_manifest(data.with_name("manifest.toml"), data.name, TASK, card=OPEN_CARD)


@pytest.fixture(scope="module")
def made(base: ModelPack, manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Adapted]:
    folder = tmp_path_factory.mktemp("out")
    return {
        method: adapt(base, manifest, folder / method, method=method, keep_failed=True, cache=folder / "cache")  # type: ignore[arg-type]
        for method in METHODS
    }


def adapter_file(adapted: Adapted) -> Path:
    return adapted.pack.folder / "adapter_pneumonia.safetensors"


@pytest.mark.parametrize("method", METHODS)
def test_what_is_served_is_what_was_learned(
    base: ModelPack, manifest: Path, made: dict[str, Adapted], method: str
) -> None:
    pack, model = made[method].pack, made[method].learned.model
    images = read_images(read_manifest(manifest)).images
    use = pack.input("chest radiograph")
    served = asyncio.run(embed_images(pack, use, "Pneumonia", images, OnnxRunner([pack]))).logits
    before = asyncio.run(embed_images(base, use, "Pneumonia", images, OnnxRunner([base]))).logits
    np.testing.assert_allclose(served, model.logits(np.arange(len(images))), rtol=1e-3, atol=1e-3)
    assert np.abs(served - before).max() > 1e-2
    other = "Malignant breast lesion"
    assert pack.label(other) == base.label(other)


@pytest.mark.parametrize("method", METHODS)
def test_the_base_is_in_the_pack_unchanged_and_the_record_links_everything(
    base: ModelPack, made: dict[str, Adapted], method: str
) -> None:
    pack = made[method].pack
    assert {name: pack.graphs[name].sha256 for name in base.graphs} == {
        name: graph.sha256 for name, graph in base.graphs.items()
    }
    more = pack.graphs.keys() - base.graphs.keys()
    assert more == {"logistic": {"head_pneumonia"}, "low-rank": {"tower_pneumonia"}}.get(method, set())
    record = json.loads((pack.folder / "adaptation_pneumonia.json").read_text())
    assert record["base"]["digest"] == base.digest
    assert record["task"]["method"] == method
    assert set(record["files"]) == {"adapter_pneumonia.safetensors", *(f"{name}.onnx" for name in more)}
    assert [len(point["auroc"]) for point in record["curve"] if point["method"] == method] == [3]


@pytest.mark.parametrize("method", METHODS)
def test_the_adapter_file_alone_makes_the_same_pack_from_the_same_base(
    base: ModelPack, made: dict[str, Adapted], method: str, tmp_path: Path
) -> None:
    file = adapter_file(made[method])
    assert apply(base, file, tmp_path / "again").digest == made[method].pack.digest
    assert file.stat().st_size < 20_000


def test_another_base_is_refused(made: dict[str, Adapted], tmp_path: Path) -> None:
    other = load_pack(make_tiny_pack(tmp_path / "other", seed=8))
    with pytest.raises(PackError, match=r"learned on tiny 1\.0\.0 \(\w{12}\) and fits no other pack") as caught:
        apply(other, adapter_file(made["low-rank"]), tmp_path / "out")
    assert caught.value.code is ErrorCode.PACK_INVALID
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("method", "tensor", "cause"),
    [
        ("logistic", "weight", r"weight: got float32 \(3,\), expected finite \(8,\)"),
        ("context-vectors", "text_positive", r"text_positive: got float32 \(3,\), expected float32 \(8,\)"),
        ("low-rank", "image/projection/A", r"'projection': its factors are not finite float32 matrices"),
        (
            "exemplars",
            "exemplar_embeddings",
            r"exemplar_embeddings: got float32 \(3,\), expected float32 \(examples, 8\)",
        ),
    ],
)
def test_an_adapter_with_a_tensor_of_the_wrong_shape_is_refused_by_its_name(
    base: ModelPack, made: dict[str, Adapted], tmp_path: Path, method: str, tensor: str, cause: str
) -> None:
    adapter = read_adapter(adapter_file(made[method]))
    broken = replace(adapter, tensors={**adapter.tensors, tensor: np.zeros(3, np.float32)})
    (tmp_path / "broken.safetensors").write_bytes(broken.save())
    with pytest.raises(PackError, match=cause) as caught:
        apply(base, tmp_path / "broken.safetensors", tmp_path / "out")
    assert caught.value.code is ErrorCode.PACK_INVALID


def test_a_file_that_is_no_adapter_is_told_as_such(tmp_path: Path) -> None:
    save_file({"a": np.zeros(3, np.float32)}, tmp_path / "plain.safetensors")
    (tmp_path / "text.safetensors").write_text("no")
    for name, cause in (("plain", "is no adapter of schema"), ("text", "is not a safetensors file")):
        with pytest.raises(PackError, match=cause):
            read_adapter(tmp_path / f"{name}.safetensors")
    with pytest.raises(RadserveError, match=r"'missing\.safetensors' cannot be read: there is no such file"):
        read_adapter(tmp_path / "missing.safetensors")


def test_an_adapter_reads_as_it_was_written(made: dict[str, Adapted], tmp_path: Path) -> None:
    file = adapter_file(made["exemplars"])
    read = read_adapter(file)
    assert isinstance(read, Adapter)
    assert read.save() == file.read_bytes()
    assert set(read.tensors) == set(load_file(file))


async def result_of(pack: ModelPack) -> StudyResult:
    images = list(images_of())
    analyser, _, _ = await analyser_of(pack, images)
    request = AnalysisRequest(StudyRef(images[0].instance.study_instance_uid))
    events = [event async for event in analyser.analyse(request, Deadline())]
    assert isinstance(events[-1], Analysis)
    return events[-1].result


def test_a_result_names_the_learned_texts_and_their_hash_moves_with_them(
    base: ModelPack, manifest: Path, made: dict[str, Adapted], tmp_path: Path
) -> None:
    pack = made["context-vectors"].pack
    result = asyncio.run(result_of(pack))
    assert result.prompts is not None
    (told,) = [each for each in result.prompts.labels if each.label == "Pneumonia"]
    assert told.positive[0].startswith("[3 learned vectors ")
    assert told.positive[0].endswith("] chest radiograph of pneumonia")
    assert result.pack.version == "1.0.0+adapted-pneumonia"
    again = manifest.with_name("again.toml")
    again.write_text(manifest.read_text().replace("steps = 20", "steps = 19"))
    other = adapt(base, again, tmp_path / "other", method="context-vectors", keep_failed=True).pack
    sets = [prompt_set_of_pack(each) for each in (pack, other)]
    assert sets[0] is not None and sets[1] is not None
    assert sets[0].sha256 != sets[1].sha256


async def test_an_adapter_is_loaded_and_unloaded_while_the_base_serves(
    base: ModelPack, made: dict[str, Adapted], tmp_path: Path
) -> None:
    shutil.copytree(base.folder, tmp_path / "packs" / "base")
    operated = Operated(tmp_path)
    apply(base, adapter_file(made["context-vectors"]), tmp_path / "packs" / "adapted")
    reference = "tiny@1.0.0+adapted-pneumonia"
    await operated.packs.load(reference)
    request = AnalysisRequest(StudyRef((await operated.source.list_studies())[0].study_instance_uid), report=False)
    found = {}
    for name in ("tiny", reference):
        async with operated.packs.lease(name) as analyser:
            events = [event async for event in analyser.analyse(request, Deadline())]
        assert isinstance(events[-1], Analysis)
        found[name] = events[-1].result
    assert found[reference].pack.digest == made["context-vectors"].pack.digest
    assert found["tiny"].pack.digest == base.digest
    assert found[reference].findings[0].score != found["tiny"].findings[0].score
    await operated.packs.unload(reference)
    with pytest.raises(PackError, match="is not loaded"):
        await operated.version(reference)
    assert await operated.version("tiny") == "1.0.0"


async def test_exemplars_stand_in_the_result_and_the_draft_and_none_where_none_are_asked_for(
    made: dict[str, Adapted], tmp_path: Path
) -> None:
    pack = made["exemplars"].pack
    result = await result_of(pack)
    (finding,) = result.findings
    assert [each.id.partition("/")[0] for each in finding.exemplars] == ["Planted"] * 3
    cosines = [each.cosine for each in finding.exemplars]
    assert cosines == sorted(cosines, reverse=True)
    assert result.report is not None
    assert f"Most alike among labelled examples: {finding.exemplars[0].id} (" in result.report.text
    silent = apply_with_shown(pack, tmp_path / "silent", 0)
    without = await result_of(silent)
    assert without.findings[0].exemplars == ()
    assert without.findings[0].score == finding.score
    assert without.report is not None
    assert "labelled examples" not in without.report.text


def apply_with_shown(pack: ModelPack, folder: Path, shown: int) -> ModelPack:
    """A copy of the pack that shows so many examples."""
    folder.mkdir()
    for path in pack.folder.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    text = (folder / "pack.toml").read_text()
    assert "shown = 3" in text
    (folder / "pack.toml").write_text(text.replace("shown = 3", f"shown = {shown}"))
    return load_pack(seal(folder))


def test_examples_stay_in_a_pack_only_where_the_data_are_said_to_be_deidentified(
    base: ModelPack, manifest: Path, tmp_path: Path
) -> None:
    closed = manifest.with_name("closed.toml")
    closed.write_text(manifest.read_text().replace("deidentified = true\n", ""))
    with pytest.raises(RadserveError, match="deidentified = true") as caught:
        adapt(base, closed, tmp_path / "out", method="exemplars", keep_failed=True)
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT


def test_a_method_that_does_not_go_with_how_a_label_is_scored_is_refused(
    made: dict[str, Adapted], manifest: Path, tmp_path: Path
) -> None:
    with pytest.raises(RadserveError, match=r"'context-vectors' does not go with 'Pneumonia', which is .* output"):
        adapt(made["logistic"].pack, manifest, tmp_path / "out", method="context-vectors")
    with pytest.raises(RadserveError, match="'exemplars' does not go with 'Pneumonia'"):
        adapt(made["exemplars"].pack, manifest, tmp_path / "out", method="exemplars")


def test_the_commands_learn_by_a_method_and_apply_what_was_learned(
    base: ModelPack, manifest: Path, made: dict[str, Adapted], tmp_path: Path
) -> None:
    where = ("--pack", "tiny", "--pack-dir", str(base.folder))
    learned = CliRunner().invoke(
        app, ["adapt", str(manifest), *where, "--out", str(tmp_path / "one"), "--method", "exemplars", "--keep-failed"]
    )
    assert learned.exit_code == 0, learned.output
    assert "exemplars" in learned.output
    applied = CliRunner().invoke(
        app, ["apply-adapter", str(adapter_file(made["exemplars"])), *where, "--out", str(tmp_path / "two")]
    )
    assert applied.exit_code == 0, applied.output
    assert load_pack(tmp_path / "one").digest == load_pack(tmp_path / "two").digest
    unknown = CliRunner().invoke(
        app, ["adapt", str(manifest), *where, "--out", str(tmp_path / "three"), "--method", "magic"]
    )
    assert isinstance(unknown.exception, RadserveError)
    assert "--method" in unknown.exception.client_message
