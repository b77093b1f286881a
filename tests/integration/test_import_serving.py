"""From a checkpoint's file to a gRPC answer: one command makes the pack, Triton serves it, PyTorch agrees."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from typer.testing import CliRunner

from radserve.dicom_io.decode import decode_image
from radserve.models.pack import ModelPack, load_pack
from radserve.pipelines.preprocess.adapter import prepare_now
from radserve.pipelines.preprocess.chain import chain_of
from radserve.server.cli import app
from tests.support import checkpoints
from tests.support.checkpoints import labels_file, prompted
from tests.support.dicoms import cr, ct_series, part10, save
from tests.support.other_packs import make_classifier_pack
from tests.support.server import LiveServer, live_server

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"),
]
PIXELS = np.random.default_rng(5).integers(0, 4096, (200, 180)).astype(np.uint16)
UNET = {"_target_": "UNet", "spatial_dims": 3, "in_channels": 1, "out_channels": 2, "channels": [4, 8],
        "strides": [2], "num_res_units": 1}  # fmt: skip


def imported(folder: Path, source: str, labels: Path, name: str, *options: str) -> Path:
    """What a user types."""
    arguments = ["models", "import", source, "--labels", str(labels), "--out", str(folder / name), *options]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, (done.output, done.exception)
    return folder / name


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """The networks by the name of their pack, and the folder of the packs."""
    folder = tmp_path_factory.mktemp("import")
    packs = folder / "packs"
    clip = checkpoints.biomedclip(folder / "biomedclip")
    head = 'version = "2.0.0"'
    labels = labels_file(folder / "clip", prompted("Pneumonia"), head=head)
    labels.write_text(labels.read_text().replace('"imported"', '"clip"'))
    imported(packs, f"local-dir:{folder / 'biomedclip'}", labels, "clip")
    dense = checkpoints.xrv_densenet(folder / "densenet.pt")
    labels = labels_file(folder / "xrv", "Effusion", "Cardiomegaly")
    labels.write_text(labels.read_text().replace('"imported"', '"xrv"'))
    options = ("--kind", "torchxrayvision", "--option", "weights=densenet121-res224-all", "--option", "size=64")
    imported(packs, str(folder / "densenet.pt"), labels, "xrv", *options)
    unet = checkpoints.monai_bundle(folder / "bundle", UNET, [16, 16, 8], script=True)
    labels = labels_file(folder / "unet", "Background", "Lesion\nthreshold = 0.0", volume=True)
    labels.write_text(labels.read_text().replace('"imported"', '"unet"'))
    imported(packs, str(folder / "bundle"), labels, "unet")
    dino = checkpoints.dino(folder / "rad-dino")
    labels = labels_file(folder / "dino", "Normal", "Pneumonia\nactivation = 'softmax'", "Other")
    labels.write_text(labels.read_text().replace('"imported"', '"dino"'))
    imported(packs, str(folder / "rad-dino"), labels, "dino")
    plain = make_classifier_pack(folder / "halves") / "classifier.onnx"
    labels = labels_file(folder / "plain", "Right\nindex = 1", "Left\nindex = 0")
    labels.write_text(labels.read_text().replace('"imported"', '"plain"'))
    imported(packs, str(plain), labels, "plain")
    return {"clip": clip, "xrv": dense, "unet": unet, "dino": dino, "plain": plain}, packs


@pytest.fixture(scope="module")
def imports(models: tuple[dict[str, Any], Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with live_server(tmp_path_factory.mktemp("data"), pack_dirs=(models[1],), triton_instances=1) as live:
        yield live


def prepared(pack: ModelPack, ds: Any, folder: Path) -> torch.Tensor:
    """The image as the pack's chain makes it, in this process."""
    chain = chain_of((step.transform, step.arguments) for step in pack.inputs[0].preprocess)
    (found,) = prepare_now(chain, decode_image(save(ds, folder / "image.dcm")), [0])
    return torch.from_numpy(np.array(found.tensor))[None]


