"""`radserve evaluate decision-curve`: is it better to act on the model than on everybody or nobody?

The input has one row per case: a label and one or more probabilities. The JSON object:

- `n`, `n_positive`, `prevalence`, `prevalence_is_stated`, `thresholds`
- `strategies`: {`treat_all`, `treat_none`, COL ...}: `harm` and, at each threshold, `tp_rate`, `fp_rate` (fractions of
  all patients), `net_benefit`, `standardized_net_benefit`, `interventions_avoided` (net, per 100 patients)
- `warnings`: why a value is null
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from radserve.evaluation.decision_curve import as_probability, decision_curve, threshold_grid
from radserve.evaluation.output import STDOUT, to_jsonable, write_json
from radserve.evaluation.tables import FloatArray, read_table, refusal


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("decision-curve")(decision_curve_command)


def decision_curve_command(
    scores_csv: Annotated[Path, typer.Argument(metavar="SCORES.CSV", help="One row for each case, with a header.")],
    label: Annotated[str, typer.Option(help="Column of the truth: 0 and 1, or any two values with --positive.")],
    score: Annotated[list[str], typer.Option(help="Column of a probability of the positive class; repeatable.")],
    positive: Annotated[str | None, typer.Option(help="The value of --label that means positive.")] = None,
    thresholds: Annotated[str, typer.Option(help="START:STOP:STEP, or numbers with commas.")] = "0:0.99:0.01",
    prevalence: Annotated[float | None, typer.Option(help="Of the population, for a case-control sample.")] = None,
    harm: Annotated[list[str] | None, typer.Option(help="COL=H, net benefit lost by the test itself.")] = None,
    marker: Annotated[
        list[str] | None,
        typer.Option("--as-probability", help="A --score that is no probability: use its logistic fit; repeatable."),
    ] = None,
    json_out: Annotated[str, typer.Option("--json", metavar="OUT|-", help="File of the result.")] = STDOUT,
) -> None:
    """Net benefit and interventions avoided over threshold probabilities."""
    table = read_table(scores_csv)
    labels = table.labels(label, positive)
    if unknown := set(marker or ()) - set(score):
        raise refusal(f"--as-probability: got {unknown.pop()!r}, expected one of the --score columns")
    if marker and prevalence is not None:
        raise refusal("--as-probability: a case-control sample (--prevalence) gives no probabilities")
    probabilities = {column: table.numbers(column) for column in score}
    probabilities |= {column: as_probability(labels, probabilities[column]) for column in marker or ()}
    harms = dict(_harm(text) for text in harm or ())
    curve = decision_curve(
        labels, probabilities, thresholds=_thresholds(thresholds), prevalence=prevalence, harms=harms
    )
    notes = [f"{column} is a logistic fit on these same rows: optimistic" for column in marker or ()]
    result = to_jsonable(curve)
    write_json({**result, "warnings": [*curve.warnings, *notes]} if isinstance(result, dict) else result, json_out)


def _thresholds(text: str) -> FloatArray:
    try:
        if ":" in text:
            start, stop, step = (float(part) for part in text.split(":"))
            return threshold_grid(start, stop, step)
        return np.array([float(part) for part in text.split(",")])
    except ValueError:
        raise refusal(f"--thresholds: got {text!r}, expected START:STOP:STEP or numbers with commas") from None


def _harm(text: str) -> tuple[str, float]:
    column, _, value = text.rpartition("=")
    try:
        return column, float(value)
    except ValueError:
        raise refusal(f"--harm: got {text!r}, expected COL=NUMBER") from None
