"""`radserve evaluate fairness-trend`: the fairness of each period, and an alarm with a stated false-alarm rate.

The input is one CSV for each period, oldest first (its name is the file's, or NAME=FILE), or one CSV with a --date
column (YYYY-MM-DD...), cut into months, quarters or years. Rows as for `fairness`. The JSON object:

- `alpha`, `planned`, `ci_level`, `threshold`: the request; each review spends alpha / planned, half on the tests of the
  period, half on the slopes
- `reviews`: for each `period` its `n`; `gaps` and `tests` as of `fairness`; `slopes` (of the AUROC gap per period from
  the third period on: `attribute`, `group`, `versus`, `n_periods`, `slope`, `ci`, `p`, `p_adjusted`, `alarm`); `alarm`;
  `warnings`
- `alarm`, `first_alarm`: the first period that raised one

Exit code 0 with or without an alarm: read `alarm`. State --planned-reviews beforehand when the review is repeated.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from radserve.evaluation.fairness import MINIMUM_CLASS, MINIMUM_SIZE
from radserve.evaluation.fairness_trend import Period, fairness_trend
from radserve.evaluation.group_columns import group_columns
from radserve.evaluation.output import STDOUT, write_json
from radserve.evaluation.tables import Table, bad_cell, read_table, refusal


class Every(StrEnum):
    """The length of a period."""

    MONTH = "month"
    QUARTER = "quarter"
    YEAR = "year"


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("fairness-trend")(trend)


def trend(
    tables: Annotated[list[str], typer.Argument(metavar="[NAME=]SCORES.CSV...", help="One for each period.")],
    label: Annotated[str, typer.Option(help="Column of the truth: 0 and 1, or any two values with --positive.")],
    score: Annotated[str, typer.Option(help="Column of the score, higher is more likely positive.")],
    group: Annotated[list[str] | None, typer.Option(help="Column of groups; repeatable.")] = None,
    age: Annotated[str | None, typer.Option(help="Column of the age in years: groups by band.")] = None,
    date: Annotated[str | None, typer.Option(help="Column of the date, YYYY-MM-DD, in one table.")] = None,
    every: Annotated[Every, typer.Option(help="Length of the periods of --date.")] = Every.QUARTER,
    positive: Annotated[str | None, typer.Option(help="The value of --label that means positive.")] = None,
    threshold: Annotated[float, typer.Option(help="Scores >= X are called positive.")] = 0.5,
    planned_reviews: Annotated[int | None, typer.Option(help="Reviews that share alpha.")] = None,
    alpha: Annotated[float, typer.Option(help="False-alarm rate of all planned reviews together.")] = 0.05,
    minimum_size: Annotated[int, typer.Option(help="Smaller groups are insufficient.")] = MINIMUM_SIZE,
    minimum_class: Annotated[int, typer.Option(help="Least positives and negatives.")] = MINIMUM_CLASS,
    ci: Annotated[float, typer.Option(help="Level of the intervals.")] = 0.95,
    json_out: Annotated[str, typer.Option("--json", metavar="OUT|-", help="File of the result.")] = STDOUT,
) -> None:
    """Gaps between groups period by period, their slope, and an alarm."""
    if date is None:
        named = [_named(each) for each in tables]
    elif len(tables) > 1:
        raise refusal(f"--date: got {len(tables)} tables, expected one with all periods")
    else:
        named = list(_by_date(_named(tables[0])[1], date, every))
    periods = [
        Period(name, table.labels(label, positive), table.numbers(score), group_columns(table, group or (), age))
        for name, table in named
    ]
    found = fairness_trend(
        periods,
        threshold=threshold,
        planned=planned_reviews,
        alpha=alpha,
        ci_level=ci,
        minimum_size=minimum_size,
        minimum_class=minimum_class,
    )
    write_json(found, json_out)


def _named(text: str) -> tuple[str, Table]:
    name, equals, path = text.partition("=")
    return (name, read_table(Path(path))) if equals else (Path(text).stem, read_table(Path(text)))


def _by_date(table: Table, column: str, every: Every) -> Iterator[tuple[str, Table]]:
    names = np.array(_period_names(table.text(column), column, every))
    for name in np.unique(names):
        yield str(name), table.take(np.flatnonzero(names == name))


def _period_names(cells: Sequence[str], column: str, every: Every) -> list[str]:
    """Return names that sort by time: "2026", "2026-Q1" or "2026-01"."""
    names = []
    for row, cell in enumerate(cells, start=1):
        try:
            day = datetime.date.fromisoformat(cell.strip()[:10])
        except ValueError as error:
            raise bad_cell(column, row, cell, "a date as YYYY-MM-DD") from error
        quarter = (day.month + 2) // 3
        form = {Every.YEAR: "", Every.QUARTER: f"-Q{quarter}", Every.MONTH: f"-{day.month:02}"}
        names.append(f"{day.year:04}{form[every]}")
    return names
