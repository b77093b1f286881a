"""`radserve evaluate drift`: has the cohort changed since the reference?

Both inputs have one row per study and the same columns of numbers (scores, ages, image statistics). The JSON object:

- `alpha`: the stated false-alarm rate of the whole run; `alarm`
- `features`: {COL: `n_reference`, `n_current`, `ks_statistic`, `p`, `p_adjusted` (Holm), `psi`, `psi_p`, `alarm`}
- `joint`: `mmd_squared` of all columns together, its permutation `p`, `bandwidth`, `alarm`
- `monitoring`: with --window, {COL: `window`, `p_values` of consecutive windows, `first_alarm_window` (from 0),
  `first_alarm_study` (from 1)}; each column at alpha / columns
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from radserve.evaluation.drift import cohort_drift, monitor
from radserve.evaluation.output import STDOUT, write_json
from radserve.evaluation.tables import read_table


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("drift")(drift)


def drift(
    reference_csv: Annotated[Path, typer.Argument(metavar="REFERENCE.CSV", help="The cohort to compare with.")],
    current_csv: Annotated[Path, typer.Argument(metavar="CURRENT.CSV", help="The cohort now, oldest study first.")],
    column: Annotated[list[str], typer.Option(help="Column of numbers in both; repeatable.")],
    alpha: Annotated[float, typer.Option(help="False-alarm rate of the whole run.")] = 0.01,
    permutations: Annotated[int, typer.Option(help="Of the joint test.")] = 999,
    seed: Annotated[int, typer.Option(help="Seed of the permutations.")] = 0,
    window: Annotated[int | None, typer.Option(help="Also test windows of so many studies.")] = None,
    json_out: Annotated[str, typer.Option("--json", metavar="OUT|-", help="File of the result.")] = STDOUT,
) -> None:
    """Kolmogorov-Smirnov, stability index and maximum mean discrepancy between two cohorts."""
    before, after = read_table(reference_csv), read_table(current_csv)
    reference = {name: before.numbers(name) for name in column}
    current = {name: after.numbers(name) for name in column}
    found = cohort_drift(reference, current, alpha=alpha, n_permutations=permutations, seed=seed)
    result: dict[str, object] = {
        "alpha": found.alpha,
        "alarm": found.alarm,
        "features": found.features,
        "joint": found.joint,
    }
    if window is not None:
        result["monitoring"] = {
            name: monitor(reference[name], current[name], window=window, alpha=alpha / len(reference))
            for name in reference
        }
    write_json(result, json_out)
