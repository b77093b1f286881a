"""The conformance statement is current, whole, and names what the standard names."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from pydicom.uid import UID

from radserve.dicom_io import conformance, parse
from radserve.dicom_io.dimse import negotiation, statuses
from radserve.dicom_io.write_outputs import OBJECTS

DOCUMENT = Path(__file__).parents[2] / "docs" / "conformance.md"


def rows(heading: str) -> list[list[str]]:
    """The cells of the first table after a heading, without its head."""
    lines = DOCUMENT.read_text(encoding="utf-8").split(heading, 1)[1].split("\n")
    start = next(index for index, line in enumerate(lines) if line.startswith("| ---"))
    table = []
    for line in lines[start + 1 :]:
        if not line.startswith("|"):
            break
        table.append([cell.strip().strip("`") for cell in line.strip("|").split("|")])
    return table


def test_the_document_is_what_the_tables_of_the_code_say() -> None:
    hint = "run: python -m radserve.dicom_io.conformance docs/conformance.md"
    assert DOCUMENT.read_text(encoding="utf-8") == conformance.statement(), hint


def test_every_class_and_syntax_that_is_accepted_is_listed_and_no_other() -> None:
    assert {row[1] for row in rows("### 2.1")} == set(negotiation.SUPPORTED)
    assert {row[1] for row in rows("## 3.")} == set(parse.TRANSFER_SYNTAXES)
    assert {int(row[0], 16) for row in rows("## 4.")} == set(statuses.MEANINGS)


def test_every_object_that_is_written_is_listed_and_proposed() -> None:
    assert {row[0] for row in rows("## 5.")} == {str(kind) for kind in OBJECTS}
    written = {uid for each in OBJECTS.values() for uid in each.sop_class_uids}
    assert written < {row[1] for row in rows("### 2.2")}


@pytest.mark.parametrize("heading", ["### 2.1", "### 2.2"])
def test_names_and_retirement_are_those_of_pydicoms_dictionary(heading: str) -> None:
    for name, uid, *_ in rows(heading):
        assert name == UID(uid).name + " (retired)" * UID(uid).is_retired


def test_the_statement_follows_its_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conformance, "TRANSFER_SYNTAXES", frozenset(("1.2.840.10008.1.2.1",)))
    assert "1.2.840.10008.1.2.5" not in conformance.statement()


def test_the_command_writes_the_same_statement(tmp_path: Path) -> None:
    target = tmp_path / "statement.md"
    command = [sys.executable, "-m", "radserve.dicom_io.conformance", str(target)]
    subprocess.run(command, check=True, timeout=120)
    assert target.read_text(encoding="utf-8") == conformance.statement()
