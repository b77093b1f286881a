"""What is wrong with the settings is said in one line that names the variable; ids in tables are whole."""

from __future__ import annotations

import pytest
import typer
from typer.testing import CliRunner

from radserve.server.cli import app
from radserve.server.console import settings_of, stdout, table_of


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("RADSERVE_PORT", "many", "RADSERVE_PORT: Input should be a valid integer.*'many'"),
        ("RADSERVE_PORT", "tcp://10.0.0.1:8500", "RADSERVE_PORT: .*'tcp://10.0.0.1:8500'"),
        ("RADSERVE_DECODE_WORKERS", "0", "RADSERVE_DECODE_WORKERS: .*greater than or equal to 1.*'0'"),
        ("RADSERVE_DIMSE_PEERS", "CT1", r'RADSERVE_DIMSE_PEERS: expected JSON: \["A", "B"\]'),
        ("RADSERVE_DESTINATIONS", "pacs", "RADSERVE_DESTINATIONS: expected JSON"),
        ("RADSERVE_DESTINATIONS", '{"pacs": 1}', "RADSERVE_DESTINATIONS, pacs: Input should be a valid string"),
        ("RADSERVE_DIMSE_PROT", "104", "RADSERVE_DIMSE_PROT is no setting; is RADSERVE_DIMSE_PORT meant?"),
        ("RADSERVE_QQQQQ", "1", "RADSERVE_QQQQQ is no setting$"),
    ],
)
def test_a_setting_that_cannot_be_is_named_with_its_value(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, told: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(typer.BadParameter, match=told):
        settings_of()


@pytest.mark.parametrize("value", ['{"host": "Bearer s3cret", "other": ["s3cret"]}', '{"host": s3cret}'])
def test_a_secret_is_not_repeated(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("RADSERVE_WEB_AUTHORIZATION", value)
    with pytest.raises(typer.BadParameter, match="RADSERVE_WEB_AUTHORIZATION") as caught:
        settings_of()
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    "command",
    [
        ("serve",),
        ("infer", ".", "--out", "results"),
        ("pull", "--from", "dicom://A@127.0.0.1:1", "--study", "1.2"),
        ("store", "verify"),
        ("quarantine", "list"),
        ("annotations", "export", "all.csv"),
        ("preferences", "export", "--out", "pairs.jsonl"),
        ("rules", "test", "."),
        ("models", "status"),
    ],
    ids=" ".join,
)
def test_every_command_says_so_without_a_traceback(monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]) -> None:
    monkeypatch.setenv("RADSERVE_TRITON_INSTANCES", "many")
    done = CliRunner().invoke(app, command)
    assert (done.exit_code, type(done.exception)) == (2, SystemExit)
    assert "RADSERVE_TRITON_INSTANCES" in done.output


def test_the_version_is_told() -> None:
    done = CliRunner().invoke(app, ["--version"])
    assert (done.exit_code, done.output.split()[0]) == (0, "radserve")


def test_an_id_in_a_table_is_whole_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    table = table_of("id", "reason")
    table.add_row("2.25." + "7" * 59, "word " * 40)
    stdout().print(table)
    (row,) = [line for line in capsys.readouterr().out.splitlines() if "2.25" in line]
    assert "2.25." + "7" * 59 in row and row.count("word") == 40
