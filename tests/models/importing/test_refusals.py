"""What cannot be imported is refused by name, and nothing is left behind."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch

from radserve.errors import ErrorCode, PackError
from radserve.models.importing.run import detect, import_model
from radserve.models.importing.toml_text import to_toml
from radserve.models.importing.weights import load_weights
from tests.support import checkpoints
from tests.support.checkpoints import labels_file, prompted
from tests.support.other_packs import make_classifier_pack

UNET = {"_target_": "UNet", "spatial_dims": 2, "in_channels": 1, "out_channels": 1, "channels": [4, 8], "strides": [2]}


class Harmful:
    """What a pickle may do when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.path),))


def refusal(source: object, folder: Path, *names: str, **options: Any) -> str:
    labels = labels_file(folder / "labels", *(names or ("Pneumonia",)))
    before = sorted(folder.iterdir())
    with pytest.raises(PackError) as caught:
        import_model(str(source), labels, folder / "pack", **options)
    assert caught.value.code is ErrorCode.PACK_INVALID
    assert sorted(folder.iterdir()) == before  # no pack, no half of one
    return caught.value.client_message


def test_pickled_code_is_refused_by_name_and_not_run(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    torch.save({"weight": torch.zeros(2), "more": Harmful(mark)}, tmp_path / "bad.pt")
    (tmp_path / "bare.pt").write_bytes(pickle.dumps(Harmful(mark), protocol=2))
    for name in ("bad.pt", "bare.pt"):
        message = refusal(tmp_path / name, tmp_path, kind="torchxrayvision")
        assert f"'{name}' holds more than weights" in message and "posix.mkdir" in message
    assert not mark.exists()


def test_a_whole_module_of_another_class_is_refused(tmp_path: Path) -> None:
    torch.save(torch.nn.LSTM(2, 2), tmp_path / "other.pt")
    message = refusal(tmp_path / "other.pt", tmp_path, kind="torchxrayvision")
    assert "torch.nn.modules.rnn.LSTM" in message


def test_files_that_are_no_weights_are_refused(tmp_path: Path) -> None:
    for name in ("text.pt", "text.safetensors"):
        (tmp_path / name).write_text("hello")
        with pytest.raises(PackError, match=f"'{name}' is not|'{name}' holds more"):
            load_weights(tmp_path / name)
    assert "there is no file 'absent.pt'" in refusal(tmp_path / "absent.pt", tmp_path, kind="torchxrayvision")
    torch.save({"weight": torch.zeros(2)}, tmp_path / "odd.pt")
    assert "neither a DenseNet nor a ResNet" in refusal(tmp_path / "odd.pt", tmp_path, kind="torchxrayvision")


def test_a_bundle_cannot_name_code_to_run(tmp_path: Path) -> None:
    checkpoints.monai_bundle(tmp_path / "bundle", UNET, [16, 16], script=False)
    path = tmp_path / "bundle" / "configs" / "inference.json"
    config = json.loads(path.read_text())
    for stated, cause in (
        ({**UNET, "_target_": "os.system"}, "'os.system' is not one of monai.networks.nets"),
        ({**UNET, "channels": "$__import__('os').listdir('/')"}, "'channels' is an expression"),
        ({**UNET, "depth": 3}, "UNet does not take the bundle's arguments"),
    ):
        path.write_text(json.dumps({**config, "network_def": stated}))
        assert cause in refusal(tmp_path / "bundle", tmp_path)
    path.write_text(
        json.dumps({**config, "preprocessing": {"transforms": [{"_target_": "Lambdad", "func": "$print"}]}})
    )
    assert "'Lambdad' is not known here" in refusal(tmp_path / "bundle", tmp_path)


class Writing(torch.nn.Module):
    """What TorchScript may do when it is run."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = str(path)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        torch.save(pixels, self.path)
        return pixels.mean(dim=[2, 3])


def test_torchscript_that_writes_files_is_refused_by_name_and_not_run(tmp_path: Path) -> None:
    checkpoints.monai_bundle(tmp_path / "bundle", UNET, [16, 16], script=True)
    script = tmp_path / "bundle" / "models" / "model.ts"
    torch.jit.script(Writing(tmp_path / "mark")).save(str(script))
    assert "TorchScript that reaches out of the process ('save')" in refusal(tmp_path / "bundle", tmp_path)
    assert not (tmp_path / "mark").exists()
    script.write_bytes(b"no archive")
    assert "'model.ts' is not TorchScript" in refusal(tmp_path / "bundle", tmp_path)


def test_a_bundles_preprocessing_is_understood_or_stated_and_never_guessed(tmp_path: Path) -> None:
    checkpoints.monai_bundle(tmp_path / "bundle", UNET, [16, 16], script=True)
    path = tmp_path / "bundle" / "configs" / "inference.json"
    path.write_text("{")
    assert "a configuration file is not JSON" in refusal(tmp_path / "bundle", tmp_path)
    path.write_text(json.dumps({"preprocessing": {"transforms": [{"_target_": "Resized", "spatial_size": ["@size"]}]}}))
    assert "'spatial_size' of the bundle's transform 'Resized' is an expression" in refusal(
        tmp_path / "bundle", tmp_path
    )
    labels = labels_file(tmp_path / "labels", "Pneumonia")
    steps = 'preprocess = [{transform = "VoiWindow"}, {transform = "Resize", spatial_size = [16, 16]}]'
    labels.write_text(labels.read_text().replace("[[inputs]]\n", f"[[inputs]]\n{steps}\n", 1))
    pack = import_model(str(tmp_path / "bundle"), labels, tmp_path / "pack")
    assert [step.transform for step in pack.inputs[0].preprocess] == ["VoiWindow", "Resize"]


def test_an_onnx_file_that_does_not_run_is_refused_with_the_cause(tmp_path: Path) -> None:
    model = onnx.load(make_classifier_pack(tmp_path / "halves") / "classifier.onnx")
    model.graph.node[0].op_type = "Unheard"
    (tmp_path / "odd.onnx").write_bytes(model.SerializeToString())
    message = refusal(tmp_path / "odd.onnx", tmp_path, "Left", "Right")
    assert "graph 'classifier' does not run" in message and "Unheard" in message


def test_a_file_in_the_place_of_the_pack_is_refused(tmp_path: Path) -> None:
    source = make_classifier_pack(tmp_path / "halves") / "classifier.onnx"
    (tmp_path / "pack").write_text("a file")
    assert "'pack' is there already and no folder" in refusal(source, tmp_path, "Left", "Right")


def test_sizes_that_a_bundle_does_not_state_are_asked_for(tmp_path: Path) -> None:
    checkpoints.monai_bundle(tmp_path / "bundle", UNET, [16, 16], script=True)
    path = tmp_path / "bundle" / "configs" / "metadata.json"
    path.write_text(path.read_text().replace("[16, 16]", '["16*n", "16*n"]'))
    assert "give --option size=" in refusal(tmp_path / "bundle", tmp_path)


def test_labels_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    checkpoints.xrv_densenet(tmp_path / "densenet.pt")
    options = {"weights": "densenet121-res224-all"}
    message = refusal(tmp_path / "densenet.pt", tmp_path, "Gout", kind="torchxrayvision", options=options)
    assert "'Gout' is not one of the model's own" in message
    source = make_classifier_pack(tmp_path / "halves") / "classifier.onnx"
    assert "label 'Left' would be answer 5 of the model, which has 2 answers" in refusal(
        source, tmp_path, "Left\nindex = 5"
    )
    assert "labels.0.indexx" in refusal(source, tmp_path, "Left\nindexx = 5")
    assert "precision" in refusal(source, tmp_path, precision="fp16")
    assert "precision 'fp8' is not one of" in refusal(source, tmp_path, precision="fp8")


def without(folder: Path, name: str, *, tensor: str = "", keep: int | None = None) -> None:
    """Take a tensor out of a safetensors file, or cut the file short."""
    from safetensors.torch import load_file, save_file

    if keep is not None:
        (folder / name).write_bytes((folder / name).read_bytes()[:keep])
        return
    tensors = load_file(folder / name)
    del tensors[next(key for key in tensors if tensor in key)]
    save_file(tensors, folder / name)


def test_an_open_clip_folder_that_is_not_whole_is_refused_with_the_field_or_tensor(tmp_path: Path) -> None:
    weights, config = "open_clip_model.safetensors", "open_clip_config.json"
    checkpoints.open_clip_folder(tmp_path / "clip", checkpoints.SIGLIP)
    stated, whole = json.loads((tmp_path / "clip" / config).read_text()), (tmp_path / "clip" / weights).read_bytes()
    for place in ("vision_cfg", ""):
        changed = json.loads(json.dumps(stated))
        (changed["model_cfg"][place] if place else changed["model_cfg"])["new_knob"] = 3
        (tmp_path / "clip" / config).write_text(json.dumps(changed))
        message = refusal(tmp_path / "clip", tmp_path, prompted("Pneumonia"))
        assert "open_clip cannot make a model of 'clip'" in message and "'new_knob'" in message
    for text, cause in (("{", "JSONDecodeError"), ("[]", "AttributeError"), ('{"model_cfg": {}}', "cannot make")):
        (tmp_path / "clip" / config).write_text(text)
        assert cause in refusal(tmp_path / "clip", tmp_path, prompted("Pneumonia"))
    (tmp_path / "clip" / config).write_text(json.dumps(stated))
    without(tmp_path / "clip", weights, tensor="visual.")
    assert "visual." in refusal(tmp_path / "clip", tmp_path, prompted("Pneumonia"))
    for keep in (len(whole) - 100, 6):
        (tmp_path / "clip" / weights).write_bytes(whole)
        without(tmp_path / "clip", weights, keep=keep)
        assert "is not a whole safetensors file" in refusal(tmp_path / "clip", tmp_path, prompted("Pneumonia"))


def test_an_encoder_that_lacks_a_tensor_or_a_size_is_refused_and_nothing_is_drawn_at_random(tmp_path: Path) -> None:
    checkpoints.dino(tmp_path / "dino", 3)
    weights, whole = "model.safetensors", (tmp_path / "dino" / "model.safetensors").read_bytes()
    without(tmp_path / "dino", weights, tensor="layer.1")
    message = refusal(tmp_path / "dino", tmp_path, "A")
    assert "lack 1 tensors, the first" in message and "layer.1" in message
    (tmp_path / "dino" / weights).write_bytes(whole[:-50])
    assert "transformers cannot make a model of 'dino': SafetensorError" in refusal(tmp_path / "dino", tmp_path, "A")
    (tmp_path / "dino" / weights).write_bytes(whole)
    (tmp_path / "dino" / "preprocessor_config.json").write_text('{"size": {"max_edge": 5}}')
    assert "neither height and width nor shortest_edge" in refusal(tmp_path / "dino", tmp_path, "A")
    (tmp_path / "dino" / "preprocessor_config.json").write_text('{"size": {"shortest_edge": 28}}')
    message = refusal(tmp_path / "dino", tmp_path, "A", "B", "C", "D")
    assert "label 'D' would be answer 3 of the model, which has 3 answers" in message


def test_another_kind_than_the_sources_and_an_unknown_option_are_refused_by_name(tmp_path: Path) -> None:
    checkpoints.monai_bundle(tmp_path / "bundle", UNET, [16, 16], script=False)
    for kind, cause in (
        ("torchxrayvision", "'bundle' is a folder, and this kind reads a file"),
        ("onnx", "'bundle' is a folder, and this kind reads a file"),
        ("hf-vision", "'bundle' holds no .safetensors"),
        ("open_clip", "'bundle' has no open_clip_config.json"),
    ):
        assert cause in refusal(tmp_path / "bundle", tmp_path, kind=kind)
    message = refusal(tmp_path / "bundle", tmp_path, options={"sise": "16,16"})
    assert message == "option 'sise' is not known: the kind monai-bundle takes size"
    assert "does not take an input of (1, 16, 16, 16)" in refusal(
        tmp_path / "bundle", tmp_path, options={"size": "16,16,16"}
    )
    assert "label 'B' would be answer 1" in refusal(tmp_path / "bundle", tmp_path, "A", "B")
    assert "there is no file or folder 'absent'" in refusal(tmp_path / "absent", tmp_path)


def test_an_old_pack_is_never_overwritten(tmp_path: Path) -> None:
    source = make_classifier_pack(tmp_path / "halves") / "classifier.onnx"
    labels = labels_file(tmp_path, "Left", "Right")
    import_model(str(source), labels, tmp_path / "pack")
    assert "is there already and not empty" in refusal(source, tmp_path, "Left")
    assert "is there already and not empty" in refusal("nothere.onnx", tmp_path, "Left")  # before anything is read


def save(path: Path) -> Path:
    torch.save({"weight": torch.zeros(2)}, path)
    return path


def test_the_kind_is_found_only_where_it_is_sure(tmp_path: Path) -> None:
    for mark, kind in (
        ("a/open_clip_config.json", "open_clip"),
        ("b/configs/metadata.json", "monai-bundle"),
        ("c/preprocessor_config.json", "hf-vision"),
    ):
        (tmp_path / mark).parent.mkdir(parents=True)
        (tmp_path / mark).write_text("{}")
        assert detect(str(tmp_path / mark.split("/")[0])) == kind
    assert detect("local-dir:anything") == "open_clip"
    assert detect("model.onnx") == "onnx"
    with pytest.raises(PackError, match="name it with --kind"):
        detect(str(save(tmp_path / "weights.pt")))
    with pytest.raises(PackError, match=r"no file or folder 'weights\.pth'"):
        detect("weights.pth")
    with pytest.raises(PackError, match="is a pack already"):
        detect(str(make_classifier_pack(tmp_path / "halves")))
    assert "kind 'caffe' is not one of" in refusal("x", tmp_path, kind="caffe")


def test_tables_come_back_from_toml_as_they_were() -> None:
    import tomllib

    table = {
        "text": 'with "quotes", a \\ and ä',
        "number": 1e-7,
        "flag": True,
        "empty": [],
        "graphs": {"image_encoder": {"file": "a.onnx", "sizes": [1, 2]}},
        "inputs": [
            {"name": "x", "use": {"age_years": [1, 5]}, "steps": [{"transform": "A"}, {"transform": "B", "k": [0.5]}]}
        ],
        "files": {"a.onnx": "00", "odd name.txt": "11"},
    }
    assert tomllib.loads(to_toml(table)) == table
    assert tomllib.loads(to_toml({"odd": "a\x7fb\n\t"})) == {"odd": "a\x7fb\n\t"}
    for odd in (None, "\ud800", {1}):
        with pytest.raises(PackError, match="cannot stand in a pack's tables"):
            to_toml({"odd": odd})
