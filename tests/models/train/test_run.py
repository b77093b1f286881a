"""The one command, on a few seeded images and a few steps: from nothing to a checkpoint, and on where it stopped."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from radserve.models.train import __main__ as command
from radserve.models.train.checkpoint import TrainingRecord
from radserve.models.train.data import TASKS


@pytest.fixture
def data(tmp_path: Path) -> Path:
    generator, folder = np.random.default_rng(0), tmp_path / "data"
    folder.mkdir()
    for task in TASKS:
        arrays = {}
        for split in ("train", "val", "test"):
            labels = np.arange(24) % 2
            images = generator.integers(0, 120, (24, 28, 28)).astype(np.uint8)
            images[labels == task.positive_label, 8:20, 8:20] += 100
            arrays |= {f"{split}_images": images, f"{split}_labels": labels[:, None].astype(np.uint8)}
        np.savez(folder / task.file_name, **arrays)
    return folder


@pytest.mark.slow
def test_one_command_does_every_step_and_goes_on_where_it_was_stopped(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    arguments = ["--data", str(data), "--out", str(out), "--jobs", "1", "--steps", "1", "--networks", "3"]
    arguments += ["--members", "2", "--agreement-steps", "1", "--last", "4x1"]

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(command, "align_decoder", stop)
        command.main(arguments)
    assert list(json.loads((out / "steps.json").read_text())) == ["members"]
    kept = {each: each.stat().st_mtime_ns for each in (out / "members").glob("*/model.safetensors")}
    assert len(kept) == 3  # that of the third seed was trained beside the decoder

    command.main(arguments)
    assert {each: each.stat().st_mtime_ns for each in kept} == kept
    one, other, _ = (load_file(each) for each in sorted(kept))
    assert any(not np.array_equal(one[name], other[name]) for name in one)
    record = TrainingRecord.load(out)
    assert record.labels.keys() == json.loads((out / "evaluation.json").read_text()).keys()
    seeds = json.loads((out / "seeds.json").read_text())
    assert seeds["Pneumonia"]["2"]["areas"].keys() == {"7+8", "7+9", "8+9"}
