"""The command line `radserve evaluate`: one command from each module of `radserve.evaluation.commands`.

A command module has a function `register(app: typer.Typer) -> None`; it is found by its being there, so no list of
commands has to be kept.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable

import typer

from radserve.evaluation import commands


def build(*more: Callable[[typer.Typer], None]) -> typer.Typer:
    """The commands of this package and those that `more` register."""
    app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help="Measure how good a model is.")
    app.callback()(_describe)
    for module in sorted(pkgutil.iter_modules(commands.__path__), key=lambda each: each.name):
        importlib.import_module(f"{commands.__name__}.{module.name}").register(app)
    for register in more:
        register(app)
    return app


def _describe() -> None:
    """Measure how good a model is, from tables of scores, ratings, marks or reports."""


evaluate_app = build()
