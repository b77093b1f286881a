"""`radserve evaluate prevalence`: how common each finding is, and the predictive values where that is otherwise.

The input has one row per case and one or more label columns of 0 and 1 (an empty cell: not known, left out and
counted); each --score belongs to the --label at its place. The JSON object:

- `support`: for each `label` and `group` ("(all)" and, with --group, each value): `n`, `n_missing`, `n_positive`,
  `n_negative`, `prevalence` (`value`, `low`, `high`, `count`, `of`; Wilson)
- `shift`: {LABEL: `score`, `threshold`, `sensitivity`, `specificity`, `observed_prevalence`, `studies`, `draws`,
  `seed`, `grid`: for each `prevalence` `ppv`, `ppv_ci`, `npv`, `npv_ci` (Bayes' formula, logit intervals) and what
  `studies` studies show, `simulated_ppv` and `simulated_npv` (`mean`, `low`, `high`)}; null for a label of one class
- `warnings`: why a value is null

PPV and NPV assume that sensitivity and specificity stay as measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from radserve.evaluation.output import STDOUT, write_json
from radserve.evaluation.prevalence import GRID, prevalence_shift, support
from radserve.evaluation.tables import MISSING, BoolArray, Table, binary_labels, read_table, refusal


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("prevalence")(prevalence)


def prevalence(
    scores_csv: Annotated[Path, typer.Argument(metavar="SCORES.CSV", help="One row for each case, with a header.")],
    label: Annotated[list[str], typer.Option(help="Column of a finding, 0 and 1; repeatable.")],
    score: Annotated[list[str] | None, typer.Option(help="Column of its score; one for each --label.")] = None,
    threshold: Annotated[list[float] | None, typer.Option(help="Positive from X on; one or one for each.")] = None,
    group: Annotated[str | None, typer.Option(help="Column: support also for each of its values.")] = None,
    at: Annotated[list[float] | None, typer.Option(help=f"Prevalence of the grid; else {GRID}.")] = None,
    ci: Annotated[float, typer.Option(help="Level of the intervals.")] = 0.95,
    studies: Annotated[int, typer.Option(help="Studies of each simulated cohort.")] = 1000,
    draws: Annotated[int, typer.Option(help="Simulated cohorts.")] = 1000,
    seed: Annotated[int, typer.Option(help="Seed of the simulation.")] = 0,
    json_out: Annotated[str, typer.Option("--json", metavar="OUT|-", help="File of the result.")] = STDOUT,
) -> None:
    """Prevalence and support of each label; PPV and NPV over a grid of prevalences."""
    table = read_table(scores_csv)
    if score and len(score) != len(label):
        raise refusal(f"--score: got {len(score)} for {len(label)} --label, expected one for each, in their order")
    thresholds = _for_each(threshold or [0.5], len(label))
    labels = {name: _labels(table, name) for name in label}
    shift: dict[str, object] = {}
    warnings: list[str] = []
    for name, column, cut in zip(label, score or (), thresholds, strict=False):
        positive, known = labels[name]
        if len(set(positive[known].tolist())) < 2:
            warnings.append(f"{name}: its known rows are of one class, the shift is null")
            shift[name] = None
            continue
        found = prevalence_shift(
            positive[known],
            table.numbers(column)[known],
            threshold=cut,
            grid=tuple(at or GRID),
            ci_level=ci,
            studies=studies,
            draws=draws,
            seed=seed,
        )
        warnings += [f"{name}: {note}" for note in found.warnings]
        block = asdict(replace(found, warnings=()))
        del block["warnings"]
        shift[name] = {"score": column, **block}
    groups = None if group is None else table.categories(group)
    rows_of_support = support(labels, groups, ci)
    warnings += [f"{each.label}, {each.group}: no row has a label" for each in rows_of_support if each.n == 0]
    write_json({"ci_level": ci, "support": rows_of_support, "shift": shift, "warnings": warnings}, json_out)


def _for_each(values: Sequence[float], n: int) -> Sequence[float]:
    if len(values) not in (1, n):
        raise refusal(f"--threshold: got {len(values)} for {n} --label, expected one, or one for each")
    return values if len(values) == n else [values[0]] * n


def _labels(table: Table, column: str) -> tuple[BoolArray, BoolArray]:
    """Return which rows are positive and which are known; one class alone is allowed here, it is what we count."""
    cells = table.text(column)
    known = np.array([cell.strip().lower() not in MISSING for cell in cells])
    filled = ["0" if not there else cell for cell, there in zip(cells, known, strict=True)]
    both = binary_labels(column, [*filled, "0", "1"])  # two rows more, so that a single class is no error
    return both[:-2], known
