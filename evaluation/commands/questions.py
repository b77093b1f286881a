"""`radserve evaluate questions`: ask a model questions with known answers, in two steps.

First `--prompts OUT` writes one JSON line per question ({"id", "prompt"}), options shuffled by the seed. Whoever runs
the model writes {"id", "reply"} lines. Then `--replies FILE --json OUT` with the same seed scores them: `value` and
`interval` on the survey's 1 to 10 (1 + 9 x share), `n`, `seed`, `dimensions` {name: {`share`, `ci`, `n`}}, `outcomes`.
The result can stand in the plan of `report` as a measured indicator.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from radserve.evaluation.output import write_json, write_text
from radserve.evaluation.tables import refusal


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("questions")(questions)


def questions(
    source: Annotated[
        Path | None, typer.Argument(metavar="[QUESTIONS]", help="JSON lines; else the shipped 20.")
    ] = None,
    prompts: Annotated[str | None, typer.Option(metavar="OUT|-", help="Write the prompts here.")] = None,
    replies: Annotated[Path | None, typer.Option(help="JSON lines of replies to score.")] = None,
    json: Annotated[str | None, typer.Option("--json", metavar="OUT|-", help="Write the scores here.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the order of options; the same in both steps.")] = 0,
) -> None:
    """Write prompts, or score replies, of questions with known answers."""
    from radserve.evaluation import questions as harness

    path = source or Path(str(files("radserve.evaluation").joinpath("data/questions.jsonl")))
    asked = harness.read_questions(path)
    if (replies is None) != (json is None) or (replies is None and prompts is None):
        raise refusal("expected --prompts OUT, or --replies FILE with --json OUT")
    if prompts is not None:
        write_text(harness.prompts_text(asked, seed), prompts)
    if replies is not None and json is not None:
        write_json(harness.score_replies(asked, harness.read_replies(replies), seed), json)
