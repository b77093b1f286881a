"""`radserve evaluate usability`: System Usability Scale, what readers did with drafts, agreement of raters.

The JSON object has `sus` {`mean`, `ci`, `n`, `scores`}, `decisions` {accepted, edited, rejected: {`rate`, `ci`, `n`}},
`edit_rate` {`mean`, `ci`, `n`}, `icc` {form: {`value`, `ci`, `statistic`, `df1`, `df2`, `p`}}; what no table was given
for is null. `value`, `interval` and `n` are the SUS on the survey's 1 to 10 (1 + 9 x SUS / 100). Nothing that names a
person is read or written.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from radserve.evaluation.output import write_json
from radserve.evaluation.tables import read_table, refusal


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("usability")(usability)


def usability(
    json: Annotated[str, typer.Option("--json", metavar="OUT|-", help="Where to write the result; - is stdout.")],
    sus: Annotated[Path | None, typer.Option(help="CSV with columns q1 to q10, one row per person.")] = None,
    decisions: Annotated[
        Path | None, typer.Option(help="CSV with a column decision; draft and final if known.")
    ] = None,
    ratings: Annotated[
        Path | None, typer.Option(help="CSV of ratings: one row per subject, one column a rater.")
    ] = None,
    ci: Annotated[float, typer.Option(help="Level of the intervals.")] = 0.95,
) -> None:
    """Usability answers, acceptance and edit rates, and the six intraclass correlations."""
    if not (sus or decisions or ratings):
        raise refusal("expected --sus, --decisions or --ratings")
    if not 0 < ci < 1:
        raise refusal(f"--ci: got {ci}, expected a number between 0 and 1")
    result: dict[str, Any] = {"value": None, "interval": None, "n": None, "ci_level": ci}
    result |= {"sus": None, "decisions": None, "edit_rate": None, "icc": None}
    if sus:
        result |= _sus(sus, ci)
    if decisions:
        result |= _decisions(decisions, ci)
    if ratings:
        result["icc"] = _icc(ratings, ci)
    write_json(result, json)


def _sus(path: Path, level: float) -> dict[str, Any]:
    import numpy as np

    from radserve.evaluation.user_experience import mean_interval, sus_scores

    table = read_table(path)
    scores = sus_scores(np.column_stack([table.numbers(f"q{item}") for item in range(1, 11)]))
    mean = mean_interval(scores, level)
    points = [1 + 9 * each / 100 if each is not None else None for each in (mean.mean, mean.low, mean.high)]
    interval = None if mean.low is None else points[1:]
    return {
        "value": points[0],
        "interval": interval,
        "n": mean.n,
        "sus": {"mean": mean.mean, "ci": [mean.low, mean.high], "n": mean.n, "scores": np.sort(scores)},
    }


def _decisions(path: Path, level: float) -> dict[str, Any]:
    import numpy as np

    from radserve.evaluation.user_experience import decision_rates, edit_rate, mean_interval

    table = read_table(path)
    rates = decision_rates(table.categories("decision"), level)
    found: dict[str, Any] = {
        "decisions": {
            name.value: {"rate": each.value, "ci": [each.low, each.high], "n": each.of} for name, each in rates.items()
        }
    }
    if {"draft", "final"} <= set(table.columns):
        pairs = zip(table.text("draft"), table.text("final"), strict=True)
        mean = mean_interval(np.array([edit_rate(draft, final) for draft, final in pairs]), level)
        found["edit_rate"] = {"mean": mean.mean, "ci": [mean.low, mean.high], "n": mean.n}
    return found


def _icc(path: Path, level: float) -> dict[str, Any]:
    import numpy as np

    from radserve.evaluation.icc import icc

    table = read_table(path)
    forms = icc(np.column_stack([table.numbers(name) for name in table.columns]), level)
    return {
        form.value: {
            "value": each.value,
            "ci": [each.low, each.high],
            "statistic": each.statistic,
            "df1": each.df1,
            "df2": each.df2,
            "p": each.p,
        }
        for form, each in forms.items()
    }
