"""The one command, on a few seeded images and a few steps: from nothing to a pack, and on from where it was stopped."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from radserve.models.pack import load_pack
from radserve.models.train import __main__ as command
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
def test_one_command_makes_the_pack_and_goes_on_where_it_was_stopped(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, pack = tmp_path / "out", tmp_path / "packs" / "cxr-bus-mini"
    arguments = ["--data", str(data), "--out", str(out), "--pack", str(pack), "--steps", "2"]
    arguments += ["--networks", "3", "--members", "2", "--agreement-steps", "1", "--last", "4x1"]

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(command, "align_decoder", stop)
        command.main(arguments)
    assert list(json.loads((out / "steps.json").read_text())) == ["members"]  # the third network is trained meanwhile
    kept = {each: each.stat().st_mtime_ns for each in (out / "members").glob("*/model.safetensors")}
    assert len(kept) == 3

    command.main(arguments)
    assert {each: each.stat().st_mtime_ns for each in kept} == kept
    assert [label.name for label in load_pack(pack).labels] == [task.wording.label for task in TASKS]
    one, other = (load_file(each) for each in sorted(kept)[:2])
    assert any(not np.array_equal(one[name], other[name]) for name in one)
    card = (pack / "MODEL_CARD.md").read_text()
    assert "7+8" in card and "not measured yet" not in card
