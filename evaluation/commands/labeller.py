"""`radserve evaluate labeller`: the finding labeller on sentences with known findings (form: `labeller_gold`)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from radserve.evaluation.output import write_json


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("labeller")(labeller)


def labeller(
    json: Annotated[str, typer.Option("--json", metavar="OUT|-", help="Where to write the result; - is stdout.")],
    gold: Annotated[Path | None, typer.Argument(metavar="[GOLD]", help="JSON lines; else the shipped set.")] = None,
    rules: Annotated[Path | None, typer.Option(help="TOML rules of the labeller, else the shipped ones.")] = None,
    bootstrap: Annotated[int, typer.Option(min=1, help="Bootstrap samples.")] = 1000,
    seed: Annotated[int, typer.Option(help="Seed.")] = 0,
) -> None:
    """Measure the finding labeller: micro-F1, F1 of negation and doubt, agreement on the side."""
    from radserve.evaluation.labeller import Labeller
    from radserve.evaluation.labeller_gold import evaluate_gold, read_gold

    chosen = Labeller.from_file(rules) if rules else Labeller()
    write_json(evaluate_gold(chosen, read_gold(gold), samples=bootstrap, seed=seed), json)
