"""`radserve evaluate compare`: is model A better than model B, over their common scores."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from radserve.evaluation.compare import CompareOptions, as_text, compare_results, compare_tables, read_result
from radserve.evaluation.output import STDOUT, write_json, write_text
from radserve.evaluation.tables import read_table, refusal


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("compare")(compare)


def compare(
    a: Annotated[Path, typer.Argument(metavar="A", help="CSV of scores, or a JSON result of `evaluate roc`.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="The same of the other model.")],
    label: Annotated[str | None, typer.Option(help="Column of the truth; needed for CSV.")] = None,
    positive: Annotated[str | None, typer.Option(help="The value of --label that means positive.")] = None,
    score: Annotated[list[str] | None, typer.Option(help="Score in both; repeatable; all common ones without.")] = None,
    id_column: Annotated[str | None, typer.Option("--id", help="Column that joins the cases; else row by row.")] = None,
    cluster: Annotated[str | None, typer.Option(help="Column of the patient: clustered variances.")] = None,
    unpaired: Annotated[bool, typer.Option("--unpaired", help="A and B hold different cases.")] = False,
    ci: Annotated[float, typer.Option(help="Level of the intervals of A - B.")] = 0.95,
    json_out: Annotated[
        str | None, typer.Option("--json", metavar="OUT|-", help="JSON too; - alone to stdout.")
    ] = None,
) -> None:
    """Test A against B, score by score: difference A - B with interval, p values with Holm's correction."""
    kinds = {path.suffix.lower() == ".json" for path in (a, b)}
    if kinds == {True, False}:
        raise refusal(f"got {a.name} and {b.name}, expected two CSV files or two JSON results")
    if kinds == {True}:
        result = compare_results(read_result(a), read_result(b), ci)
    elif label is None:
        raise refusal("--label: got none, expected the column of the truth")
    else:
        options = CompareOptions(label, positive, tuple(score or ()), id_column, cluster, unpaired, ci)
        result = compare_tables(read_table(a), read_table(b), options)
    if json_out is not None:
        write_json(result, json_out)
    if json_out != STDOUT:
        write_text(as_text(result), STDOUT)
