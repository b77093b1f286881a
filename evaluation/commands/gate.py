"""`radserve evaluate gate`: does an evaluation meet an acceptance profile?

Exit code 0: all gates passed; 3: a gate failed; 1: the profile or the evaluation cannot be used. The record (its form
stands in `gates.gate_record`) is written in the first two cases.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from radserve.evaluation.output import STDOUT, write_json
from radserve.evaluation.tables import refusal

FAILED = 3


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("gate")(gate)


def gate(
    profile: Annotated[Path, typer.Argument(metavar="PROFILE", help="TOML profile of gates.")],
    evaluation: Annotated[Path, typer.Argument(metavar="EVALUATION", help="JSON of report, roc or report-text.")],
    json: Annotated[str, typer.Option("--json", metavar="OUT|-", help="Where to write the record; - is stdout.")],
    model: Annotated[
        list[str] | None, typer.Option(help="KEY=VALUE about the model (name, version, pipeline_digest); repeatable.")
    ] = None,
    previous: Annotated[Path | None, typer.Option(help="The former profile: a change needs a new version.")] = None,
) -> None:
    """Hold an evaluation against a profile and write the record that promotion reads."""
    from radserve.evaluation.gate_measurements import read_measurements
    from radserve.evaluation.gates import apply_profile, check_new_version, gate_record, read_profile

    wanted = read_profile(profile)
    if previous is not None:
        check_new_version(read_profile(previous), wanted)
    try:
        content = evaluation.read_bytes()
    except OSError as error:
        raise refusal(f"cannot read {evaluation.name}: {error.strerror or error}") from error
    results = apply_profile(wanted, read_measurements(content))
    record = gate_record(wanted, results, model=_pairs(model or []), evaluation=content)
    write_json(record, json)
    if json != STDOUT:
        for each in results:
            name = f"{each.gate.finding or 'model'} {each.gate.metric}"
            typer.echo(f"{'passed' if each.passed else 'FAILED'}  {name}{': ' + each.reason if each.reason else ''}")
    if not record["passed"]:
        raise typer.Exit(FAILED)


def _pairs(texts: list[str]) -> dict[str, str]:
    for each in texts:
        if "=" not in each:
            raise refusal(f"--model: got {each!r}, expected KEY=VALUE")
    return dict(each.split("=", 1) for each in texts)
