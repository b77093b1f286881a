"""What a site may send of an evaluation: aggregate counts, no row of any patient.

A summary holds, for each finding, the confusion matrix at one threshold and, if wanted, how many positive and negative
cases fall into each bin of the score. Groups smaller than a minimum are left out and named.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radserve.evaluation.rates import Confusion, confusion_at
from radserve.evaluation.tables import Table, refusal

SCHEMA = "radserve-site-summary/1"
MOST_BINS = 100
SMALLEST_GROUP = 10


@dataclass(frozen=True)
class Histogram:
    """Cases by bin of the score: bin i is [edges[i], edges[i + 1]), the last one closed; counts per class."""

    edges: tuple[float, ...]
    positive: tuple[int, ...]
    negative: tuple[int, ...]

    def __post_init__(self) -> None:
        bins = len(self.edges) - 1
        if not 1 <= bins <= MOST_BINS or any(b <= a for a, b in zip(self.edges, self.edges[1:], strict=False)):
            raise refusal(f"histogram: got {bins} bins or edges that do not rise, expected 1 to {MOST_BINS} bins")
        if {len(self.positive), len(self.negative)} != {bins} or min(*self.positive, *self.negative) < 0:
            raise refusal(f"histogram: expected {bins} counts of at least 0 for each class")


@dataclass(frozen=True)
class Counts:
    """The counts of one finding in one set of cases."""

    threshold: float
    confusion: Confusion
    histogram: Histogram | None = None

    def __post_init__(self) -> None:
        counts, bins = self.confusion, self.histogram
        if bins and (sum(bins.positive), sum(bins.negative)) != (counts.tp + counts.fn, counts.tn + counts.fp):
            raise refusal("histogram: its cases are not as many as those of the confusion matrix")


@dataclass(frozen=True)
class SiteSummary:
    """One site's counts: by finding, and by group (such as "sex=F") and finding. `suppressed` names groups left out."""

    site: str
    model: str
    findings: Mapping[str, Counts]
    groups: Mapping[str, Mapping[str, Counts]]
    suppressed: tuple[str, ...] = ()


def count_cases(
    scores: NDArray[np.float64],
    positive: NDArray[np.bool_],
    threshold: float,
    edges: Sequence[float] | None = None,
    *,
    name: str = "score",
) -> Counts:
    """Count cases: a score >= threshold calls positive. `edges` of the histogram, None for none.

    Raises RadserveError INVALID_ARGUMENT naming column, row and value for a score outside the edges.
    """
    counts = confusion_at(scores, positive, threshold)
    if edges is None:
        return Counts(threshold, counts)
    outside = np.flatnonzero((scores < edges[0]) | (scores > edges[-1]))
    if len(outside):
        row = int(outside[0])
        raise refusal(
            f"column {name!r}, row {row + 1}: got {scores[row]}, expected a score from {edges[0]} to {edges[-1]} "
            "(other scores: give the edges, or no histogram)"
        )
    bins = [np.histogram(scores[rows], bins=np.asarray(edges))[0].tolist() for rows in (positive, ~positive)]
    return Counts(threshold, counts, Histogram(tuple(map(float, edges)), tuple(bins[0]), tuple(bins[1])))


@dataclass(frozen=True)
class SummaryColumns:
    """Columns of a table of scores. `threshold` may be a number, `finding` a name, where no column is called so."""

    label: str
    positive: str | None
    score: str
    threshold: str
    finding: str
    groups: tuple[str, ...] = ()


def summarise_site(
    table: Table, columns: SummaryColumns, *, site: str, model: str, bins: int = 20, smallest: int = SMALLEST_GROUP
) -> SiteSummary:
    """Count a table of scores, one row per case and finding. `bins` equal bins from 0 to 1, 0 for no histogram.

    Groups of fewer than `smallest` rows, or of one class only, are left out and named.
    """
    edges = np.linspace(0.0, 1.0, bins + 1).tolist() if bins else None
    names = table.categories(columns.finding) if columns.finding in table.columns else (columns.finding,) * table.n_rows
    findings = {
        name: _count_table(table.take(np.flatnonzero([each == name for each in names])), columns, edges)
        for name in dict.fromkeys(names)
    }
    groups: dict[str, dict[str, Counts]] = {}
    suppressed = []
    for column in columns.groups:
        members = table.categories(column)
        for member, name in sorted(set(zip(members, names, strict=True))):
            rows = np.flatnonzero([pair == (member, name) for pair in zip(members, names, strict=True)])
            part, group = table.take(rows), f"{column}={member}"
            if len(rows) < smallest or len(set(part.text(columns.label))) < 2:
                suppressed.append(f"{group}, {name}")
            else:
                groups.setdefault(group, {})[name] = _count_table(part, columns, edges)
    return SiteSummary(site, model, findings, groups, tuple(suppressed))


