"""`radserve evaluate site-summary` and `merge`: pool the counts of several sites; no row of any patient leaves one.

The summary's form stands in `site_summary.summary_to_json`, the merged one's in `merge.merged_to_json`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from radserve.evaluation.output import write_json
from radserve.evaluation.tables import read_table


def register(app: typer.Typer) -> None:
    """Add both commands to `app`."""
    app.command("site-summary")(site_summary)
    app.command("merge")(merge)


def site_summary(
    scores: Annotated[Path, typer.Argument(metavar="SCORES", help="CSV with one row per case (and finding).")],
    site: Annotated[str, typer.Option(help="Name of the site.")],
    model: Annotated[str, typer.Option(help="The model: its pipeline digest, or name and version.")],
    json: Annotated[str, typer.Option("--json", metavar="OUT|-", help="Where to write; - is stdout.")],
    label: Annotated[str, typer.Option(help="Column of the truth.")] = "label",
    positive: Annotated[str | None, typer.Option(help="The value of --label that means positive.")] = None,
    score: Annotated[str, typer.Option(help="Column of the score.")] = "score",
    threshold: Annotated[str, typer.Option(help="A number, or the column that holds it.")] = "threshold",
    finding: Annotated[str, typer.Option(help="Column of the finding, or a name where there is none.")] = "finding",
    group: Annotated[list[str] | None, typer.Option(help="Column by which to count too; repeatable.")] = None,
    bins: Annotated[int, typer.Option(min=0, max=100, help="Bins of the score from 0 to 1; 0 for none.")] = 20,
    smallest: Annotated[int, typer.Option(min=1, help="Groups with fewer cases are left out.")] = 10,
) -> None:
    """Count this site's cases for `merge`."""
    from radserve.evaluation.site_summary import SummaryColumns, summarise_site, summary_to_json

    columns = SummaryColumns(label, positive, score, threshold, finding, tuple(group or ()))
    summary = summarise_site(read_table(scores), columns, site=site, model=model, bins=bins, smallest=smallest)
    write_json(summary_to_json(summary), json)


def merge(
    summaries: Annotated[list[Path], typer.Argument(metavar="SUMMARY...", help="JSON of site-summary.")],
    json: Annotated[str, typer.Option("--json", metavar="OUT|-", help="Where to write; - is stdout.")],
    ci: Annotated[float, typer.Option(help="Level of the intervals.")] = 0.95,
) -> None:
    """Merge site summaries: pooled counts, rates with intervals, a test across sites."""
    from radserve.evaluation.merge import merged_to_json
    from radserve.evaluation.site_summary import read_summary

    write_json(merged_to_json([read_summary(each) for each in summaries], ci), json)
