"""The commands that the documents show work as they stand there, in a folder with a study, a pack and data."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pydicom.data import get_testdata_file

from tests.dicom_io.dimse.support import free_port
from tests.evaluation.published import published
from tests.support.documents import ROOT, blocks
from tests.support.operation import PROFILE_TOML
from tests.support.other_packs import make_classifier_pack
from tests.support.packs import make_tiny_pack
from tests.support.server import LiveServer, live_server

PAGES = (
    "README.md",
    "docs/guide.md",
    "docs/operations.md",
    "docs/packs.md",
    "docs/prompts.md",
    "docs/reports.md",
    "docs/evaluation.md",
    "docs/adaptation.md",
)
BINARIES = Path(sys.executable).parent


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    source = get_testdata_file("RG1_UNCR.dcm")
    assert source is not None
    (tmp_path / "study").mkdir()
    shutil.copy(source, tmp_path / "study" / "image.dcm")
    shutil.copy(published("asah.csv"), tmp_path / "scores.csv")
    make_classifier_pack(tmp_path / "packs" / "halves-1.0.0")
    (tmp_path / "breast.toml").write_text(blocks("docs/adaptation.md", "toml")[0])
    planted_breast(tmp_path / "breastmnist.npz")
    return tmp_path


def planted_breast(path: Path) -> None:
    """Data of the form of BreastMNIST: those with the label 0, "present", are brighter in the middle."""
    rng, arrays = np.random.default_rng(0), {}
    for split, count in (("train", 80), ("val", 60), ("test", 40)):
        labels = np.arange(count) % 2
        images = rng.integers(0, 120, (count, 28, 28))
        images[labels == 0, 8:20, 8:20] += 60
        arrays |= {f"{split}_images": images.astype(np.uint8), f"{split}_labels": labels[:, None]}
    np.savez(path, **arrays)


def on_a_free_port(script: str) -> str:
    """The script with another port in the place of the default one."""
    return script.replace("8500", str(free_port()))


def run_script(script: str, folder: Path, **variables: str) -> str:
    """Run a script with radserve on its PATH; what it left in the background ends with it."""
    environment = {**os.environ, "PATH": f"{BINARIES}:{os.environ['PATH']}", **variables}
    wrapped = f"set -e\ntrap 'code=$?; jobs -p | xargs -r kill; wait; exit $code' EXIT\n{script}"
    run = subprocess.run(
        ["bash", "-c", wrapped], cwd=folder, env=environment, capture_output=True, text=True, timeout=280, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_work(page: str, folder: Path, server: LiveServer) -> None:
    """On the pages after the first a running server answers: an embedded one is no other, it takes seconds to start."""
    scripts = blocks(page, "sh")
    assert scripts
    for script in scripts:
        run_script(on_a_free_port(script), folder, **{} if page == PAGES[0] else {"RADSERVE_SERVER": server.address})


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_commands_that_operate_models_work(folder: Path) -> None:
    for seed, version in enumerate(("1.0.0", "1.1.0")):
        make_tiny_pack(folder / "packs" / version, "chest", version=version, seed=seed)
    (folder / "profile.toml").write_text(PROFILE_TOML)
    values = [{"finding": "Pneumonia", "value": 0.95, "interval": [0.93, 0.97], "n": 600}]
    (folder / "evaluation.json").write_text(json.dumps({"indicators": [{"key": "auroc", "values": values}]}))
    scripts = blocks("docs/models-operation.md", "sh")
    assert len(scripts) == 3
    site = {"pack_dirs": (folder / "packs",), "record_signing_key": folder / "evaluators.pub"}
    with live_server(folder / "radserve-data", default_pack="chest", **site) as live:
        tried, shadowed, promoted = (run_script(each, folder, RADSERVE_SERVER=live.address) for each in scripts)
    assert "is loaded" in tried
    assert "is available" in tried
    assert "is shadow" in shadowed
    assert "is active" in promoted
    assert "record.json, which passed, is signed" in promoted
    assert "record signed with the key " in promoted
    assert "each follows the one before" in promoted
    versions = {
        out: json.loads(next((folder / out).rglob("result.json")).read_text())["pack"]["version"]
        for out in ("tried", "delivered", "promoted")
    }
    assert versions == {"tried": "1.1.0", "delivered": "1.0.0", "promoted": "1.1.0"}


@pytest.mark.slow
def test_the_api_example_works(folder: Path) -> None:
    (example,) = blocks("docs/api.md", "python")
    script = f"radserve serve --port 8500 --data-dir kept &\npython - <<'END'\n{example}\nEND\n"
    printed = run_script(on_a_free_port(script), folder)
    assert "Findings:" in printed
    assert re.search(r"Pneumonia: 0\.\d{3}", printed)


@pytest.mark.slow
def test_make_demo_ends_with_the_paths_of_what_it_wrote(tmp_path: Path) -> None:
    if not (ROOT / ".venv" / ".installed").exists():
        pytest.skip("make demo needs the environment that make sets up")
    run = subprocess.run(
        ["make", "demo", f"DEMO_OUT={tmp_path}"], cwd=ROOT, capture_output=True, text=True, timeout=280, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    written = [path for path in tmp_path.glob("*/*") if path.is_file()]
    assert {"result.json", "report.txt", "sr.dcm"} <= {path.name for path in written}
    printed = run.stdout.replace("\n", "")
    assert all(str(path) in printed for path in written)
