"""Checkpoints by their hub name, from an imitation of the hub, by the command that a user types."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from radserve.models.importing.run import import_model
from radserve.models.pack import load_pack
from tests.support import checkpoints
from tests.support.checkpoints import labels_file, prompted
from tests.support.hub import COMMIT, hub

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")


def radserve(endpoint: str, cache: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command with a hub and a cache of its own; huggingface_hub reads both when it is imported."""
    hidden = ("HF_TOKEN", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
    known = {name: value for name, value in os.environ.items() if name.upper() not in hidden}
    environment = {**known, "HF_ENDPOINT": endpoint, "HF_HOME": str(cache), "NO_PROXY": "127.0.0.1"}
    command = [str(Path(sys.executable).with_name("radserve")), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280, check=False)


@pytest.mark.slow
def test_an_open_clip_model_by_its_hub_name_is_the_pack_of_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "hub" / "acme" / "biomedclip"
    checkpoints.biomedclip(folder)
    (folder / "flax_model.msgpack").write_bytes(b"other weights")
    labels = labels_file(tmp_path, prompted("Pneumonia"))
    with hub(tmp_path / "hub") as (endpoint, asked):
        given = ("--labels", str(labels), "--out", str(tmp_path / "pack"))
        run = radserve(endpoint, tmp_path / "cache", "models", "import", "hf-hub:acme/biomedclip", *given)
        assert run.returncode == 0, run.stdout + run.stderr
    assert f"GET acme/biomedclip/resolve/{COMMIT}/open_clip_pytorch_model.bin" in asked
    assert not any("msgpack" in each for each in asked)  # what no reader takes is not fetched
    (folder / "flax_model.msgpack").unlink()
    pack, local = load_pack(tmp_path / "pack"), import_model(f"local-dir:{folder}", labels, tmp_path / "local")
    assert pack.initialised_from.startswith(f"open_clip: hf-hub:acme/biomedclip@{COMMIT}")
    assert {name: each.sha256 for name, each in pack.graphs.items()} == {
        name: each.sha256 for name, each in local.graphs.items()
    }


@pytest.mark.slow
def test_a_vision_encoder_by_its_hub_name_is_prepared_as_the_hub_says(tmp_path: Path) -> None:
    folder = tmp_path / "hub" / "acme" / "rad-dino"
    checkpoints.dino(folder)
    labels = labels_file(tmp_path, "First", "Second", "Third")
    with hub(tmp_path / "hub") as (endpoint, _):
        given = ("--labels", str(labels), "--out", str(tmp_path / "pack"))
        run = radserve(endpoint, tmp_path / "cache", "models", "import", f"hf-hub:acme/rad-dino@{COMMIT}", *given)
        assert run.returncode == 0, run.stdout + run.stderr
    pack, local = load_pack(tmp_path / "pack"), import_model(str(folder), labels, tmp_path / "local")
    assert pack.inputs == local.inputs  # size, mean and deviation of its preprocessor_config.json
    assert pack.initialised_from.startswith(f"hf-vision: hf-hub:acme/rad-dino@{COMMIT}")


@pytest.mark.parametrize("name", ["acme/absent", "acme/there@v9", "no name"])
def test_what_the_hub_has_not_is_refused_by_name(tmp_path: Path, name: str) -> None:
    (tmp_path / "hub" / "acme" / "there").mkdir(parents=True)
    with hub(tmp_path / "hub") as (endpoint, _):
        given = ("--labels", str(labels_file(tmp_path, "First")), "--out", str(tmp_path / "pack"))
        run = radserve(endpoint, tmp_path / "cache", "models", "import", f"hf-hub:{name}", *given)
    assert run.returncode == 1
    assert "PACK_SOURCE" in run.stderr and repr(f"hf-hub:{name}") in run.stderr.replace("\n", " ")
    assert not (tmp_path / "pack").exists()
