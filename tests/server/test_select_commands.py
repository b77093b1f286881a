"""The commands that say what to label and what to look at again, from file to file."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from radserve.errors import RadserveError
from radserve.server.cli import app
from tests.support.packs import make_tiny_pack
from tests.support.planted import planted_images, write_manifest

TASK = '[task]\nlabel = "Pneumonia"\ninput = "chest radiograph"\nstrength = 100.0\n'


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(each) for each in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_least_certain_cases_are_written_and_nothing_is_overwritten(tmp_path: Path) -> None:
    pool, out = tmp_path / "pool.csv", tmp_path / "chosen.csv"
    lines = [f"case {n},{n / 100},{n % 3},{n % 5}" for n in range(101)]
    pool.write_text("\n".join(["case,probability,embedding_0,embedding_1", *lines]) + "\n")
    assert "4 of 101 cases" in run("select", pool, "--count", 4, "--out", out).replace("\n", " ")
    chosen = [float(row["probability"]) for row in rows(out)]
    assert len(chosen) == 4
    assert all(0.39 < each < 0.61 for each in chosen)
    assert chosen == sorted(chosen, key=lambda each: abs(each - 0.5))
    with pytest.raises(RadserveError, match=r"'chosen\.csv' cannot be written: File exists"):
        run("select", pool, "--count", 4, "--out", out)


def test_flipped_labels_of_images_are_ranked_first(tmp_path: Path) -> None:
    make_tiny_pack(tmp_path / "tiny")
    data = planted_images(tmp_path)
    with np.load(data) as kept:
        arrays = dict(kept)
    flipped = [3, 24, 51, 70]
    arrays["train_labels"][flipped] ^= 1
    arrays["train_patients"] = np.array([f"train {number}" for number in range(80)])
    np.savez(data, **arrays)
    manifest = write_manifest(tmp_path / "manifest.toml", data.name, TASK)
    out = tmp_path / "suspects.csv"
    run("check-labels", manifest, "--pack", "tiny", "--pack-dir", tmp_path / "tiny", "--out", out)
    ranked = rows(out)
    assert len(ranked) == 180
    suspects = {int(row["row"]) - 1 for row in ranked[:18] if row["split"] == "train"}
    assert len(suspects & set(flipped)) >= 3
    assert float(ranked[0]["suspicion"]) > 0.5 > float(ranked[-1]["suspicion"])
