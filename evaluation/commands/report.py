"""`radserve evaluate report`: the whole evaluation of a model as one JSON file and one HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    app.command("report")(run)


def run(
    plan: Annotated[Path, typer.Argument(help="TOML plan (docs/evaluation.md).")],
    json: Annotated[str, typer.Option(help="JSON file to write, - for the standard output.")],
    html: Annotated[Path | None, typer.Option(help="HTML page to write.")] = None,
) -> None:
    """Measure all seventeen indicators, or say why one was not measured."""
    from radserve.evaluation.output import write_json, write_text
    from radserve.evaluation.report.json_form import report_to_json
    from radserve.evaluation.report.page import report_page
    from radserve.evaluation.report.plan import read_plan
    from radserve.evaluation.report.rows import make_report

    report = make_report(read_plan(plan))
    write_json(report_to_json(report), json)
    if html:
        write_text(report_page(report), str(html))
