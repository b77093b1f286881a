"""What the commands share: the two consoles, tables, and settings with what a command line gives."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import SettingsError
from rich.console import Console
from rich.table import Column, Table

from radserve.server.settings import PREFIX, Settings, unknown_variables

PackDirs = Annotated[list[Path] | None, typer.Option("--pack-dir", help="A folder with further packs; repeatable.")]

WIDTH_OF_FILES = 1000
REFUSED = 3
"""Exit code of a command that ran and says no; 1 is a fault of ours, 2 a command line or setting that cannot be."""


def settings_of(**given: object) -> Settings:
    """Settings of the environment and of what is given; raises typer.BadParameter naming the variable at fault."""
    values = {name: value for name, value in given.items() if value is not None}
    if unknown := unknown_variables():
        raise typer.BadParameter("; ".join(map(_misspelt, unknown)))
    try:
        return Settings(**values)  # type: ignore[arg-type]
    except ValidationError as error:
        raise typer.BadParameter("; ".join(_cause(each) for each in error.errors())) from None
    except SettingsError as error:
        field = next((name for name in Settings.model_fields if f'"{name}"' in str(error)), "")
        text = 'expected JSON: ["A", "B"] for a list, {"NAME": "VALUE"} for an object'
        raise typer.BadParameter(f"{PREFIX}{field.upper()}: {text}") from None


def _misspelt(variable: str) -> str:
    near = difflib.get_close_matches(variable.upper().removeprefix(PREFIX).lower(), Settings.model_fields, n=1)
    return f"{variable} is no setting" + (f"; is {PREFIX}{near[0].upper()} meant?" if near else "")


def _cause(error: ErrorDetails) -> str:
    """What is wrong with a field; its value is left out where it may be a secret."""
    name = str(error["loc"][0])
    place = ".".join(map(str, error["loc"][1:]))
    field = Settings.model_fields.get(name)
    is_secret = field is None or not field.repr or "SecretStr" in str(field.annotation)
    got = "" if is_secret else f" (got {str(error['input'])[:80]!r})"
    return f"{PREFIX}{name.upper()}{f', {place}' if place else ''}: {error['msg']}{got}"


def stdout() -> Console:
    return _console(stderr=False)


def stderr() -> Console:
    return _console(stderr=True)


def table_of(*names: str, title: str | None = None) -> Table:
    """A table whose cells are broken where a terminal is narrow, never cut: ids are there to be copied."""
    return Table(*(Column(name, overflow="fold") for name in names), title=title)


def _console(*, stderr: bool) -> Console:
    """What goes into a file or a pipe is not broken at the width of a terminal that is not there."""
    console = Console(stderr=stderr)
    return console if console.is_terminal else Console(stderr=stderr, width=WIDTH_OF_FILES)
