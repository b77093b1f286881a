"""The commands of `radserve evaluate` are found by their modules."""

from __future__ import annotations

import importlib
import pkgutil

import pytest
import typer
from typer.main import get_command
from typer.testing import CliRunner

from radserve.evaluation import commands
from radserve.evaluation.cli import evaluate_app

MODULES = sorted(each.name for each in pkgutil.iter_modules(commands.__path__))


def commands_of(app: typer.Typer) -> set[str]:
    app.callback()(lambda: None)  # a lone command would become the program itself
    return set(get_command(app).commands)  # type: ignore[attr-defined]


@pytest.mark.parametrize("module", MODULES)
def test_each_command_module_adds_its_command_to_the_program(module: str) -> None:
    alone = typer.Typer()
    importlib.import_module(f"{commands.__name__}.{module}").register(alone)
    added = commands_of(alone)
    assert added
    assert added <= set(get_command(evaluate_app).commands)  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["roc", "compare"])
def test_each_command_explains_its_options(name: str) -> None:
    result = CliRunner().invoke(evaluate_app, [name, "--help"])
    assert result.exit_code == 0
    assert "--label" in result.stdout
