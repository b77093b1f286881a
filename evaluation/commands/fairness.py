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

With several --score columns (models of different size, say) the object is {`scores`: {COL: the object above},
`comparisons`, `bootstrap`: {`replicates`, `seed`, `clustered`}, `warnings`}. A comparison of each two columns has
`attribute`, `measure` (auroc, tpr, fpr), `a` and `b` (`score`, `highest_group`, `lowest_group`, `gap`, `ci`),
`difference` = gap of A - gap of B, `difference_ci`, `method` (paired bootstrap; the same draws for both), `replicates`.

The underdiagnosis rate is the fraction of patients with the finding who are called free of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from radserve.evaluation.fairness import MINIMUM_CLASS, MINIMUM_SIZE, assess_fairness, with_intersections
from radserve.evaluation.gap_comparison import Model, compare_gaps
from radserve.evaluation.group_columns import group_columns
from radserve.evaluation.group_measures import UnderdiagnosisOf
from radserve.evaluation.multiplicity import Correction
from radserve.evaluation.output import STDOUT, without_repeats, write_json
from radserve.evaluation.roc_options import DEFAULT_REPLICATES
from radserve.evaluation.tables import read_table, refusal

DEFAULT_THRESHOLD = 0.5


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("fairness")(fairness)


def fairness(
    scores_csv: Annotated[Path, typer.Argument(metavar="SCORES.CSV", help="One row for each case, with a header.")],
    label: Annotated[str, typer.Option(help="Column of the truth: 0 and 1, or any two values with --positive.")],
    score: Annotated[list[str], typer.Option(help="Column of the score, higher is more likely positive; repeatable.")],
    group: Annotated[list[str] | None, typer.Option(help="Column of groups; repeatable.")] = None,
    age: Annotated[str | None, typer.Option(help="Column of the age in years: groups by band.")] = None,
    positive: Annotated[str | None, typer.Option(help="The value of --label that means positive.")] = None,
    threshold: Annotated[
        list[float] | None, typer.Option(help="Scores >= X are called positive; one, or one for each --score.")
    ] = None,
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
    cluster: Annotated[str | None, typer.Option(help="Column of the patient, for the comparison.")] = None,
    bootstrap: Annotated[int, typer.Option(help="Replicates of the comparison.")] = DEFAULT_REPLICATES,
    seed: Annotated[int, typer.Option(help="Seed of the permutations and the bootstrap.")] = 0,
    json_out: Annotated[str, typer.Option("--json", metavar="OUT|-", help="File of the result.")] = STDOUT,
) -> None:
    """AUROC, TPR, FPR and underdiagnosis by group and intersection, with gaps and corrected tests."""
    table = read_table(scores_csv)
    attributes = group_columns(table, group or (), age)
    groups = with_intersections(attributes) if intersections else attributes
    labels = table.labels(label, positive)
    if cluster is not None and len(score) == 1:
        raise refusal("--cluster: is for the comparison of several --score columns, got one")
    models = []
    for column, cut in zip(score, _thresholds(threshold or [DEFAULT_THRESHOLD], len(score)), strict=True):
        values = table.numbers(column)
        found = assess_fairness(
            labels,
            values,
            groups,
            threshold=cut,
            minimum_size=minimum_size,
            minimum_class=minimum_class,
            ci_level=ci,
            alpha=alpha,
            correction=correction,
            underdiagnosis_of=underdiagnosis_of,
            n_permutations=permutations,
            seed=seed,
        )
        models.append(Model(column, values, cut, found))
    if len(models) == 1:
        write_json(models[0].fairness, json_out)
        return
    patients = None if cluster is None else table.categories(cluster)
    compared = compare_gaps(labels, models, groups, clusters=patients, replicates=bootstrap, seed=seed, ci_level=ci)
    write_json(
        {
            "scores": {model.name: model.fairness for model in models},
            "comparisons": compared,
            "bootstrap": {"replicates": bootstrap, "seed": seed, "clustered": cluster is not None},
            "warnings": without_repeats(note for each in compared for note in each.warnings),
        },
        json_out,
    )


def _thresholds(values: Sequence[float], n: int) -> Sequence[float]:
    if len(values) not in (1, n):
        raise refusal(f"--threshold: got {len(values)} for {n} --score, expected one, or one for each")
    return values if len(values) == n else [values[0]] * n
