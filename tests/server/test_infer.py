"""What `radserve infer` makes of outcomes, without a server."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from radserve.errors import ErrorCode, PackError
from radserve.results import StudyFailure
from radserve.server.cli import app
from radserve.server.infer import InferOutcome
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


def test_verifying_all_packs_finds_the_broken_one(tmp_path: Path) -> None:
    pack = make_tiny_pack(tmp_path / "packs" / "tiny")
    command = ["models", "verify", "--pack-dir", str(tmp_path / "packs")]
    assert RUNNER.invoke(app, command).output.count("is intact") == 3
    (pack / "MODEL_CARD.md").write_text("altered")
    outcome = RUNNER.invoke(app, command)
    assert isinstance(outcome.exception, PackError)
    assert outcome.exception.code is ErrorCode.PACK_HASH_MISMATCH
    assert "MODEL_CARD.md" in outcome.exception.client_message
