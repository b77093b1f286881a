"""`radserve evaluate hallucination`: how often generated text went beyond the findings and was withheld.

The input is result.json files, or folders in which they lie at any depth (`radserve infer --out`). The JSON object:

- `results`, `without_text`: how many there are, and how many without generated text
- `texts`, `withheld`, `withheld_rate` {`value`, `low`, `high`, `level`} (Clopper and Pearson)
- `sentences`, `faults` and `faults_per_sentence` by class: contradicted, unsupported, omitted, invented_comparison,
  wrong_laterality, without_evidence
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from radserve.evaluation.hallucination import hallucination_rates
from radserve.evaluation.output import STDOUT, write_json
from radserve.evaluation.tables import refusal


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("hallucination")(hallucination)


def hallucination(
    results: Annotated[list[Path], typer.Argument(metavar="RESULTS", help="result.json files, or folders of them.")],
    level: Annotated[float, typer.Option(help="Level of the interval.")] = 0.95,
    json_out: Annotated[str, typer.Option("--json", metavar="OUT|-", help="File of the result.")] = STDOUT,
) -> None:
    """How many texts were withheld, and which faults the checker found in them."""
    write_json(hallucination_rates(_read(results), level), json_out)


def _read(paths: list[Path]) -> Iterator[dict[str, Any]]:
    for path in paths:
        for file in sorted(path.rglob("result.json")) if path.is_dir() else [path]:
            try:
                yield json.loads(file.read_text(encoding="utf-8"))
            except (OSError, ValueError):
                raise refusal(f"cannot read {file.name}: it is not JSON") from None
