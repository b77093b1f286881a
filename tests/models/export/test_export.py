"""The parity gate: a graph that is not the network makes no pack."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import numpy_helper

from radserve.errors import ErrorCode, PackError
from radserve.models.export import __main__ as command
from radserve.models.export.onnx_graphs import write_graphs
from radserve.models.export.pack_facts import VERSION
from radserve.models.export.parity import ParityReport, check_parity, seeded_images
from radserve.models.tokenizer import PackTokenizer
from radserve.models.train.architecture import RadCoCa
from radserve.models.train.data import TASKS
from radserve.models.train.prompt_file import Prompts
from radserve.models.train.wordings import START_TOKENS

_PASSING = ParityReport(18, "seeded", 4, 1e-6, 1e-4, 1e-6, 1e-7, 1e-5, reports_compared=4, reports_identical=4)
_GRAPHS = ("image_encoder", "image_encoder_breast_ultrasound", "text_encoder", "decoder_step")


def _images(count: int) -> dict[str, npt.NDArray[np.uint8]]:
    return {task.wording.input_name: seeded_images(count, seed) for seed, task in enumerate(TASKS)}


def _perturb(path: Path) -> None:
    """Shift the largest weight matrix of a graph a little."""
    graph = onnx.load(path)
    weight = max(graph.graph.initializer, key=lambda each: len(each.raw_data))
    values = numpy_helper.to_array(weight)
    noise = np.random.default_rng(0).normal(0, 0.5 * values.std(), values.shape).astype(values.dtype)
    weight.CopyFrom(numpy_helper.from_array(values + noise, weight.name))
    onnx.save(graph, path)


def test_the_shipped_graphs_pass_on_seeded_images(
    model: RadCoCa, tokenizer: PackTokenizer, prompts: Prompts, pack_folder: Path
) -> None:
    report = check_parity(model, tokenizer, prompts, pack_folder, _images(3), "seeded", 48)
    assert (
        report.passed and report.image_count == 6 and report.reports_identical == report.image_count * len(START_TOKENS)
    )


@pytest.mark.parametrize("graph", _GRAPHS)
def test_a_perturbed_weight_fails_the_gate(
    graph: str, tmp_path: Path, model: RadCoCa, tokenizer: PackTokenizer, prompts: Prompts, pack_folder: Path
) -> None:
    for name in _GRAPHS:
        shutil.copyfile(pack_folder / f"{name}.onnx", tmp_path / f"{name}.onnx")
    _perturb(tmp_path / f"{graph}.onnx")
    with pytest.raises(PackError, match="ONNX and PyTorch differ") as caught:
        check_parity(model, tokenizer, prompts, tmp_path, _images(3), "seeded", 48)
    assert caught.value.code is ErrorCode.PACK_INVALID


@pytest.mark.parametrize(
    "fault",
    [
        {"image_embedding": 1.1e-4},
        {"text_embedding": 1.1e-4},
        {"patch_sum": 1.1e-4},
        {"decoder_logits": 1.1e-3},
        {"image_embedding": float("nan")},
        {"reports_identical": 3},
    ],
    ids=str,
)
def test_one_figure_out_of_bounds_fails_the_gate(fault: dict[str, float]) -> None:
    assert _PASSING.passed
    assert not replace(_PASSING, **fault).passed


@pytest.fixture
def few_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "_PARITY_IMAGES", 3)


def _without_graphs(_model: RadCoCa, folder: Path, source: Path, spoil: Callable[[Path], None]) -> None:
    for name in _GRAPHS:
        shutil.copyfile(source / f"{name}.onnx", folder / f"{name}.onnx")
    spoil(folder / "decoder_step.onnx")


@pytest.mark.usefixtures("few_images")
def test_a_failed_export_leaves_the_old_pack_and_no_scratch(
    tmp_path: Path, pack_folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "pack"
    out.mkdir()
    (out / "pack.toml").write_text("old")
    monkeypatch.setattr(
        command, "write_graphs", lambda model, folder: _without_graphs(model, folder, pack_folder, _perturb)
    )
    with caplog.at_level(logging.ERROR):
        code = command.main(["--checkpoint", str(pack_folder), "--out", str(out)])
    assert code == 1
    assert "ONNX and PyTorch differ" in caplog.text
    assert [path.name for path in tmp_path.iterdir()] == ["pack"]
    assert [path.read_text() for path in out.iterdir()] == ["old"]


@pytest.mark.usefixtures("few_images")
def test_a_passing_export_replaces_the_old_pack_as_a_whole(
    tmp_path: Path, pack_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "pack"
    out.mkdir()
    (out / "stale.onnx").write_text("old")
    monkeypatch.setattr(
        command, "write_graphs", lambda model, folder: _without_graphs(model, folder, pack_folder, lambda _: None)
    )
    assert command.main(["--checkpoint", str(pack_folder), "--out", str(out)]) == 0
    assert {path.name for path in out.iterdir()} == {path.name for path in pack_folder.iterdir()}
    assert (out / "MODEL_CARD.md").read_text().startswith(f"# cxr-bus-mini {VERSION}")


@pytest.mark.slow
def test_a_fresh_export_of_the_weights_passes_the_gate(
    tmp_path: Path, model: RadCoCa, tokenizer: PackTokenizer, prompts: Prompts
) -> None:
    write_graphs(model, tmp_path)
    assert check_parity(model, tokenizer, prompts, tmp_path, _images(2), "seeded", 48).passed
