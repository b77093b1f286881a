"""From the result folders of `radserve infer` and a table of true labels to one table of scores."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from radserve.evaluation.tables import Table, refusal

KEY_COLUMNS = ("study_instance_uid", "finding", "label")
MEASURED_COLUMNS = ("score", "probability", "threshold", "report_says", "total_ms")

ReportReader = Callable[[str, str, str], str]
"""(pack name, finding, report text) to what the text says of the finding: present, absent, both or nothing."""


@dataclass(frozen=True, slots=True)
class Collected:
    """Rows of the collected table, and what had to be left out, in words."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    warnings: tuple[str, ...]

    def write(self, path: Path) -> None:
        """Write as CSV (UTF-8, line feeds); the same rows give the same bytes."""
        with path.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerows([self.header, *self.rows])


def collect(results: Path, labels: Table, report_reader: ReportReader) -> Collected:
    """Join each labelled (study, finding) with the finding in RESULTS/STUDY_UID/result.json.

    `labels` has the columns study_instance_uid, finding and label, and any others (site, sex, patient ...), which are
    kept. A study without a result is left out with a warning that counts it: a report must say what is missing.
    Of several series with the same finding the highest score counts. Raises INVALID_ARGUMENT for a missing column or a
    result file that is not one.
    """
    for column in KEY_COLUMNS:
        labels.text(column)
    others = tuple(name for name in labels.columns if name not in KEY_COLUMNS)
    rows, without = [], 0
    for at in range(labels.n_rows):
        uid, finding, label = (labels.columns[name][at] for name in KEY_COLUMNS)
        measured = _measured(results / uid / "result.json", finding, report_reader)
        if measured is None:
            without += 1
            continue
        rows.append((uid, finding, label, *measured, *(labels.columns[name][at] for name in others)))
    warnings = (f"{without} of {labels.n_rows} labelled rows have no result and are left out",) if without else ()
    if not rows:
        raise refusal(f"none of the {labels.n_rows} labelled rows has a result in {results.name}")
    return Collected((*KEY_COLUMNS, *MEASURED_COLUMNS, *others), tuple(rows), warnings)


def _measured(path: Path, finding: str, report_reader: ReportReader) -> tuple[str, ...] | None:
    result = _read(path)
    found = [each for each in result.get("findings", []) if each["label"] == finding]
    if not found:
        return None
    best = max(found, key=lambda each: float(each["score"]))
    text = "\n".join(_written(result.get("report")))
    says = report_reader(str(result["pack"]["name"]), finding, text) if text else "no report"
    numbers = (best["score"], best["probability"], best["threshold"])
    return (*(repr(float(each)) for each in numbers), says, repr(float(result["timings_ms"]["total"])))


def _written(report: Mapping[str, Any] | None) -> Iterator[str]:
    """What the decoder wrote: the draft's other sections are put together from facts and findings."""
    for section in (report or {}).get("sections", []):
        if section["name"] in ("Findings", "Impression"):
            yield str(section["text"])


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_bytes()))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError) as error:
        raise refusal(f"{path.parent.name}/{path.name} is not a result file: {type(error).__name__}") from error
