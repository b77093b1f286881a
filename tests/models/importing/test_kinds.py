"""Every kind of checkpoint, in its true file format: the pack's graphs give what the source's own classes give."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from radserve.models.importing.labels_file import read_labels
from radserve.models.importing.run import import_model
from radserve.models.importing.torchxrayvision_kind import read_torchxrayvision
from radserve.models.onnx_runner import OnnxRunner
from radserve.models.pack import ModelPack
from radserve.models.pack_types import MaskScoring, OutputScoring, PromptScoring
from radserve.models.tokenizer import pack_tokenizer
from radserve.tensors import InferenceRequest
from tests.support import checkpoints
from tests.support.captions import greedy, recomputed
from tests.support.checkpoints import labels_file, prompted
from tests.support.other_packs import make_classifier_pack

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
RNG = np.random.default_rng(11)


def outputs(pack: ModelPack, graph: str, array: np.ndarray) -> dict[str, np.ndarray]:
    async def run() -> dict[str, np.ndarray]:
        runner = OnnxRunner([pack])
        inputs = {pack.graphs[graph].inputs[0].name: array}
        answer = await runner.infer(InferenceRequest(pack.model(graph), inputs))
        await runner.close()
        return dict(answer.outputs)

    return asyncio.run(run())


def pixels(pack: ModelPack, graph: str, batch: int = 3) -> np.ndarray:
    return RNG.standard_normal((batch, *pack.graphs[graph].inputs[0].shape[1:])).astype(np.float32)


def close(given: np.ndarray, expected: torch.Tensor) -> None:
    reference = expected.detach().numpy()
    assert given.shape == reference.shape
    assert np.abs(given - reference).max() <= 1e-4 * max(1.0, np.abs(reference).max())


def texts(pack: ModelPack) -> list[str]:
    assert pack.prompts
    return [text for each in pack.prompts.labels.values() for text in (*each.positive, *each.negative)]


def same_embeddings(pack: ModelPack, model: Any, source: Path) -> None:
    """Images and texts: the model's own tokenizer and towers against the pack's."""
    import open_clip

    images = pixels(pack, "image_encoder")
    with torch.inference_mode():
        close(outputs(pack, "image_encoder", images)["embedding"],
              functional.normalize(model.encode_image(torch.from_numpy(images)), dim=-1))  # fmt: skip
        tokenizer = pack_tokenizer(pack)
        assert tokenizer
        tokens = np.stack([tokenizer.encode_prompt(text) for text in texts(pack)])
        theirs = open_clip.get_tokenizer(f"local-dir:{source}")(texts(pack))
        np.testing.assert_array_equal(tokens, theirs.numpy())
        close(outputs(pack, "text_encoder", tokens)["embedding"],
              functional.normalize(model.encode_text(theirs), dim=-1))  # fmt: skip


def test_a_biomedclip_shaped_folder_becomes_a_pack(tmp_path: Path) -> None:
    model = checkpoints.biomedclip(tmp_path / "biomedclip")
    labels = labels_file(tmp_path, prompted("Pneumonia"))
    pack = import_model(str(tmp_path / "biomedclip"), labels, tmp_path / "pack")
    same_embeddings(pack, model, tmp_path / "biomedclip")
    scoring = pack.label("Pneumonia").scoring
    assert isinstance(scoring, PromptScoring)
    assert scoring.logit_scale == pytest.approx(float(model.logit_scale.exp()))
    steps = [(step.transform, dict(step.arguments)) for step in pack.inputs[0].preprocess]
    assert steps[:3] == [
        ("VoiWindow", {}),
        ("CropToSquare", {}),
        ("ResizeAntialias", {"spatial_size": (160, 160), "mode": "bicubic"}),
    ]
    assert steps[-1][1]["subtrahend"] == (0.48, 0.45, 0.4)
    assert pack.initialised_from.startswith("open_clip: biomedclip (sha256 ")
    card = (pack.folder / "MODEL_CARD.md").read_text()
    assert "- training data: not stated" in card and "- licence: not stated" in card


def test_a_siglip_shaped_model_is_scored_against_one_side_with_its_bias(tmp_path: Path) -> None:
    model = checkpoints.open_clip_folder(tmp_path / "siglip", checkpoints.SIGLIP)
    labels = labels_file(tmp_path, prompted("Pneumonia", negative=False))
    pack = import_model(f"local-dir:{tmp_path / 'siglip'}", labels, tmp_path / "pack")
    same_embeddings(pack, model, tmp_path / "siglip")
    scoring = pack.label("Pneumonia").scoring
    assert isinstance(scoring, PromptScoring)
    assert (scoring.contrast, scoring.logit_bias) == ("single", -3.0)


def test_a_coca_without_a_decoder_in_the_labels_file_scores_and_writes_nothing(tmp_path: Path) -> None:
    model = checkpoints.open_clip_folder(tmp_path / "coca", checkpoints.COCA)
    labels = labels_file(tmp_path, prompted("Pneumonia"))
    pack = import_model(str(tmp_path / "coca"), labels, tmp_path / "pack", kind="open_clip")
    assert pack.decoder is None and set(pack.graphs) == {"image_encoder", "text_encoder"}
    same_embeddings(pack, model, tmp_path / "coca")


def test_a_coca_writes_with_a_cache_what_it_would_write_without(tmp_path: Path) -> None:
    model = checkpoints.open_clip_folder(tmp_path / "coca", checkpoints.COCA)
    head = 'decoder = { max_tokens = 8, sections = ["Findings"] }'
    asserted = '\nassertions = { positive = ["pneumonia"], negative = ["no pneumonia"] }'
    labels = labels_file(tmp_path, prompted("Pneumonia") + asserted, head=head)
    pack = import_model(str(tmp_path / "coca"), labels, tmp_path / "pack", kind="open_clip")
    same_embeddings(pack, model, tmp_path / "coca")

    images = pixels(pack, "image_encoder", 2)
    tokens = torch.tensor([[49406, 320, 1929, 539, 320], [49406, 518, 1929, 4, 7]])
    with torch.inference_mode():
        expected = model(torch.from_numpy(images), tokens, output_labels=False)["logits"]
    image_tokens = outputs(pack, "image_encoder", images)["image_tokens"]
    cache = np.zeros((2, *pack.graphs["decoder_step"].tensor("cache").shape[1:]), np.float32)

    async def steps() -> list[np.ndarray]:
        nonlocal cache
        runner, found = OnnxRunner([pack]), []
        for position in range(tokens.shape[1]):
            here = np.full((2, 1), position, np.int64)
            inputs = {"token": tokens[:, position : position + 1].numpy(), "position": here,
                      "image_tokens": image_tokens, "cache": cache}  # fmt: skip
            answer = (await runner.infer(InferenceRequest(pack.model("decoder_step"), inputs))).outputs
            cache = answer["cache_out"]
            found.append(answer["logits"])
        await runner.close()
        return found

    close(np.stack(asyncio.run(steps()), axis=1), expected)
    written = recomputed(model, torch.from_numpy(images))
    assert len(set(written.ravel().tolist())) > 3  # a text that says something
    np.testing.assert_array_equal(greedy(pack, images), written)


def test_a_torchxrayvision_densenet_keeps_its_labels_and_points_and_gets_exact_maps(tmp_path: Path) -> None:
    model = checkpoints.xrv_densenet(tmp_path / "densenet.pt")
    labels = labels_file(tmp_path, "Pleural Thickening", "Effusion", "Cardiomegaly\nthreshold = 0.25")
    options = {"weights": "densenet121-res224-all", "size": "64"}
    source = str(tmp_path / "densenet.pt")
    pack = import_model(source, labels, tmp_path / "pack", kind="torchxrayvision", options=options)
    images = pixels(pack, "classifier") * 300
    found = outputs(pack, "classifier", images)
    with torch.inference_mode():
        close(found["logits"], model(torch.from_numpy(images)))
    bias = model.classifier.bias.detach().numpy()
    np.testing.assert_allclose(found["maps"].sum(axis=(2, 3)), found["logits"] - bias, atol=1e-3)
    scorings = [label.scoring for label in pack.labels]
    assert [s.index for s in scorings if isinstance(s, OutputScoring)] == [9, 7, 10]  # the library's own order
    assert [label.threshold for label in pack.labels] == pytest.approx([0.026791653, 0.103246614, 0.25])
    assert [step.transform for step in pack.inputs[0].preprocess][-1] == "ScaleIntensityRange"


def test_a_torchxrayvision_state_dict_is_the_same_network_as_the_module(tmp_path: Path) -> None:
    model = checkpoints.xrv_densenet(tmp_path / "module.pt")
    torch.save({"state_dict": model.state_dict()}, tmp_path / "state.pt")
    labels = read_labels(labels_file(tmp_path, "Effusion"))
    images = torch.randn(2, 1, 64, 64)
    for name in ("module.pt", "state.pt"):
        (plan,) = read_torchxrayvision(str(tmp_path / name), labels, {}).plans
        with torch.inference_mode():
            torch.testing.assert_close(plan.module(images)[0], model(images))


def test_a_torchxrayvision_resnet_in_half_precision_stays_near_and_says_so(tmp_path: Path) -> None:
    model = checkpoints.xrv_resnet(tmp_path / "resnet.pt")
    labels = labels_file(tmp_path, "Pneumonia")
    source, options = str(tmp_path / "resnet.pt"), {"size": "64"}
    pack = import_model(source, labels, tmp_path / "pack", kind="torchxrayvision", precision="fp16", options=options)
    assert pack.graphs["classifier"].precision == "fp16"
    record = json.loads((pack.folder / "parity.json").read_text())
    assert all(each["least_cosine"] >= 0.999 for each in record["outputs"])
    images = pixels(pack, "classifier")
    given = outputs(pack, "classifier", images)["logits"]
    with torch.inference_mode():
        reference = model(torch.from_numpy(images)).numpy()
    cosines = (given * reference).sum(1) / np.linalg.norm(given, axis=1) / np.linalg.norm(reference, axis=1)
    assert cosines.min() >= 0.999
    assert np.abs(given - reference).max() > 0  # it is another precision indeed


def test_a_dino_encoder_with_a_linear_head_becomes_a_pack(tmp_path: Path) -> None:
    encoder, head = checkpoints.dino(tmp_path / "rad-dino")
    labels = labels_file(tmp_path, "Normal", "Pneumonia\nactivation = 'softmax'", "Other")
    pack = import_model(str(tmp_path / "rad-dino"), labels, tmp_path / "pack")
    images = pixels(pack, "classifier")
    with torch.inference_mode():
        close(outputs(pack, "classifier", images)["logits"],
              head(encoder(torch.from_numpy(images)).last_hidden_state[:, 0]))  # fmt: skip
    assert pack.inputs[0].preprocess[-1].arguments["divisor"] == (0.25, 0.25, 0.25)


UNET = {"_target_": "UNet", "spatial_dims": 3, "in_channels": 1, "out_channels": 2, "channels": [4, 8],
        "strides": [2], "num_res_units": 1}  # fmt: skip
DENSENET = {"_target_": "DenseNet", "spatial_dims": 2, "in_channels": 1, "out_channels": 3,
            "init_features": 8, "growth_rate": 4, "block_config": [2, 2]}  # fmt: skip
FLAT_UNET = {**UNET, "spatial_dims": 2}


@pytest.mark.parametrize(
    ("network", "shape", "script", "graph"),
    [
        (UNET, [16, 16, 8], False, "segmenter"),
        (UNET, [16, 16, 8], True, "segmenter"),
        (FLAT_UNET, [32, 32], True, "segmenter"),
        (DENSENET, [32, 32], True, "classifier"),
    ],
    ids=["3D segmentation by weights", "3D segmentation", "2D segmentation", "2D classification"],
)
def test_a_monai_bundle_becomes_a_pack(
    tmp_path: Path, network: dict[str, Any], shape: list[int], script: bool, graph: str
) -> None:
    model = checkpoints.monai_bundle(tmp_path / "bundle", network, shape, script=script)
    labels = labels_file(tmp_path, "Background", "Lesion", volume=len(shape) == 3)
    pack = import_model(str(tmp_path / "bundle"), labels, tmp_path / "pack")
    images = pixels(pack, graph)
    (name,) = [spec.name for spec in pack.graphs[graph].outputs]
    with torch.inference_mode():
        close(outputs(pack, graph, images)[name], model(torch.from_numpy(images)))
    assert pack.inputs[0].kind == ("volume" if len(shape) == 3 else "image")
    expected = MaskScoring if graph == "segmenter" else OutputScoring
    assert isinstance(pack.label("Lesion").scoring, expected)
    assert [step.transform for step in pack.inputs[0].preprocess][-2:] == ["ScaleIntensityRange", "Resize"]


def test_an_onnx_file_is_taken_as_it_is(tmp_path: Path) -> None:
    source = make_classifier_pack(tmp_path / "halves") / "classifier.onnx"
    labels = labels_file(tmp_path, "Left\nindex = 1", "Right\nindex = 0")
    pack = import_model(str(source), labels, tmp_path / "pack")
    assert (pack.folder / "classifier.onnx").read_bytes() == source.read_bytes()
    assert [label.scoring.index for label in pack.labels] == [1, 0]  # type: ignore[union-attr]
    assert "unchanged" in (pack.folder / "MODEL_CARD.md").read_text()
