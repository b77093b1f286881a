"""A site may learn from data of known hands alone: they are signed as a whole, and one altered label breaks that."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from radserve.errors import ErrorCode, RadserveError
from radserve.models.adapt.manifest import read_manifest
from radserve.models.pack import load_pack
from radserve.models.pack_signature import sign_folder
from radserve.server.adapting import adapt
from radserve.server.cli import app
from tests.support.packs import make_tiny_pack
from tests.support.planted import planted_images, write_manifest
from tests.support.signing import keys

TASK = '[task]\nlabel = "Pneumonia"\ninput = "chest radiograph"\ncurve = [1]\nstrength = 100.0\n'


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    (tmp_path / "set").mkdir()
    data = planted_images(tmp_path / "set")
    return write_manifest(tmp_path / "set" / "task.toml", data.name, TASK)


def refusal(manifest: Path, key: Path) -> ErrorCode:
    with pytest.raises(RadserveError, match="data set 'set'") as refused:
        read_manifest(manifest, key)
    return refused.value.code


def test_unsigned_and_altered_data_and_those_of_another_are_refused(manifest: Path, tmp_path: Path) -> None:
    private, public = keys(tmp_path)
    assert refusal(manifest, public) is ErrorCode.PACK_UNSIGNED
    sign_folder(manifest.parent, private, "data set")
    assert read_manifest(manifest, public).signed_by == hashlib.sha256(public.read_bytes()).hexdigest()
    assert refusal(manifest, keys(tmp_path, "stranger")[1]) is ErrorCode.PACK_SIGNATURE
    (data,) = manifest.parent.glob("*.npz")
    arrays = dict(np.load(data))
    arrays["train_labels"][0] ^= 1  # one false diagnosis
    np.savez(data, **arrays)
    assert refusal(manifest, public) is ErrorCode.PACK_SIGNATURE
    assert read_manifest(manifest).signed_by == ""  # a site without a key does not ask


def test_the_record_of_an_adaptation_says_who_signed_its_data(manifest: Path, tmp_path: Path) -> None:
    private, public = keys(tmp_path)
    run = CliRunner().invoke(app, ["sign-data", str(manifest.parent), "--key", str(private)])
    assert run.exit_code == 0, run.output
    base = load_pack(make_tiny_pack(tmp_path / "tiny"))
    made = adapt(base, manifest, tmp_path / "out", signing_key=public)
    record = json.loads((made.pack.folder / "adaptation_pneumonia.json").read_text())
    assert record["data"]["signed_by"] == hashlib.sha256(public.read_bytes()).hexdigest()
    assert record["data"]["source"] and record["data"]["licence"] and record["data"]["consent_basis"]


def test_the_commands_ask_for_it_where_the_settings_name_a_key(manifest: Path, tmp_path: Path) -> None:
    make_tiny_pack(tmp_path / "packs" / "tiny")
    given = ("--pack", "tiny", "--pack-dir", str(tmp_path / "packs"), "--out", str(tmp_path / "out"))
    for command in ("adapt", "check-labels"):
        run = CliRunner().invoke(
            app, [command, str(manifest), *given], env={"RADSERVE_DATA_SIGNING_KEY": str(keys(tmp_path)[1])}
        )
        assert isinstance(run.exception, RadserveError) and run.exception.code is ErrorCode.PACK_UNSIGNED
        assert not (tmp_path / "out").exists()
