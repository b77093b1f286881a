"""`radserve evaluate collect`: result folders and true labels into one table of scores."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    app.command("collect")(run)


def run(
    results: Annotated[Path, typer.Argument(help="Folder that `radserve infer` wrote.")],
    labels: Annotated[Path, typer.Option(help="CSV: study_instance_uid, finding, label, and any other columns.")],
    out: Annotated[Path, typer.Option(help="CSV to write.")],
) -> None:
    """Join the results of `radserve infer` with true labels, for every other evaluation."""
    from radserve.evaluation.collect import collect
    from radserve.evaluation.report_reader import PackReportReader
    from radserve.evaluation.tables import read_table

    collected = collect(results, read_table(labels), PackReportReader())
    collected.write(out)
    for warning in collected.warnings:
        typer.echo(f"warning: {warning}", err=True)
