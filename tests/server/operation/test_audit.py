"""The audit log: entries only follow each other, and a change to any of them shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from radserve.errors import StorageError
from radserve.server.operation.audit import AuditLog, verify


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "data" / "audit.jsonl"
    for number in range(4):
        AuditLog(path, now=lambda: "2026-01-01T00:00:00+00:00").append("promote", {"version": f"1.{number}.0"})
    return path


def test_entries_are_read_in_order_with_their_time(log: Path) -> None:
    entries = verify(log)
    assert [entry["version"] for entry in entries] == ["1.0.0", "1.1.0", "1.2.0", "1.3.0"]
    assert {entry["time"] for entry in entries} == {"2026-01-01T00:00:00+00:00"}


@pytest.mark.parametrize("line", [0, 1, 2])
def test_an_altered_entry_breaks_the_chain(log: Path, line: int) -> None:
    lines = log.read_text().splitlines(keepends=True)
    lines[line] = lines[line].replace(f"1.{line}.0", "9.9.9")
    log.write_text("".join(lines))
    with pytest.raises(StorageError, match=f"line {line + 2} does not follow"):
        verify(log)


def test_an_entry_taken_out_breaks_the_chain(log: Path) -> None:
    lines = log.read_text().splitlines(keepends=True)
    log.write_text("".join([lines[0], *lines[2:]]))
    with pytest.raises(StorageError, match="line 2 does not follow"):
        verify(log)


def test_what_a_power_cut_tore_is_told_and_later_entries_are_whole_lines(log: Path) -> None:
    log.write_bytes(log.read_bytes()[:-20])
    AuditLog(log).append("rollback", {"version": "1.0.0"})
    assert log.read_text().splitlines()[-1].startswith("{")
    with pytest.raises(StorageError, match="line 4 is not an entry"):
        verify(log)


def test_there_is_nothing_to_verify_before_the_first_entry(tmp_path: Path) -> None:
    assert verify(tmp_path / "none.jsonl") == []
