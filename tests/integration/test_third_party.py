"""A package of someone else, built and installed by pip: its parts are found by entry points and do their work."""

from __future__ import annotations

import importlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from radserve.dicom_io.dimse.commitment import CommitmentInbox
from radserve.evaluation.cli import evaluate_app
from radserve.models.importing.run import import_model
from radserve.results import Artifact
from radserve.server.cli import app
from radserve.server.destinations import site_senders
from radserve.server.doctor import plugin_checks
from radserve.server.senders import Destinations
from radserve.server.settings import Settings
from tests.support.checkpoints import labels_file
from tests.support.dicoms import cr, part10
from tests.support.other_packs import make_classifier_pack
from tests.support.packs import make_tiny_pack, seal
from tests.support.server import live_server

ACME = Path(__file__).parents[1] / "third_party" / "acme"
CHAIN = """
[[inputs.preprocess]]
transform = "plugin:median@1.2.0"
radius = 1

[[inputs.preprocess]]
transform = "plugin:clip"
upper = 0.9
"""
SITE = {"preprocessors": ("median", "clip"), "report_templates": ("acme-de",)}
PIXELS = np.random.default_rng(8).integers(0, 4096, (64, 48)).astype(np.uint16)


@pytest.fixture(scope="module")
def acme(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The package as pip installs it, on the path of this process and of the workers that it starts."""
    folder = tmp_path_factory.mktemp("acme")
    source = shutil.copytree(ACME, folder / "source")  # a build leaves its folders beside what it builds
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--target", str(folder / "site"), str(source)], check=True)
    sys.path.insert(0, str(folder / "site"))
    importlib.invalidate_caches()
    yield folder / "site"
    sys.path.remove(str(folder / "site"))
    for name in [each for each in sys.modules if each.partition(".")[0] == "acme_radserve"]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def packs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pack that names the package's transforms after its own."""
    pack = make_tiny_pack(tmp_path_factory.mktemp("packs") / "tiny")
    head, own, tail = (pack / "pack.toml").read_text().partition('mode = "area"\n')
    assert own
    (pack / "pack.toml").write_text(head + own + CHAIN + tail)
    return seal(pack).parent


@pytest.mark.slow
def test_a_study_is_prepared_and_worded_by_the_package_and_the_result_says_so(
    acme: Path, packs: Path, tmp_path: Path
) -> None:
    (tmp_path / "image.dcm").write_bytes(part10(cr(PIXELS, PatientAge="003Y", BodyPartExamined="CHEST")))
    with live_server(tmp_path / "data", pack_dirs=(packs,), default_pack="tiny", **SITE) as server:
        given = ["--out", str(tmp_path / "out"), "--server", server.address, "--language", "de", "--also", "pdf"]
        run = CliRunner().invoke(app, ["infer", str(tmp_path / "image.dcm"), *given])
        assert run.exit_code == 0, run.output
        (record,) = (tmp_path / "out").glob("*/result.json")
        result = json.loads(record.read_text())
        again = CliRunner().invoke(
            app, ["reproduce", str(record), str(tmp_path / "image.dcm"), "--server", server.address, "--exact"]
        )
        assert again.exit_code == 0, again.output
    assert "acme_radserve.preprocess" not in sys.modules  # the worker has it, the server has not
    used = {(each["point"], each["name"], each["package"], each["version"]) for each in result["provenance"]["plugins"]}
    package = ("acme-radserve", "1.2.0")
    assert used == {
        ("radserve.preprocessors", "median", *package),
        ("radserve.preprocessors", "clip", *package),
        ("radserve.report_templates", "acme-de", *package),
    }
    assert result["generation"]["backend"] == "template"
    assert "Hinweis auf Pneumonie (Wahrscheinlichkeit" in result["report"]["text"]
    assert b"plugin=radserve.preprocessors:median of acme-radserve 1.2.0" in (record.parent / "sr.dcm").read_bytes()


def test_a_pack_that_names_it_is_refused_where_the_site_does_not_allow_it(acme: Path, packs: Path) -> None:
    run = CliRunner().invoke(app, ["models", "verify", "tiny", "--pack-dir", str(packs)])
    assert run.exit_code != 0
    assert "PACK_PLUGIN" in run.output + str(run.exception)
    allowed = {"RADSERVE_PREPROCESSORS": '["median", "clip"]'}
    run = CliRunner().invoke(app, ["models", "verify", "tiny", "--pack-dir", str(packs)], env=allowed)
    assert run.exit_code == 0, run.output


def test_doctor_names_what_is_installed_and_what_the_settings_do_not_use(acme: Path) -> None:
    checks = {check.name: check for check in plugin_checks(Settings(preprocessors=("median",)))}
    found = {name: check.found for name, check in checks.items() if "acme-radserve 1.2.0" in check.found}
    assert found == {
        "plug-in radserve.importers acme": "acme-radserve 1.2.0",
        "plug-in radserve.preprocessors clip": "acme-radserve 1.2.0 (not named in the settings: not used)",
        "plug-in radserve.preprocessors median": "acme-radserve 1.2.0",
        "plug-in radserve.report_metrics acme_words": "acme-radserve 1.2.0",
        "plug-in radserve.report_templates acme-de": "acme-radserve 1.2.0 (not named in the settings: not used)",
        "plug-in radserve.senders acme": "acme-radserve 1.2.0",
    }
    assert all(check.ok for name, check in checks.items() if name in found)


async def test_its_importer_sender_and_metric_do_their_work(acme: Path, tmp_path: Path) -> None:
    onnx = make_classifier_pack(tmp_path / "halves") / "classifier.onnx"
    (tmp_path / "model.acme").write_bytes(b"ACME 1\n" + onnx.read_bytes())
    labels = labels_file(tmp_path, "Left", "Right")
    pack = import_model(str(tmp_path / "model.acme"), labels, tmp_path / "pack", kind="acme")
    assert pack.initialised_from.startswith("acme: model.acme")

    async def begin(index: int) -> bool:
        return True

    to = Destinations({"there": f"acme:{tmp_path}"}, site_senders(Settings(), CommitmentInbox()))
    sent = [each async for each in to.send("there", [Artifact("sr.dcm", "application/dicom", b"result")], begin)]
    assert (sent, (tmp_path / "sr.dcm").read_bytes()) == ([(0, None)], b"result")

    (tmp_path / "texts.csv").write_text("truth,model\nno pneumonia,no pneumonia\npneumonia,no pneumonia\n" * 3)
    options = ["--reference", "truth", "--hypothesis", "model", "--bootstrap", "20", "--randomisation", "20"]
    arguments = ["report-text", str(tmp_path / "texts.csv"), *options, "--json", str(tmp_path / "scores.json")]
    run = CliRunner().invoke(evaluate_app, arguments)
    assert run.exit_code == 0, run.output
    assert '"acme_words"' in (tmp_path / "scores.json").read_text()
