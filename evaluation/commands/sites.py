"""`radserve evaluate sites`: the leave-one-site-out table.

The input has one row per image or case: a label, a score, its site (institution, scanner, country ...) and, with
--cluster, its patient. With --split, a patient with rows in two splits is refused first. The JSON object:

- `method` ("bootstrap" or "cluster-bootstrap"), `replicates`, `seed`, `ci_level`: the request
- `pooled`: `n`, `n_positive`, `n_negative`, `n_clusters`, `auroc`, `ci` of all rows
- `sites`: for each `site` the same block `on` it and `without` it, and `difference` = AUROC on it - without it
- `clusters_at_several_sites`: patients on both sides of a comparison
- `warnings`: why a value is null
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from radserve.evaluation.duplicates import check_split_by_patient
from radserve.evaluation.output import STDOUT, write_json
from radserve.evaluation.roc_options import DEFAULT_REPLICATES
from radserve.evaluation.sites import leave_one_site_out
from radserve.evaluation.tables import read_table, refusal


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("sites")(sites)


def sites(
    scores_csv: Annotated[Path, typer.Argument(metavar="SCORES.CSV", help="One row for each case, with a header.")],
    label: Annotated[str, typer.Option(help="Column of the truth: 0 and 1, or any two values with --positive.")],
    score: Annotated[str, typer.Option(help="Column of the score, higher is more likely positive.")],
    site: Annotated[str, typer.Option(help="Column of the site, scanner or country.")],
    positive: Annotated[str | None, typer.Option(help="The value of --label that means positive.")] = None,
    cluster: Annotated[str | None, typer.Option(help="Column of the patient: patients are drawn, not rows.")] = None,
    split: Annotated[str | None, typer.Option(help="Column of the split: no patient may be in two.")] = None,
    ci: Annotated[float, typer.Option(help="Level of the intervals.")] = 0.95,
    bootstrap: Annotated[int, typer.Option(help="Replicates.")] = DEFAULT_REPLICATES,
    seed: Annotated[int, typer.Option(help="Seed of the bootstrap.")] = 0,
    json_out: Annotated[str, typer.Option("--json", metavar="OUT|-", help="File of the result.")] = STDOUT,
) -> None:
    """AUROC on each site and pooled without it, with patient-level intervals."""
    table = read_table(scores_csv)
    patients = None if cluster is None else table.categories(cluster)
    if split is not None:
        if patients is None:
            raise refusal("--split: whether patients are split needs --cluster, the column of the patient")
        check_split_by_patient(table.categories(split), patients)
    found = leave_one_site_out(
        table.labels(label, positive),
        table.numbers(score),
        table.categories(site),
        clusters=patients,
        replicates=bootstrap,
        seed=seed,
        ci_level=ci,
    )
    write_json(found, json_out)
