"""Packs on disk: what is accepted, and every way in which one is refused, with its code and cause."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from radserve.errors import ErrorCode, PackError
from radserve.findings import CodedConcept
from radserve.models.pack import GRAPH_NAMES, load_pack
from radserve.models.pack_files import MAX_TABLE_BYTES
from radserve.tensors import ModelRef, TensorSpec
from tests.support import packs
from tests.support.packs import OWN_ENCODER, make_tiny_pack, seal


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_tiny_pack(tmp_path / "tiny")


def edit(folder: Path, old: str, new: str, file: str = "pack.toml") -> None:
    path = folder / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    seal(folder)


def refusal(folder: Path) -> PackError:
    with pytest.raises(PackError) as caught:
        load_pack(folder)
    return caught.value


def test_a_pack_is_read_as_pack_toml_states_it(folder: Path) -> None:
    pack = load_pack(folder)
    assert (pack.name, pack.version, pack.model_version, pack.risk_tier) == ("tiny", "1.0.0", 1, "I")
    pneumonia = pack.label("Pneumonia")
    assert pneumonia.code == CodedConcept("233604007", "SCT", "Pneumonia")
    assert (pneumonia.threshold, pneumonia.temperature) == (0.5, 1.5)
    chest = pack.input("chest radiograph")
    assert chest.intended_use.age_years == (1, 5)
    assert [step.transform for step in chest.preprocess] == ["VoiWindow", "Resize"]
    assert chest.preprocess[1].arguments == {"spatial_size": (28, 28), "mode": "area"}
    assert pack.input("breast ultrasound").intended_use.age_years is None
    assert pack.prompts.labels["Pneumonia"].negative == ("normal chest radiograph", "the lungs are clear")
    assert pack.graphs["image_encoder"].preferred_batch_sizes == (8, 16)


def test_tensor_specs_are_those_of_the_graphs_read_by_the_onnx_library(folder: Path) -> None:
    pack = load_pack(folder)
    for name in GRAPH_NAMES:
        graph = onnx.load(folder / f"{name}.onnx").graph
        for specs, values in ((pack.graphs[name].inputs, graph.input), (pack.graphs[name].outputs, graph.output)):
            expected = tuple(
                TensorSpec(
                    value.name,
                    "int64" if value.type.tensor_type.elem_type == onnx.TensorProto.INT64 else "float32",
                    (-1, *(dim.dim_value for dim in value.type.tensor_type.shape.dim[1:])),
                )
                for value in values
            )
            assert specs == expected


def test_models_are_named_after_pack_and_graph(folder: Path) -> None:
    pack = load_pack(folder)
    assert pack.model("decoder_step") == ModelRef("tiny--1.0.0--decoder_step", 1)
    assert [model.name for model in pack.models] == [f"tiny--1.0.0--{name}" for name in GRAPH_NAMES]
    with pytest.raises(PackError, match="no graph 'vision'"):
        pack.model("vision")


def test_the_same_pack_has_the_same_digest_anywhere_and_any_change_changes_it(folder: Path, tmp_path: Path) -> None:
    digest = load_pack(folder).digest
    assert load_pack(make_tiny_pack(tmp_path / "again" / "tiny")).digest == digest
    edit(folder, "normal chest radiograph", "a normal chest radiograph", "prompts.toml")
    changed = load_pack(folder).digest
    edit(folder, "threshold = 0.5", "threshold = 0.51")
    assert len({digest, changed, load_pack(folder).digest}) == 3
    assert load_pack(folder).ref.digest == load_pack(folder).digest


def test_an_altered_file_is_refused_naming_it_and_both_hashes(folder: Path) -> None:
    path = folder / "text_encoder.onnx"
    stated = hashlib.sha256(path.read_bytes()).hexdigest()
    path.write_bytes(path.read_bytes() + b"\0")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    error = refusal(folder)
    assert error.code is ErrorCode.PACK_HASH_MISMATCH
    for part in ("'tiny'", "'text_encoder.onnx'", stated[:12], found[:12]):
        assert part in error.client_message


def test_a_graph_altered_after_loading_is_not_read(folder: Path) -> None:
    pack = load_pack(folder)
    (folder / "text_encoder.onnx").write_bytes(b"other")
    with pytest.raises(PackError) as caught:
        pack.read("text_encoder")
    assert caught.value.code is ErrorCode.PACK_HASH_MISMATCH


EDITS: dict[str, tuple[str, str, str]] = {
    "unknown key": ('risk_tier = "I"', 'risk_tier = "I"\ncolour = "red"', "pack.toml: colour: unknown key"),
    "unknown key in a graph": ("max_batch_size = 16", "max_batch_size = 16\nbatch = 1", "graphs.decoder_step.batch"),
    "unknown key in a code": ('scheme = "SCT"', 'scheme = "SCT", version = "1"', "labels.0.code"),
    "missing key": ('licence = "Apache-2.0"\n', "", "pack.toml: licence"),
    "schema of the future": ("schema = 1", "schema = 3", "pack.toml: schema"),
    "a key that nobody knows": ("schema = 1", "schema = 1\nlicense = 1", "pack.toml: license: unknown key"),
    "a key of schema 1 in schema 2": ("schema = 1", "schema = 2", "labels.0.scoring"),
    "a name that would break model names": ('name = "tiny"', 'name = "ti--ny"', "pack.toml: name"),
    "a path as a name": ('name = "tiny"', 'name = "../tiny"', "pack.toml: name"),
    "threshold above one": ("threshold = 0.5", "threshold = 1.5", ", got 1.5"),
    "threshold not a number": ("threshold = 0.5", "threshold = nan", "labels.0.threshold"),
    "threshold as text": ("threshold = 0.5", 'threshold = "0.5"', "labels.0.threshold"),
    "no temperature": ("temperature = 1.5", "temperature = 0.0", "labels.0.temperature"),
    "batch size zero": ("max_batch_size = 16", "max_batch_size = 0", "graphs.decoder_step.max_batch_size"),
    "preferred above the most": ("[8, 16]", "[8, 128]", "preferred_batch_sizes above max_batch_size"),
    "ages the wrong way": ("[1, 5]", "[5, 1]", "age_years"),
    "unknown label": ('labels = ["Pneumonia"]', 'labels = ["Fracture"]', "unknown label 'Fracture'"),
    "a label twice": ('name = "Malignant breast lesion"', 'name = "Pneumonia"', "'Pneumonia' is stated 2 times"),
    "a nested argument": ('transform = "VoiWindow"', 'transform = "VoiWindow"\na = {b = 1}', "argument 'a'"),
    "a transform without a name": ('transform = "VoiWindow"', "width = 1", "inputs.0.preprocess.0"),
    "a graph that is not there": ('"image_encoder.onnx"\nmax', '"vision.onnx"\nmax', "does not list 'vision.onnx'"),
    "graphs mixed up": ('file = "image_encoder.onnx"', 'file = "text_encoder.onnx"', "inputs and outputs are"),
    "more tokens than the cache holds": ("max_tokens = 20", "max_tokens = 25", "for the 25 tokens of decoder"),
    "not TOML": ("schema = 1", "schema == 1", "is not TOML"),
    "a number of too many digits": ("schema = 1", f"schema = {'1' * 5000}", "is not TOML"),
    "lists without end": ("[8, 16]", "[" * 5000, "is not TOML"),
    "a version longer than a folder's name": ('version = "1.0.0"', f'version = "1.0.0-{"x" * 300}"', "version"),
}


@pytest.mark.parametrize("case", EDITS)
def test_a_pack_toml_that_breaks_its_schema_is_refused_naming_the_key(folder: Path, case: str) -> None:
    old, new, cause = EDITS[case]
    edit(folder, old, new)
    error = refusal(folder)
    assert error.code is ErrorCode.PACK_INVALID
    assert cause in error.client_message


def test_a_label_without_prompts_is_refused(folder: Path) -> None:
    edit(folder, '[labels."Malignant breast lesion"]', '[labels."Other"]', "prompts.toml")
    assert "'Malignant breast lesion' has no prompts" in refusal(folder).client_message


def test_prompts_without_a_negative_side_are_refused(folder: Path) -> None:
    edit(folder, 'negative = ["benign lesion of the breast"]', "negative = []", "prompts.toml")
    assert "prompts.toml: labels.Malignant breast lesion.negative" in refusal(folder).client_message


def _add_unlisted(folder: Path) -> None:
    (folder / "notes.txt").write_text("x")


def _remove_listed(folder: Path) -> None:
    (folder / "MODEL_CARD.md").unlink()


def _link_out(folder: Path) -> None:
    (folder / "tokenizer.json").rename(folder.parent / "tokenizer.json")
    (folder / "tokenizer.json").symlink_to(folder.parent / "tokenizer.json")


def _list_a_path_outside(folder: Path) -> None:
    (folder.parent / "secret.txt").write_text("x")
    text = (folder / "pack.toml").read_text()
    (folder / "pack.toml").write_text(text + f'"../secret.txt" = "{hashlib.sha256(b"x").hexdigest()}"\n')


def _add_pickle(folder: Path) -> None:
    (folder / "weights.pkl").write_bytes(b"x")
    seal(folder)


def _no_card(folder: Path) -> None:
    (folder / "MODEL_CARD.md").unlink()
    seal(folder)


def _remove_pack_toml(folder: Path) -> None:
    (folder / "pack.toml").unlink()


def _external_weights(folder: Path) -> None:
    path = folder / "text_encoder.onnx"
    model = onnx.load(path)
    onnx.save(model, path, save_as_external_data=True, location="weights.data", size_threshold=0)
    seal(folder)


def _external_in(folder: Path, node: onnx.NodeProto, *functions: onnx.FunctionProto) -> None:
    """The text encoder with a node that nobody reads."""
    path = folder / "text_encoder.onnx"
    model = onnx.load(path)
    model.graph.node.append(node)
    model.functions.extend(functions)
    path.write_bytes(model.SerializeToString())
    seal(folder)


def _elsewhere() -> onnx.TensorProto:
    tensor = onnx.TensorProto(name="elsewhere", data_type=onnx.TensorProto.FLOAT, dims=[4])
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weights.data")
    return tensor


def _external_sparse_constant(folder: Path) -> None:
    indices = onnx.numpy_helper.from_array(np.arange(4), "indices")
    value = onnx.SparseTensorProto(dims=[4], values=_elsewhere(), indices=indices)
    _external_in(folder, onnx.helper.make_node("Constant", [], ["unread"], sparse_value=value))


def _external_in_a_function(folder: Path) -> None:
    constant = onnx.helper.make_node("Constant", [], ["y"], value=_elsewhere())
    function = onnx.helper.make_function("site", "Stored", [], ["y"], [constant], [onnx.helper.make_opsetid("", 17)])
    _external_in(folder, onnx.helper.make_node("Stored", [], ["unread"], domain="site"), function)


def _endless_table(folder: Path) -> None:
    with (folder / "pack.toml").open("ab") as file:
        file.write(b"#" * (MAX_TABLE_BYTES + 1))


def _not_onnx(folder: Path) -> None:
    (folder / "text_encoder.onnx").write_bytes(b"\xff" * 50)
    seal(folder)


def _half_precision(folder: Path) -> None:
    model = onnx.load(folder / "text_encoder.onnx")
    model.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    (folder / "text_encoder.onnx").write_bytes(model.SerializeToString())
    seal(folder)


def _other_embedding(folder: Path) -> None:
    model = onnx.load(folder / "text_encoder.onnx")
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 9
    (folder / "text_encoder.onnx").write_bytes(model.SerializeToString())
    seal(folder)


@pytest.mark.parametrize(
    ("spoil", "cause"),
    [
        (_add_unlisted, "'notes.txt' is not listed"),
        (_remove_listed, "'MODEL_CARD.md' is listed in pack.toml and missing"),
        (_link_out, "'tokenizer.json' is a symbolic link"),
        (_list_a_path_outside, "'../secret.txt', which is not a plain path inside"),
        (_add_pickle, "'weights.pkl': a pack carries ONNX and safetensors"),
        (_no_card, "does not list 'MODEL_CARD.md'"),
        (_remove_pack_toml, "pack.toml cannot be read"),
        (_external_weights, "keeps the weights 'words' outside the file"),
        (_external_sparse_constant, "keeps the weights 'elsewhere' outside the file"),
        (_external_in_a_function, "keeps the weights 'elsewhere' outside the file"),
        (_endless_table, "pack.toml has more than"),
        (_not_onnx, "'text_encoder.onnx' is not an ONNX model"),
        (_half_precision, "TensorSpec embedding dtype"),
        (_other_embedding, "embedding of image and text encoder differ"),
    ],
)
def test_files_that_do_not_belong_are_refused(folder: Path, spoil: Callable[[Path], None], cause: str) -> None:
    spoil(folder)
    error = refusal(folder)
    assert error.code is ErrorCode.PACK_INVALID
    assert cause in error.client_message
    assert str(folder) not in error.client_message


def test_inputs_may_have_an_image_encoder_each(tmp_path: Path) -> None:
    pack = load_pack(make_tiny_pack(tmp_path / "tiny", own_encoder=True))
    assert pack.graphs_of(pack.input("chest radiograph")) == ("image_encoder",)
    assert pack.graphs_of(pack.input("breast ultrasound")) == (OWN_ENCODER,)


@pytest.mark.parametrize(
    ("old", "new", "cause"),
    [
        (f'image_encoder = "{OWN_ENCODER}"', 'image_encoder = "vision"', "graphs.vision is missing"),
        (f'image_encoder = "{OWN_ENCODER}"', 'image_encoder = "text_encoder"', "inputs and outputs are"),
        (f'file = "{OWN_ENCODER}.onnx"', 'file = "decoder_step.onnx"', f"graphs.{OWN_ENCODER}: inputs and outputs are"),
    ],
)
def test_an_image_encoder_that_is_none_is_refused(tmp_path: Path, old: str, new: str, cause: str) -> None:
    folder = make_tiny_pack(tmp_path / "tiny", own_encoder=True)
    edit(folder, old, new)
    assert cause in refusal(folder).client_message


def test_an_own_image_encoder_into_another_space_of_texts_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_tiny_pack(tmp_path / "tiny", own_encoder=True)
    monkeypatch.setattr(packs, "EMBEDDING", packs.EMBEDDING + 1)
    (folder / f"{OWN_ENCODER}.onnx").write_bytes(packs.image_encoder(np.random.default_rng(0)).SerializeToString())
    seal(folder)
    assert "embedding of image_encoder_breast and text encoder differ" in refusal(folder).client_message
