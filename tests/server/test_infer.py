"""What `radserve infer` makes of outcomes, without a server."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from radserve.dicom_io.files import FoundFile
from radserve.errors import ErrorCode, ModelError, PackError, RadserveError
from radserve.results import Artifact, StudyFailure
from radserve.server import infer
from radserve.server.cli import app
from radserve.server.client import ImportedInstance
from radserve.server.infer import InferOutcome
from radserve.v1 import common_pb2
from tests.support.dicoms import cr, part10
from tests.support.packs import make_tiny_pack

RUNNER = CliRunner()


@pytest.mark.parametrize(
    ("codes", "exit_code"),
    [
        ([], 0),
        ([ErrorCode.NOT_DICOM], 3),
        ([ErrorCode.UNKNOWN_PACK], 3),
        ([ErrorCode.WORKER_DIED], 3),
        ([ErrorCode.MODEL_UNAVAILABLE], 1),
        ([ErrorCode.NOT_DICOM, ErrorCode.INTERNAL], 1),
    ],
)
def test_the_exit_code_says_whose_fault_it_was(codes: list[ErrorCode], exit_code: int) -> None:
    failures = [StudyFailure(code, "why", "a.dcm") for code in codes]
    assert InferOutcome(failures=failures).exit_code == exit_code


@pytest.mark.parametrize("lab", ["CRP", "=5", "CRP="])
def test_a_laboratory_value_that_cannot_be_read_is_named(lab: str, tmp_path: Path) -> None:
    result = RUNNER.invoke(app, ["infer", "x.dcm", "--out", str(tmp_path), "--lab", lab])
    assert result.exit_code == 2
    assert "NAME=VALUE" in result.output


def test_settings_that_cannot_be_are_named_on_the_command_line() -> None:
    result = RUNNER.invoke(app, ["serve", "--port", "70000"])
    assert result.exit_code == 2
    assert "RADSERVE_PORT" in result.output


def test_models_can_be_listed_shown_and_verified() -> None:
    assert "cxr-bus-mini" in RUNNER.invoke(app, ["models", "list"]).output
    shown = RUNNER.invoke(app, ["models", "show", "cxr-bus-mini"]).output
    assert "Pneumonia" in shown
    assert "research" in shown.lower()
    assert "is intact" in RUNNER.invoke(app, ["models", "verify", "cxr-bus-mini"]).output


def test_every_version_of_a_pack_is_verified(tmp_path: Path) -> None:
    for version in ("1.0.0", "1.1.0"):
        make_tiny_pack(tmp_path / version, version=version)
    for named, expected in ((["tiny"], 2), ([], 4), (["tiny@1.1.0"], 1)):
        said = RUNNER.invoke(app, ["models", "verify", *named, "--pack-dir", str(tmp_path)]).output
        assert said.count("is intact") == expected
        assert "tiny 1.1.0 is intact" in said


@pytest.mark.parametrize("option", ["weights", "=densenet", "weights="])
def test_an_option_of_an_import_is_a_key_and_a_value(option: str, tmp_path: Path) -> None:
    command = ["models", "import", "x.pt", "--labels", "L.toml", "--out", str(tmp_path / "out"), "--option", option]
    outcome = RUNNER.invoke(app, command)
    assert isinstance(outcome.exception, RadserveError)
    assert f"got {option!r}, expected KEY=VALUE" in outcome.exception.client_message


def test_options_of_tensorrt_are_refused_where_it_is_not_used(tmp_path: Path) -> None:
    command = ["models", "repository", "cxr-bus-mini", "--out", str(tmp_path / "models"), "--precision", "fp16"]
    outcome = RUNNER.invoke(app, command)
    assert isinstance(outcome.exception, RadserveError)
    assert "--precision" in outcome.exception.client_message and "--accelerate" in outcome.exception.client_message
    assert not (tmp_path / "models").exists()
    assert RUNNER.invoke(app, [*command, "--device", "gpu", "--accelerate"]).exit_code == 0


def test_verifying_all_packs_finds_the_broken_one(tmp_path: Path) -> None:
    pack = make_tiny_pack(tmp_path / "packs" / "tiny")
    command = ["models", "verify", "--pack-dir", str(tmp_path / "packs")]
    assert RUNNER.invoke(app, command).output.count("is intact") == 3
    (pack / "MODEL_CARD.md").write_text("altered")
    outcome = RUNNER.invoke(app, command)
    assert isinstance(outcome.exception, PackError)
    assert outcome.exception.code is ErrorCode.PACK_HASH_MISMATCH
    assert "MODEL_CARD.md" in outcome.exception.client_message


class ModelsThatCrash:
    """A server's client: of the calls to analyse, those in `failing` (counted from 0) find the models away."""

    def __init__(self, failing: range) -> None:
        self.calls, self._failing = 0, failing

    async def import_files(self, files: Sequence[FoundFile]) -> list[ImportedInstance]:
        return [ImportedInstance(each.reference, f"2.25.{Path(each.reference).name}") for each in files]

    async def analyse(self, *_: object) -> AsyncIterator[Artifact | common_pb2.StudyResult]:
        call, self.calls = self.calls, self.calls + 1
        if call in self._failing:
            raise ModelError(ErrorCode.MODEL_UNAVAILABLE, "away")
        yield Artifact("result.json", "application/json", b"{}")
        yield common_pb2.StudyResult()


async def run(client: ModelsThatCrash, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> InferOutcome:
    for number in range(6):
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "in" / f"{number}").write_bytes(part10(cr(np.zeros((8, 8), np.uint16))))
    monkeypatch.setattr(infer, "WAITS_S", (0, 0, 0))
    monkeypatch.setattr(infer, "STUDIES_AT_ONCE", 1)
    request = infer.InferRequest((tmp_path / "in",), tmp_path / "out")
    return await infer.infer(request, client, Console(quiet=True))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("failing", "failures", "calls"),
    [
        (range(2, 5), 0, 9),  # one crash in the middle: its study is tried again until the models are back
        (range(2, 99), 4, 9),  # they do not come back: waited for once, not for every study
        (range(99), 6, 6),  # they never were there
    ],
)
async def test_a_batch_waits_for_models_that_were_there_before(
    failing: range, failures: int, calls: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = ModelsThatCrash(failing)
    outcome = await run(client, tmp_path, monkeypatch)
    assert (len(outcome.failures), client.calls) == (failures, calls)
    assert len(list((tmp_path / "out").glob("*/result.json"))) == 6 - failures


async def test_what_cannot_be_written_whole_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(path: Path, data: bytes) -> int:
        with path.open("wb") as file:
            file.write(data[:1])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", fill)
    with pytest.raises(RadserveError, match="No space left"):
        infer._write(tmp_path / "1.2", [Artifact("result.json", "application/json", b"{}")])
    assert list((tmp_path / "1.2").iterdir()) == []