def _count_table(table: Table, columns: SummaryColumns, edges: Sequence[float] | None) -> Counts:
    if columns.threshold in table.columns:
        thresholds = set(table.numbers(columns.threshold).tolist())
        if len(thresholds) != 1:
            raise refusal(f"column {columns.threshold!r}: got {len(thresholds)} thresholds, expected one per finding")
        threshold = thresholds.pop()
    else:
        try:
            threshold = float(columns.threshold)
        except ValueError:
            raise refusal(f"threshold: got {columns.threshold!r}, expected a number or a column's name") from None
    labels = table.labels(columns.label, columns.positive)
    return count_cases(table.numbers(columns.score), labels, threshold, edges, name=columns.score)


def summary_to_json(summary: SiteSummary) -> dict[str, Any]:
    """Return the summary in the types of JSON."""
    return {
        "schema": SCHEMA,
        "site": summary.site,
        "model": summary.model,
        "findings": {name: _counts_to_json(each) for name, each in summary.findings.items()},
        "groups": {
            group: {name: _counts_to_json(each) for name, each in findings.items()}
            for group, findings in summary.groups.items()
        },
        "suppressed": list(summary.suppressed),
    }


def read_summary(path: Path) -> SiteSummary:
    """Read a summary. Nothing but counts is accepted: an entry that is not of the form is refused by its name.

    Raises RadserveError INVALID_ARGUMENT naming the file and the entry.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise refusal(f"site summary {path.name!r} cannot be read: {type(error).__name__}") from error
    where = f"site summary {path.name!r}"
    top = _entries(document, {"schema", "site", "model", "findings", "groups", "suppressed"}, where)
    if top["schema"] != SCHEMA:
        raise refusal(f"{where}: got schema {top['schema']!r}, expected {SCHEMA!r}")
    for entry in ("site", "model"):
        if not isinstance(top[entry], str) or not top[entry]:
            raise refusal(f"{where}: {entry}: got {top[entry]!r}, expected a text")
    if not isinstance(top["suppressed"], list) or not all(isinstance(each, str) for each in top["suppressed"]):
        raise refusal(f"{where}: suppressed: expected a list of names of groups")
    groups = {name: _read_findings(each, f"{where}, group {name!r}") for name, each in _named(top["groups"], where)}
    return SiteSummary(top["site"], top["model"], _read_findings(top["findings"], where), groups, (*top["suppressed"],))


def _counts_to_json(counts: Counts) -> dict[str, Any]:
    matrix, bins = counts.confusion, counts.histogram
    histogram = None
    if bins is not None:
        histogram = {"edges": list(bins.edges), "positive": list(bins.positive), "negative": list(bins.negative)}
    cells = {"tp": matrix.tp, "fp": matrix.fp, "tn": matrix.tn, "fn": matrix.fn}
    return {"threshold": counts.threshold, **cells, "histogram": histogram}


def _read_findings(content: object, where: str) -> dict[str, Counts]:
    findings = {name: _read_counts(each, f"{where}, finding {name!r}") for name, each in _named(content, where)}
    if not findings:
        raise refusal(f"{where}: it has no finding")
    return findings


def _read_counts(content: object, where: str) -> Counts:
    table = _entries(content, {"threshold", "tp", "fp", "tn", "fn", "histogram"}, where)
    cells = {name: _whole(table[name], f"{where}: {name}") for name in ("tp", "fp", "tn", "fn")}
    histogram = None
    if table["histogram"] is not None:
        bins = _entries(table["histogram"], {"edges", "positive", "negative"}, f"{where}, histogram")
        histogram = Histogram(
            tuple(_number(each, f"{where}: edges") for each in bins["edges"]),
            tuple(_whole(each, f"{where}: positive") for each in bins["positive"]),
            tuple(_whole(each, f"{where}: negative") for each in bins["negative"]),
        )
    return Counts(_number(table["threshold"], f"{where}: threshold"), Confusion(**cells), histogram)


def _entries(content: object, expected: set[str], where: str) -> Mapping[str, Any]:
    if not isinstance(content, dict):
        raise refusal(f"{where}: got a {type(content).__name__}, expected an object")
    for entry in sorted(expected ^ set(content)):
        raise refusal(f"{where}: the entry {entry!r} is {'missing' if entry in expected else 'not one of a summary'}")
    return content


def _named(content: object, where: str) -> list[tuple[str, object]]:
    if not isinstance(content, dict):
        raise refusal(f"{where}: got a {type(content).__name__}, expected an object by name")
    return list(content.items())


def _whole(value: object, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise refusal(f"{where}: got {value!r}, expected a whole number of at least 0")
    return value


def _number(value: object, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise refusal(f"{where}: got {value!r}, expected a finite number")
    return float(value)
