"""What the commands share: the two consoles, and settings with what a command line gives."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.console import Console

from radserve.server.settings import Settings

PackDirs = Annotated[list[Path] | None, typer.Option("--pack-dir", help="A folder with further packs; repeatable.")]


def settings_of(**given: object) -> Settings:
    """Settings of the environment and of what is given; raises typer.BadParameter naming the field at fault."""
    values = {name: value for name, value in given.items() if value is not None}
    try:
        return Settings(**values)  # type: ignore[arg-type]
    except ValidationError as error:
        causes = [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()]
        raise typer.BadParameter("; ".join(causes)) from None


def stdout() -> Console:
    return Console(soft_wrap=False)


def stderr() -> Console:
    return Console(stderr=True)
