"""`radserve evaluate fairness`: does the model serve all groups alike?

The input has one row per case: a label, a score and one or more group columns (sex, site ...). The JSON object:

- `threshold`, `minimum_size`, `ci_level`, `alpha`, `correction`: the request
- `overall` and `groups`: `attribute`, `group`, `status` ("sufficient" or "insufficient"), `n`, `n_positive`,
  `n_negative`; `auroc` (`value`, `variance`, `ci`), `tpr`, `fpr`, `selection_rate`, `underdiagnosis_rate` (`value`,
  `low`, `high`, `count`, `of`): null where there are too few patients
- `gaps`: for each attribute and measure the groups with the `highest` and the `lowest` value, `difference`,
  `difference_ci`, `ratio`
- `tests`: `attribute`, `measure`, `group`, `versus`, `method`, `difference`, `p`, `p_adjusted`, `rejected`
- `unfair`: a test is rejected at `alpha` after correction over all tests
- `warnings`: why a value is null

The underdiagnosis rate is the fraction of patients with the finding who are called free of it.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from radserve.evaluation.fairness import MINIMUM_CLASS, MINIMUM_SIZE, age_bands, assess_fairness, with_intersections
from radserve.evaluation.group_measures import UnderdiagnosisOf
from radserve.evaluation.multiplicity import Correction
from radserve.evaluation.output import STDOUT, write_json
from radserve.evaluation.tables import MISSING, Table, bad_cell, read_table, refusal


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("fairness")(fairness)


def fairness(
    scores_csv: Annotated[Path, typer.Argument(metavar="SCORES.CSV", help="One row for each case, with a header.")],
    label: Annotated[str, typer.Option(help="Column of the truth: 0 and 1, or any two values with --positive.")],
    score: Annotated[str, typer.Option(help="Column of the score, higher is more likely positive.")],
    group: Annotated[list[str] | None, typer.Option(help="Column of groups; repeatable.")] = None,
    age: Annotated[str | None, typer.Option(help="Column of the age in years: groups by band.")] = None,
    positive: Annotated[str | None, typer.Option(help="The value of --label that means positive.")] = None,
    threshold: Annotated[float, typer.Option(help="Scores >= X are called positive.")] = 0.5,
    intersections: Annotated[bool, typer.Option(help="Also every pair of group columns.")] = True,
    minimum_size: Annotated[int, typer.Option(help="Smaller groups are insufficient.")] = MINIMUM_SIZE,
    minimum_class: Annotated[int, typer.Option(help="Least positives and negatives.")] = MINIMUM_CLASS,
    ci: Annotated[float, typer.Option(help="Level of the intervals.")] = 0.95,
    alpha: Annotated[float, typer.Option(help="Level of the tests, after correction.")] = 0.05,
    correction: Annotated[Correction, typer.Option(help="Of the p-values for all tests.")] = Correction.HOLM,
    underdiagnosis_of: Annotated[
        UnderdiagnosisOf, typer.Option("--label-means", help="What a positive label means.")
    ] = UnderdiagnosisOf.FINDING,
    permutations: Annotated[int, typer.Option(help="Also a permutation test of each AUROC gap.")] = 0,
    seed: Annotated[int, typer.Option(help="Seed of the permutations.")] = 0,
    json_out: Annotated[str, typer.Option("--json", metavar="OUT|-", help="File of the result.")] = STDOUT,
) -> None:
    """AUROC, TPR, FPR and underdiagnosis by group and intersection, with gaps and corrected tests."""
    table = read_table(scores_csv)
    attributes: dict[str, tuple[str, ...]] = {column: _groups(table, column) for column in group or ()}
    if age is not None:
        attributes[f"{age} band"] = age_bands(_ages(table, age))
    if not attributes:
        raise refusal("fairness: got no group column, expected --group or --age")
    found = assess_fairness(
        table.labels(label, positive),
        table.numbers(score),
        with_intersections(attributes) if intersections else attributes,
        threshold=threshold,
        minimum_size=minimum_size,
        minimum_class=minimum_class,
        ci_level=ci,
        alpha=alpha,
        correction=correction,
        underdiagnosis_of=underdiagnosis_of,
        n_permutations=permutations,
        seed=seed,
    )
    write_json(found, json_out)


def _groups(table: Table, column: str) -> tuple[str, ...]:
    return tuple("" if cell.strip().lower() in MISSING else cell.strip() for cell in table.text(column))


def _ages(table: Table, column: str) -> list[float | None]:
    ages: list[float | None] = []
    for row, cell in enumerate(table.text(column), start=1):
        if cell.strip().lower() in MISSING:
            ages.append(None)
            continue
        try:
            years = float(cell)
        except ValueError:
            years = math.nan
        if not 0 <= years <= 150:
            raise bad_cell(column, row, cell, "an age from 0 to 150 years")
        ages.append(years)
    return ages
