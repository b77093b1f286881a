"""`radserve evaluate report-text`: generated reports against reference reports.

The JSON object:

- `n`, `labeller_version`, `settings` {`ci_level`, `bootstrap`, `randomisation`, `seed`, `uncertain_is_positive`}
- `hypotheses`: {COL: {METRIC: {`value`, `ci` [low, high]}, `labels`: {LABEL: {`support`, `precision`, `recall`, `f1`}},
  `heavy`: {METRIC: {`value`, `status`, `reason`}}}}; METRIC is bleu (0 to 100), rouge_1, rouge_2, rouge_l, meteor_like,
  cider (0 to 10), label_f1_micro, label_f1_macro, entity_f1, and those of plug-ins
- `comparisons`: [{`a`, `b`, `metric`, `difference` (A - B), `p_two_sided`, `p_greater`, `p_less`, `p_holm`}], with
  Holm's correction over all of them; `warnings`
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from radserve.evaluation.output import write_json
from radserve.evaluation.tables import read_table, refusal


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("report-text")(report_text)


def report_text(
    reports: Annotated[Path, typer.Argument(metavar="REPORTS", help="CSV with one row per study.")],
    reference: Annotated[list[str], typer.Option(help="Column of reference reports; repeatable.")],
    hypothesis: Annotated[list[str], typer.Option(help="Column of generated reports; two or more are compared.")],
    json: Annotated[str, typer.Option("--json", metavar="OUT|-", help="Where to write the result; - is stdout.")],
    ci: Annotated[float, typer.Option(help="Level of the intervals.")] = 0.95,
    bootstrap: Annotated[int, typer.Option(min=0, help="Bootstrap samples of the intervals; 0 for none.")] = 1000,
    randomisation: Annotated[int, typer.Option(min=1, help="Samples of the paired tests.")] = 10_000,
    seed: Annotated[int, typer.Option(help="Seed of both.")] = 0,
    uncertain_is_positive: Annotated[
        bool, typer.Option("--uncertain-is-positive", help="Count uncertain findings as positive.")
    ] = False,
    rules: Annotated[Path | None, typer.Option(help="TOML rules of the labeller, else the shipped ones.")] = None,
    heavy: Annotated[Path | None, typer.Option(help="TOML with the commands of the neural metrics.")] = None,
) -> None:
    """BLEU, ROUGE, METEOR-like, CIDEr, label F1 and entity F1, with intervals and paired tests."""
    from radserve.evaluation.heavy_metrics import read_scorers
    from radserve.evaluation.labeller import Labeller
    from radserve.evaluation.report_metrics import REPORT_METRICS
    from radserve.evaluation.report_text import TextOptions, evaluate_reports
    from radserve.plugins import load

    if not 0 < ci < 1:
        raise refusal(f"--ci: got {ci}, expected a number between 0 and 1")
    table = read_table(reports)
    references = list(zip(*(table.text(column) for column in reference), strict=True))
    systems = {column: table.text(column) for column in hypothesis}
    labeller = Labeller.from_file(rules) if rules else Labeller()
    scorers = read_scorers(heavy) if heavy else {}
    options = TextOptions(ci, bootstrap, randomisation, seed, uncertain_is_positive, scorers, load(REPORT_METRICS))
    write_json(evaluate_reports(references, systems, labeller, options), json)
