"""docs/commands.md has every command, and what the documents show of commands can be typed."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import typer
from typer.core import TyperCommand, TyperGroup

from radserve.evaluation.cli import build
from radserve.server.cli import app
from radserve.server.segmentation_command import register as register_segmentation

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES += sorted((ROOT / "models" / "packs").glob("*/*.md"))


@cache
def commands() -> dict[str, TyperCommand]:
    """Every command by what is typed for it."""
    found = dict(walk(typer.main.get_command(app), "radserve"))
    del found["radserve evaluate"]  # stands for those that it hands on to
    return found | dict(walk(typer.main.get_command(build(register_segmentation)), "radserve evaluate"))


def walk(command: object, name: str) -> Iterator[tuple[str, TyperCommand]]:
    if isinstance(command, TyperGroup):
        for word, each in command.commands.items():
            yield from walk(each, f"{name} {word}")
    elif isinstance(command, TyperCommand):
        yield name, command


def options(command: TyperCommand) -> set[str]:
    return {"--help", *(name for each in command.params for name in (*each.opts, *each.secondary_opts))}


def shown(page: Path) -> Iterator[str]:
    """The commands in the code of a page: in blocks, a line each unless it is continued, and in the text."""
    text = page.read_text().replace("\\\n", " ")
    fence = re.compile(r"^```\w*\n(.*?)^```$", re.DOTALL | re.MULTILINE)
    lines = [line for block in fence.findall(text) for line in block.splitlines()]
    for code in (*lines, *re.findall(r"`(.+?)`", fence.sub("", text))):
        if code.startswith("radserve "):
            yield re.split(r" [|>&#]", code)[0]


def test_every_command_is_documented_with_what_it_says_of_itself() -> None:
    rows = re.findall(r"^\| `(radserve .+?)` \| (.+) \|$", (ROOT / "docs" / "commands.md").read_text(), re.MULTILINE)
    assert dict(rows) == {
        name: " ".join((command.help or "").split("\n\n")[0].split()) for name, command in commands().items()
    }


def test_the_table_of_evaluations_is_complete() -> None:
    table = re.findall(r"^\| (`.+?`) \|", (ROOT / "docs" / "evaluation.md").read_text(), re.MULTILINE)
    named = set(re.findall(r"`([\w-]+)`", " ".join(table)))
    assert named == {name.removeprefix("radserve evaluate ") for name in commands() if " evaluate " in name}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_commands_and_options_that_a_page_shows_exist(page: Path) -> None:
    for line in shown(page):
        words = shlex.split(line)
        name = next((" ".join(words[:count]) for count in (3, 2) if " ".join(words[:count]) in commands()), "")
        is_group = any(each.startswith(f"{' '.join(words[:2])} ") for each in commands())
        if words[1] == "COMMAND" or (not name and is_group and not re.search(r" --?[a-z]", line)):
            continue  # any command, or a group itself, as in `radserve models`
        assert name, f"{page.name}: {line}"
        stated = {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)}
        assert stated <= options(commands()[name]), f"{page.name}: {line}"


def test_a_wrong_command_would_be_seen(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    for text in ("`radserve serv`", "```\nradserve infer x --outt y\n```", "`radserve models lst --all`"):
        page.write_text(text + "\n")
        with pytest.raises(AssertionError):
            test_the_commands_and_options_that_a_page_shows_exist(page)
