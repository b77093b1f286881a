"""The page that says where each requirement is met names what is there, and every requirement once."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
import typer

from radserve.evaluation.cli import evaluate_app
from radserve.server.cli import app

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "traceability.md").read_text(encoding="utf-8")
ROWS = 135


def rows_of(page: str) -> list[tuple[str, str]]:
    """(numbers, rest of the line) of each row of the tables."""
    return re.findall(r"^\| (\d[\d, -]*) \| (.*) \|$", page, re.MULTILINE)


def numbers_of(cell: str) -> list[int]:
    found = []
    for part in cell.split(","):
        first, _, last = part.strip().partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


def missing_of(page: str) -> list[str]:
    """What the page names in backticks and is not there: tests, files, commands."""
    return [each for each in sorted(set(re.findall(r"`([^`]+)`", page))) if not is_there(each)]


def is_there(named: str) -> bool:
    path, _, test = named.partition("::")
    if test:
        pattern = rf"^(async )?def {re.escape(test)}\("
        return (ROOT / path).is_file() and bool(re.search(pattern, (ROOT / path).read_text(), re.MULTILINE))
    if named.startswith("radserve "):
        return is_command(named.split()[1:])
    return (ROOT / named).exists()


def is_command(words: list[str]) -> bool:
    command: object = typer.main.get_command(app)
    if words[0] == "evaluate":  # a program of its own behind the word
        command, words = typer.main.get_command(evaluate_app), words[1:]
    for word in words:
        command = getattr(command, "commands", {}).get(word)
    return command is not None


def test_every_requirement_stands_on_the_page_once() -> None:
    counted = Counter(number for cell, _ in rows_of(PAGE) for number in numbers_of(cell))
    assert {number: times for number, times in counted.items() if times != 1} == {}
    assert sorted(counted) == list(range(1, ROWS + 1))


def test_what_the_page_names_is_there() -> None:
    assert missing_of(PAGE) == []


def test_what_is_said_to_be_built_names_a_test() -> None:
    said = PAGE.split("## Not built")[0]
    assert [cell for cell, rest in rows_of(said) if "::test_" not in rest] == []


@pytest.mark.parametrize(
    "named",
    [
        "tests/contracts/test_traceability.py::test_that_nobody_wrote",
        "tests/contracts/test_gone.py::test_every_requirement_stands_on_the_page_once",
        "models/gone.py",
        "radserve models gone",
        "radserve evaluate gone",
    ],
)
def test_a_name_of_what_is_gone_is_found(named: str) -> None:
    assert missing_of(f"| 1 | x | `{named}` |") == [named]