def test_a_biomedclip_shaped_checkpoint_answers_over_grpc_as_pytorch_does(
    models: tuple[dict[str, Any], Path], imports: LiveServer, tmp_path: Path
) -> None:
    import open_clip

    ds = cr(PIXELS, study="clip")
    imports.send(part10(ds))
    result = imports.classify(ds.StudyInstanceUID, pack="clip")
    (finding,) = result.findings
    model, pack = models[0]["clip"], load_pack(models[1] / "clip")
    tokenize = open_clip.get_tokenizer(f"local-dir:{models[1].parent / 'biomedclip'}")
    assert pack.prompts
    prompts = pack.prompts.labels["Pneumonia"]
    with torch.inference_mode():
        image = torch.nn.functional.normalize(model.encode_image(prepared(pack, ds, tmp_path)), dim=-1)
        sides = []
        for texts in (prompts.positive, prompts.negative):
            each = torch.nn.functional.normalize(model.encode_text(tokenize(list(texts))), dim=-1)
            sides.append(torch.nn.functional.normalize(each.mean(dim=0), dim=-1))
        logits = model.logit_scale.exp() * torch.stack([(image @ side)[0] for side in sides])
        expected = float(torch.softmax(logits, dim=0)[0])
    assert finding.score == pytest.approx(expected, abs=1e-4)
    assert not finding.region.outline and not finding.region.HasField("heat_map")
    assert result.pack.version == "2.0.0" and result.pack.parity.startswith("fp32, opset 18: largest difference")


def test_a_torchxrayvision_shaped_checkpoint_answers_over_grpc_as_pytorch_does(
    models: tuple[dict[str, Any], Path], imports: LiveServer, tmp_path: Path
) -> None:
    ds = cr(PIXELS, study="xrv")
    imports.send(part10(ds))
    result = imports.classify(ds.StudyInstanceUID, pack="xrv")
    model, pack = models[0]["xrv"], load_pack(models[1] / "xrv")
    with torch.inference_mode():
        logits = model(prepared(pack, ds, tmp_path))[0]
    expected = torch.sigmoid(logits)[[model.targets.index("Effusion"), model.targets.index("Cardiomegaly")]]
    assert [finding.score for finding in result.findings] == pytest.approx(expected.tolist(), abs=1e-4)
    assert all(finding.region.heat_map.values for finding in result.findings)


def test_a_dino_encoder_with_a_linear_head_answers_over_grpc_as_pytorch_does(
    models: tuple[dict[str, Any], Path], imports: LiveServer, tmp_path: Path
) -> None:
    ds = cr(PIXELS, study="dino")
    imports.send(part10(ds))
    result = imports.classify(ds.StudyInstanceUID, pack="dino")
    (encoder, head), pack = models[0]["dino"], load_pack(models[1] / "dino")
    with torch.inference_mode():
        logits = head(encoder(prepared(pack, ds, tmp_path)).last_hidden_state[:, 0])[0]
    ones = torch.sigmoid(logits)
    expected = [float(ones[0]), float(torch.softmax(logits, dim=0)[1]), float(ones[2])]
    assert [finding.score for finding in result.findings] == pytest.approx(expected, abs=1e-4)


def test_a_plain_onnx_file_answers_over_grpc_as_the_reference_evaluator_of_onnx_does(
    models: tuple[dict[str, Any], Path], imports: LiveServer, tmp_path: Path
) -> None:
    ds = cr(PIXELS, study="plain")
    imports.send(part10(ds))
    result = imports.classify(ds.StudyInstanceUID, pack="plain")
    pixels = prepared(load_pack(models[1] / "plain"), ds, tmp_path).numpy()
    logits = ReferenceEvaluator(str(models[0]["plain"])).run(["logits"], {"image": pixels})[0][0]
    assert [finding.label for finding in result.findings] == ["Right", "Left"]
    expected = [1 / (1 + np.exp(-logits[index])) for index in (1, 0)]
    assert [finding.score for finding in result.findings] == pytest.approx(expected, abs=1e-4)


def test_a_monai_segmentation_of_a_volume_answers_over_grpc(
    models: tuple[dict[str, Any], Path], imports: LiveServer, tmp_path: Path
) -> None:
    volume = np.random.default_rng(6).integers(-1000, 1000, (8, 24, 20)).astype(np.int16)
    slices = ct_series(volume, study="unet")
    outcomes = imports.send(*map(part10, slices))
    assert len(outcomes) == 8
    result = imports.classify(slices[0].StudyInstanceUID, pack="unet")
    background, lesion = result.findings
    assert [series.analysed for series in result.series] == [True]
    assert (background.label, lesion.label) == ("Background", "Lesion")
    assert lesion.positive and lesion.measurements[0].unit.value == "ml"
    assert 0 < lesion.measurements[0].value <= volume.size * 0.7 * 0.7 * 2.0 / 1000
