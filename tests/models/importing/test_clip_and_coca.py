"""open_clip's own CLIP, and a CoCa in half precision: PyTorch's embeddings, and the tokens that open_clip writes."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from radserve.models.importing.run import import_model
from radserve.models.onnx_runner import OnnxRunner
from radserve.models.pack import ModelPack
from radserve.tensors import InferenceRequest
from tests.support import checkpoints
from tests.support.captions import WORDS, greedy, recomputed
from tests.support.checkpoints import labels_file, prompted

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
CLIP = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 16},
    "text_cfg": checkpoints.SMALL_TEXT,
}


def embeddings(pack: ModelPack, graph: str, array: np.ndarray) -> np.ndarray:
    async def run() -> np.ndarray:
        runner = OnnxRunner([pack])
        inputs = {pack.graphs[graph].inputs[0].name: array}
        answer = await runner.infer(InferenceRequest(pack.model(graph), inputs))
        await runner.close()
        return answer.outputs["embedding"]

    return asyncio.run(run())


def near_pytorch(pack: ModelPack, model: Any, images: np.ndarray, off: float, cosine: float) -> None:
    tokens = np.random.default_rng(3).integers(1, 49405, (5, 20))
    tokens[:, 11] = 49407  # the end of the text, whose place CLIP reads
    with torch.inference_mode():
        expected = {
            "image_encoder": functional.normalize(model.encode_image(torch.from_numpy(images)), dim=-1).numpy(),
            "text_encoder": functional.normalize(model.encode_text(torch.from_numpy(tokens)), dim=-1).numpy(),
        }
    for graph, array in (("image_encoder", images), ("text_encoder", tokens)):
        found = embeddings(pack, graph, array)
        assert np.abs(found - expected[graph]).max() <= off
        assert (found * expected[graph]).sum(axis=1).min() >= cosine


def images(count: int) -> np.ndarray:
    return np.random.default_rng(count).standard_normal((count, 3, 32, 32)).astype(np.float32)


def test_a_clip_has_the_embeddings_of_pytorch_and_nothing_is_said_of_random_weights(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = checkpoints.open_clip_folder(tmp_path / "clip", CLIP)
    labels = labels_file(tmp_path, prompted("Pneumonia"))
    caplog.clear()
    pack = import_model(f"local-dir:{tmp_path / 'clip'}", labels, tmp_path / "pack")
    # open_clip warns of random weights before those of the checkpoint are loaded.
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []
    near_pytorch(pack, model, images(5), off=1e-4, cosine=0.999999)


def test_a_coca_in_half_precision_embeds_nearly_alike_and_writes_the_same_tokens(tmp_path: Path) -> None:
    model = checkpoints.open_clip_folder(tmp_path / "coca", checkpoints.COCA)
    head = f'decoder = {{ max_tokens = {WORDS}, sections = ["Findings"] }}'
    asserted = '\nassertions = { positive = ["pneumonia"], negative = ["no pneumonia"] }'
    labels = labels_file(tmp_path, prompted("Pneumonia") + asserted, head=head)
    pack = import_model(f"local-dir:{tmp_path / 'coca'}", labels, tmp_path / "pack", precision="fp16")
    assert {graph.precision for graph in pack.graphs.values()} == {"fp16"}
    assert json.loads((pack.folder / "parity.json").read_text())["precision"] == "fp16"
    near_pytorch(pack, model, images(5), off=1e-2, cosine=0.999)
    expected = recomputed(model, torch.from_numpy(images(3)))
    assert len(set(expected.ravel().tolist())) > 3  # a text that says something
    np.testing.assert_array_equal(greedy(pack, images(3)), expected)
