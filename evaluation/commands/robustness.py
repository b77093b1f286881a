"""`radserve evaluate robustness`: how much does the model lose when its images get worse?

Scoring images is the model's work; this command reads its scores. The input has one row per image: a label, the score
of the clean image (--clean) and the score of each corrupted one, in columns named CORRUPTION@SEVERITY, such as
`gaussian_noise@3` (severity 1 to 5), or named with --corrupted CORRUPTION@SEVERITY=COL. The corruptions are those of
`radserve.evaluation.corruptions`, or anybody's. --baseline names a table of the same form made by a baseline model.
The JSON object:

- `n`, `threshold`, `clean_auroc`, `clean_balanced_error`
- `conditions`: for each corruption and severity `auroc`, `auroc_drop` (clean - corrupted) with `auroc_drop_ci` and
  `auroc_drop_p` (DeLong, paired), `flip_rate` with `flip_rate_ci`, `balanced_error`, `mean_score_change`
- `corruptions`: over the severities `mean_auroc_drop`, `mean_flip_rate`, and relative to the baseline
  `corruption_error` and `relative_error` (MedMNIST-C; 1 for the baseline model itself)
- `mean_auroc_drop`, `mean_flip_rate`, `mean_corruption_error`, `mean_relative_error`: over the corruptions
- `warnings`: why a value is null
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from radserve.evaluation.output import STDOUT, write_json
from radserve.evaluation.robustness import Condition, assess_robustness
from radserve.evaluation.tables import FloatArray, Table, read_table, refusal

_CONDITION = re.compile(r"(?P<corruption>.+)@(?P<severity>[1-5])")


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("robustness")(robustness)


def robustness(
    scores_csv: Annotated[Path, typer.Argument(metavar="SCORES.CSV", help="One row for each image, with a header.")],
    label: Annotated[str, typer.Option(help="Column of the truth: 0 and 1, or any two values with --positive.")],
    clean: Annotated[str, typer.Option(help="Column of the scores of the clean images.")] = "clean",
    corrupted: Annotated[
        list[str] | None,
        typer.Option(help="CORRUPTION@SEVERITY=COL; all columns named CORRUPTION@SEVERITY unless given; repeatable."),
    ] = None,
    positive: Annotated[str | None, typer.Option(help="The value of --label that means positive.")] = None,
    threshold: Annotated[float, typer.Option(help="Scores >= X are called positive.")] = 0.5,
    baseline: Annotated[Path | None, typer.Option(help="The same table by a baseline model.")] = None,
    baseline_threshold: Annotated[float | None, typer.Option(help="That of the model unless given.")] = None,
    ci: Annotated[float, typer.Option(help="Level of the intervals.")] = 0.95,
    json_out: Annotated[str, typer.Option("--json", metavar="OUT|-", help="File of the result.")] = STDOUT,
) -> None:
    """AUROC drop, prediction flips and relative error under corruptions of severity 1 to 5."""
    table = read_table(scores_csv)
    labels = table.labels(label, positive)
    columns = _columns(table, corrupted)
    other = None if baseline is None else read_table(baseline)
    if other is not None and not np.array_equal(other.labels(label, positive), labels):
        raise refusal(f"--baseline: the labels in {other.source} are not those of {table.source}, row by row")
    found = assess_robustness(
        labels,
        table.numbers(clean),
        _scores(table, columns),
        threshold=threshold,
        ci_level=ci,
        baseline_clean=None if other is None else other.numbers(clean),
        baseline=None if other is None else _scores(other, columns),
        baseline_threshold=baseline_threshold,
    )
    write_json(found, json_out)


def _columns(table: Table, named: list[str] | None) -> dict[Condition, str]:
    """The column of each condition: as named, or every column whose name says so."""
    pairs = [text.partition("=")[::2] for text in named] if named else [(name, name) for name in table.columns]
    columns: dict[Condition, str] = {}
    for condition, column in pairs:
        match = _CONDITION.fullmatch(condition)
        if match is None and named:
            raise refusal(f"--corrupted: got {condition!r}, expected CORRUPTION@SEVERITY=COL with severity 1 to 5")
        if match is not None:
            columns[match["corruption"], int(match["severity"])] = column
    if not columns:
        raise refusal(f"{table.source} has no column named CORRUPTION@SEVERITY, such as gaussian_noise@3")
    return columns


def _scores(table: Table, columns: Mapping[Condition, str]) -> dict[Condition, FloatArray]:
    return {condition: table.numbers(column) for condition, column in columns.items()}
