"""`radserve evaluate roc`: areas under ROC curves with their inference, from a CSV of scores."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, cast, get_args

import typer

from radserve.evaluation.auc_tests import Scale
from radserve.evaluation.output import STDOUT, write_json
from radserve.evaluation.partial_auc import Focus
from radserve.evaluation.roc_options import RocOptions
from radserve.evaluation.roc_report import evaluate_roc
from radserve.evaluation.tables import read_table, refusal


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("roc")(roc)


def roc(
    scores_csv: Annotated[Path, typer.Argument(metavar="SCORES.CSV", help="One row for each case, with a header.")],
    label: Annotated[str, typer.Option(help="Column of the truth: 0 and 1, or any two values with --positive.")],
    score: Annotated[list[str], typer.Option(help="Column of a score, higher is more likely positive; repeatable.")],
    positive: Annotated[str | None, typer.Option(help="The value of --label that means positive.")] = None,
    ci: Annotated[float, typer.Option(help="Level of the intervals.")] = 0.95,
    interval: Annotated[str, typer.Option(help="symmetric or logit: the scale of DeLong's interval.")] = "symmetric",
    partial_auc: Annotated[str | None, typer.Option(help="Bounds of the partial AUC: 1,0.9")] = None,
    focus: Annotated[str, typer.Option(help="specificity or sensitivity: what the bounds bound.")] = "specificity",
    compare: Annotated[list[str] | None, typer.Option(help="COL:COL, tests A - B; repeatable.")] = None,
    unpaired: Annotated[bool, typer.Option("--unpaired", help="Test as if the scores were of other cases.")] = False,
    threshold: Annotated[float | None, typer.Option(help="Rates when scores >= X are called positive.")] = None,
    at_sensitivity: Annotated[float | None, typer.Option(help="The most specific point of this sensitivity.")] = None,
    at_specificity: Annotated[float | None, typer.Option(help="The most sensitive point of this specificity.")] = None,
    prevalence: Annotated[float | None, typer.Option(help="Predictive values at this prevalence too.")] = None,
    group: Annotated[str | None, typer.Option(help="Column: the same block for each of its values.")] = None,
    cluster: Annotated[str | None, typer.Option(help="Column of the patient: intervals by patient.")] = None,
    bootstrap: Annotated[int, typer.Option(help="Replicates; intervals come from the bootstrap.")] = 0,
    seed: Annotated[int, typer.Option(help="Seed of the bootstrap.")] = 0,
    json_out: Annotated[
        str, typer.Option("--json", metavar="OUT|-", help="File of the result, - for stdout.")
    ] = STDOUT,
) -> None:
    """Areas under ROC curves: DeLong intervals and tests, partial areas, operating points, groups."""
    for name, value, allowed in (("--interval", interval, get_args(Scale)), ("--focus", focus, get_args(Focus))):
        if value not in allowed:
            raise refusal(f"{name}: got {value!r}, expected {' or '.join(allowed)}")
    options = RocOptions(
        label=label,
        scores=tuple(score),
        positive=positive,
        level=ci,
        scale=cast(Scale, interval),
        partial=None if partial_auc is None else _bounds(partial_auc),
        focus=cast(Focus, focus),
        compare=tuple(_pair(text, score) for text in compare or ()),
        unpaired=unpaired,
        threshold=threshold,
        at_sensitivity=at_sensitivity,
        at_specificity=at_specificity,
        prevalence=prevalence,
        group=group,
        cluster=cluster,
        replicates=bootstrap,
        seed=seed,
    )
    write_json(evaluate_roc(read_table(scores_csv), options), json_out)


def _bounds(text: str) -> tuple[float, float]:
    try:
        first, second = (float(part) for part in text.split(","))
    except ValueError:
        raise refusal(f"--partial-auc: got {text!r}, expected two numbers such as 1,0.9") from None
    return first, second


def _pair(text: str, columns: list[str]) -> tuple[str, str]:
    """Split COL:COL; a colon inside a column's name is told apart by the names of the columns."""
    splits = [(text[:at], text[at + 1 :]) for at, letter in enumerate(text) if letter == ":"]
    known = [pair for pair in splits if pair[0] in columns and pair[1] in columns]
    if known or len(splits) == 1:
        return (known or splits)[0]
    raise refusal(f"--compare: got {text!r}, expected COL:COL of two --score columns")
