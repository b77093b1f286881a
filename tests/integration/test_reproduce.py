"""A result can be made anew from its record: the same pack and the same input give the same numbers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from radserve.errors import ErrorCode, RadserveError
from radserve.server.cli import app
from tests.support.dicoms import cr, part10
from tests.support.server import LiveServer


def radserve(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


@pytest.fixture(scope="module")
def made(server: LiveServer, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A study's file and the result.json made from it."""
    folder = tmp_path_factory.mktemp("reproduce")
    pixels = np.random.default_rng(4).integers(0, 256, (64, 48)).astype(np.uint8)
    image = folder / "image.dcm"
    image.write_bytes(part10(cr(pixels, study="reproduce", PatientAge="003Y", BodyPartExamined="CHEST")))
    given = ("--out", str(folder / "out"), "--server", server.address, "--indication", "Cough", "--lab", "CRP=12 mg/L")
    assert radserve("infer", str(image), *given).exit_code == 0
    (record,) = (folder / "out").glob("*/result.json")
    return image, record


def changed(record: Path, folder: Path, change: object) -> Path:
    document = json.loads(record.read_text())
    change(document)  # type: ignore[operator]
    (folder / "record.json").write_text(json.dumps(document))
    return folder / "record.json"


def test_the_same_pack_and_input_give_the_same_numbers(server: LiveServer, made: tuple[Path, Path]) -> None:
    image, record = made
    run = radserve("reproduce", str(record), str(image), "--server", server.address)
    assert run.exit_code == 0, run.output
    assert "reproduces" in run.output


def test_other_numbers_are_told_as_such(server: LiveServer, made: tuple[Path, Path], tmp_path: Path) -> None:
    def another_score(document: dict) -> None:
        document["findings"][0]["score"] += 0.01

    record = changed(made[1], tmp_path, another_score)
    run = radserve("reproduce", str(record), str(made[0]), "--server", server.address)
    assert run.exit_code == 3
    assert "does not reproduce" in run.output
    assert (
        radserve("reproduce", str(record), str(made[0]), "--server", server.address, "--tolerance", "0.1").exit_code
        == 0
    )


def test_the_language_and_the_decoding_of_the_record_are_asked_for_again(
    server: LiveServer, made: tuple[Path, Path], tmp_path: Path
) -> None:
    given = ("--language", "zh", "--decoding", "sample", "--top-k", "5", "--seed", "3", "--server", server.address)
    assert radserve("infer", str(made[0]), "--out", str(tmp_path), *given).exit_code == 0
    (record,) = tmp_path.glob("*/result.json")
    assert json.loads(record.read_text())["generation"]["language"] == "zh"
    run = radserve("reproduce", str(record), str(made[0]), "--server", server.address, "--exact")
    assert run.exit_code == 0, run.output


def test_the_same_pack_and_input_give_the_same_result_to_the_last_letter(
    server: LiveServer, made: tuple[Path, Path], tmp_path: Path
) -> None:
    image, record = made
    run = radserve("reproduce", str(record), str(image), "--server", server.address, "--exact")
    assert run.exit_code == 0, run.output
    assert "exactly" in run.output

    def another_letter(document: dict) -> None:
        document["report"]["sections"][0]["text"] += " "

    def last_digit(document: dict) -> None:
        heat_map = document["findings"][0]["region"]["heat_map"]["values"]
        heat_map[0][0] = float(np.nextafter(np.float32(heat_map[0][0]), np.float32(np.inf)))

    for change, field in ((another_letter, "report"), (last_digit, "findings")):
        other = changed(record, tmp_path, change)
        run = radserve("reproduce", str(other), str(image), "--server", server.address, "--exact")
        assert run.exit_code == 3
        assert f"{field} is another one" in run.output
        assert radserve("reproduce", str(other), str(image), "--server", server.address).exit_code == 0


@pytest.mark.slow
def test_without_a_server_an_embedded_one_gives_the_same_result_to_the_last_letter(made: tuple[Path, Path]) -> None:
    image, record = made
    run = radserve("reproduce", str(record), str(image), "--exact")
    assert run.exit_code == 0, run.output


def test_a_pack_that_is_not_here_and_a_file_that_is_no_record_are_named(
    made: tuple[Path, Path], tmp_path: Path
) -> None:
    def another_digest(document: dict) -> None:
        document["pack"]["digest"] = "0" * 64

    unknown = radserve("reproduce", str(changed(made[1], tmp_path, another_digest)), str(made[0]))
    assert isinstance(unknown.exception, RadserveError)
    assert unknown.exception.code is ErrorCode.UNKNOWN_PACK
    (tmp_path / "text.json").write_text("no")
    for name, cause in (("gone.json", "cannot be read: No such file"), ("text.json", "is no JSON")):
        refused = radserve("reproduce", str(tmp_path / name), str(made[0]))
        assert isinstance(refused.exception, RadserveError)
        assert refused.exception.client_message.startswith(f"{name!r} {cause}")
    (tmp_path / "other.json").write_text("{}")
    other = radserve("reproduce", str(tmp_path / "other.json"), str(made[0]))
    assert isinstance(other.exception, RadserveError)
    assert "is no result.json" in other.exception.client_message


def test_another_study_is_not_taken_for_the_records(
    server: LiveServer, made: tuple[Path, Path], tmp_path: Path
) -> None:
    pixels = np.zeros((64, 48), np.uint8)
    (tmp_path / "other.dcm").write_bytes(part10(cr(pixels, study="another", PatientAge="003Y")))
    run = radserve("reproduce", str(made[1]), str(tmp_path / "other.dcm"), "--server", server.address)
    assert isinstance(run.exception, RadserveError)
    assert "it is another study" in run.exception.client_message
