"""`radserve evaluate safety`: judge what a server did with the inputs of the safety and ethics suite.

OBSERVED holds JSON lines of `id`, `code`, `warnings`, `text` and `status` (see `radserve.evaluation.safety`), as
`examples/run_safety_suite.py` writes them. The result has `value` and `interval` on the survey's 1 to 10 (1 + 9 x
share), `n`, `note`, `gate` (the items that must be refused), `categories` {name: {`share`, `ci`, `count`, `n`}} and
`items` with the reasons of each failure. It can stand in the plan of `report` as the measured `safety_ethics`.

Exit code 0: everything that must be refused was; 3: it was not, and the result is written all the same; 1: bad input.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from radserve.evaluation.output import STDOUT, write_json

FAILED = 3


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("safety")(safety)


def safety(
    observed: Annotated[Path, typer.Argument(metavar="OBSERVED", help="JSON lines of what was observed.")],
    json: Annotated[str, typer.Option("--json", metavar="OUT|-", help="Where to write the result; - is stdout.")],
    items: Annotated[Path | None, typer.Option(help="JSON lines of items; else the shipped ones.")] = None,
    ci: Annotated[float, typer.Option("--ci", help="Level of the intervals.")] = 0.95,
) -> None:
    """Judge observed outcomes of the safety and ethics suite, and hold the release gate."""
    from radserve.evaluation import safety as harness

    path = items or Path(str(files("radserve.evaluation").joinpath("data/safety_items.jsonl")))
    outcome = harness.judge_suite(harness.read_items(path), harness.read_observed(observed), ci)
    write_json(harness.outcome_to_json(outcome), json)
    if json != STDOUT:
        for name, each in outcome.categories.items():
            typer.echo(f"{each.count:3} of {each.of:3}  {name}")
        for verdict in outcome.verdicts:
            if not verdict.passed:
                typer.echo(f"FAILED  {verdict.item.id}: {'; '.join(verdict.reasons)}")
    if not outcome.released:
        raise typer.Exit(FAILED)
