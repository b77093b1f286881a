"""The one command, on a few seeded images and a few steps: from nothing to a checkpoint, and on where it stopped."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from radserve.models.train import __main__ as command
from radserve.models.train.checkpoint import TrainingRecord
from radserve.models.train.data import TASKS
from radserve.models.train.scoring import load_model


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
    arguments += ["--members", "2", "--own-sets", "2", "--own-steps", "1"]
    arguments += ["--own-folds", "2", "--agreement-steps", "1", "--last", "4x1"]

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(command, "align_decoder", stop)
        command.main(arguments)
    assert list(json.loads((out / "steps.json").read_text())) == ["networks", "own towers", "folds"]
    kept = {each: each.stat().st_mtime_ns for each in out.glob("*/**/*.safetensors")}
    towers = {
        f"breast_ultrasound/{each}.safetensors" for each in ("imagenet-seed7", "imagenet-seed8", "residual-seed9")
    }
    for fold in (out / "folds" / "fold0", out / "folds" / "fold1"):
        assert _names(fold.rglob("*.safetensors"), fold) == towers
    assert {f"seed{seed}/model.safetensors" for seed in (7, 8)} < _names((out / "members").rglob("*.safetensors"), out)

    command.main(arguments)
    assert {each: each.stat().st_mtime_ns for each in kept} == kept
    towers = [f"imagenet-seed{seed}" for seed in (7, 8, 10, 11)] + [f"residual-seed{seed}" for seed in (9, 12)]
    expected = {f"breast_ultrasound/{each}.safetensors" for each in towers}
    expected |= {f"seed{seed}/model.safetensors" for seed in (7, 8, 9)}
    assert _names((out / "members").rglob("*.safetensors"), out) == expected
    one, other = (load_file(out / "members" / f"seed{seed}" / "model.safetensors") for seed in (7, 8))
    assert any(not np.array_equal(one[name], other[name]) for name in one)
    record = TrainingRecord.load(out)
    scored = {name: each.out_of_fold for name, each in record.labels.items()}
    assert scored == {"Pneumonia": 0, "Malignant breast lesion": 24}
    assert record.labels.keys() == json.loads((out / "evaluation.json").read_text()).keys()
    seeds = json.loads((out / "seeds.json").read_text())
    assert seeds["Pneumonia"]["2"]["areas"].keys() == {"7+8", "7+9", "8+9"}
    groups = {name: set(each["areas"]) for name, each in seeds["Malignant breast lesion"].items()}
    assert groups == {"imagenet": {"7", "8", "10", "11"}, "residual": {"9", "12"}, "3": {"7+8+9", "10+11+12"}}
    model, joined = load_model(out), load_model(out / "members" / "seed7")
    assert model.config.own_towers == {"breast_ultrasound": ("imagenet", "imagenet", "residual")}
    for name in ("visual.towers.0.projection.weight", "text.towers.0.text_projection"):  # as the network gave them
        assert torch.equal(model.state_dict()[name], joined.state_dict()[name.replace("towers.0.", "")])


def _names(files: Iterable[Path], out: Path) -> set[str]:
    return {each.relative_to(out / "members").as_posix() for each in files}
