"""Comparing two models, A and B: paired tests over their scores of the same cases, with Holm's correction.

From two tables the tests are paired (the same cases) or not. From two results of `radserve evaluate roc` only the areas
and their variances are known, not how they vary together, so the tests are unpaired.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from radserve.evaluation.auc_tests import AucTest, check_level, holm, paired_test, unpaired_test
from radserve.evaluation.delong import clustered_delong, delong
from radserve.evaluation.output import without_repeats
from radserve.evaluation.roc_blocks import Json
from radserve.evaluation.roc_report import comparison_as_json, comparison_warnings
from radserve.evaluation.tables import BoolArray, FloatArray, Table, refusal

NO_PAIRING = (
    "two results of roc hold no cases: the tests are unpaired, which for the same cases is usually too cautious"
)


@dataclass(frozen=True)
class CompareOptions:
    """`scores` are the columns in both tables (all numeric common ones when empty); `id_column` joins the cases."""

    label: str
    positive: str | None = None
    scores: tuple[str, ...] = ()
    id_column: str | None = None
    cluster: str | None = None
    unpaired: bool = False
    level: float = 0.95


@dataclass(frozen=True)
class Cases:
    """The scores of one model: columns of shape (n,), labels (n,), clusters (n,) where they are known."""

    scores: Mapping[str, FloatArray]
    positive: BoolArray
    clusters: tuple[str, ...] | None


def compare_tables(a: Table, b: Table, options: CompareOptions) -> Json:
    """Test each common score of two tables; the difference is A - B.

    Paired by `id_column`, or by the order of the rows when that is None: then the labels must agree row for row.
    Raises RadserveError INVALID_ARGUMENT when the cases or labels do not match, naming column, row and value.
    """
    check_level(options.level)
    warnings: list[str] = []
    if not options.unpaired:
        a, b = _matched(a, b, options, warnings)
    names = options.scores or _common_scores(a, b, options)
    cases_a, cases_b = (_cases(table, names, options) for table in (a, b))
    if not options.unpaired:
        _check_same_labels(a, b, cases_a.positive, cases_b.positive, options.label)
    tests = {name: _test(name, cases_a, cases_b, options) for name in names}
    sizes = (len(cases_a.positive), len(cases_b.positive))
    return _result(tests, dict.fromkeys(names, sizes), not options.unpaired, options.level, warnings)


def compare_results(a: Mapping[str, object], b: Mapping[str, object], level: float = 0.95) -> Json:
    """Test each score that two results of `radserve evaluate roc` share, unpaired; the difference is A - B.

    Raises RadserveError INVALID_ARGUMENT when a result lacks the keys or no score is common.
    """
    check_level(level)
    areas_a, areas_b = _areas(a, "A"), _areas(b, "B")
    names = [name for name in areas_a if name in areas_b]
    if not names:
        raise refusal(f"no common score: A has {list(areas_a)}, B has {list(areas_b)}")
    tests = {name: unpaired_test(*areas_a[name], *areas_b[name], level=level) for name in names}
    sizes = {name: (areas_a[name][2], areas_b[name][2]) for name in names}
    return _result(tests, sizes, False, level, [NO_PAIRING])


def read_result(path: Path) -> Mapping[str, object]:
    """Read a result of `radserve evaluate roc`. Raises INVALID_ARGUMENT for anything else."""
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise refusal(f"cannot read {path.name} as a JSON result: {error}") from error
    if not isinstance(result, dict) or not isinstance(result.get("scores"), dict):
        raise refusal(f"{path.name} is not a result of `evaluate roc`: it has no object 'scores'")
    return result


def as_text(result: Json) -> str:
    """Return the comparisons as a table for people, four digits."""
    rows = [["score", "AUC A", "AUC B", "A - B", "interval", "statistic", "p", "p (Holm)"]]
    comparisons = result["comparisons"]
    assert isinstance(comparisons, list)  # noqa: S101  (made by _result)
    for each in comparisons:
        low, high = each["difference_ci"]
        numbers = [each[key] for key in ("auc_a", "auc_b", "difference")]
        chances = [_shown_p(each[key]) for key in ("p_two_sided", "p_holm")]
        interval = f"[{_shown(low)}, {_shown(high)}]"
        rows.append([each["score"], *map(_shown, numbers), interval, _shown(each["statistic"]), *chances])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines) + "\n"


def _test(name: str, a: Cases, b: Cases, options: CompareOptions) -> AucTest:
    if not options.unpaired:
        both = np.array([a.scores[name], b.scores[name]])
        names = (f"{name} of A", f"{name} of B")
        estimates = (
            delong(both, a.positive, names=names)
            if a.clusters is None
            else clustered_delong(both, a.positive, a.clusters, names=names)
        )
        return paired_test(estimates, 0, 1, options.level)
    sides: list[float] = []
    for cases in (a, b):
        scores = cases.scores[name]
        estimates = (
            delong(scores, cases.positive, names=[name])
            if cases.clusters is None
            else clustered_delong(scores, cases.positive, cases.clusters, names=[name])
        )
        sides += [float(estimates.auc[0]), float(estimates.variance[0]), len(scores)]
    return unpaired_test(sides[0], sides[1], int(sides[2]), sides[3], sides[4], int(sides[5]), options.level)


def _result(
    tests: Mapping[str, AucTest], sizes: Mapping[str, tuple[int, int]], paired: bool, level: float, warnings: list[str]
) -> Json:
    adjusted = holm(np.array([test.p_two_sided for test in tests.values()]))
    comparisons = []
    for (name, test), p_holm in zip(tests.items(), adjusted.tolist(), strict=True):
        n_a, n_b = sizes[name]
        areas = {"score": name, "auc_a": test.auc_a, "auc_b": test.auc_b, "n_a": n_a, "n_b": n_b}
        comparisons.append({**areas, **comparison_as_json(test), "p_holm": p_holm})
        warnings.extend(f"score {name!r}: {text}" for text in comparison_warnings(test))
    found = {"paired": paired, "ci_level": level, "correction": "holm", "comparisons": comparisons}
    return {**found, "warnings": without_repeats(warnings)}


def _matched(a: Table, b: Table, options: CompareOptions, warnings: list[str]) -> tuple[Table, Table]:
    if options.id_column is None:
        if a.n_rows != b.n_rows:
            raise refusal(
                f"A has {a.n_rows} rows and B {b.n_rows}: name the column that joins them with --id, or use --unpaired"
            )
        return a, b
    rows_a, rows_b = (_rows_by_id(table, options.id_column) for table in (a, b))
    common = [case for case in rows_a if case in rows_b]
    if not common:
        raise refusal(f"column {options.id_column!r}: A and B have no common value")
    for side, rows in (("A", rows_a), ("B", rows_b)):
        if len(rows) > len(common):
            warnings.append(f"{len(rows) - len(common)} of {len(rows)} cases of {side} are not in the other: left out")
    return (
        a.take(np.array([rows_a[case] for case in common], dtype=np.intp)),
        b.take(np.array([rows_b[case] for case in common], dtype=np.intp)),
    )


def _rows_by_id(table: Table, column: str) -> dict[str, int]:
    rows: dict[str, int] = {}
    for index, case in enumerate(table.categories(column)):
        if case in rows:  # the value may name a patient: the rows say enough
            raise refusal(
                f"{table.source}, column {column!r}, row {index + 1}: the same value as in row {rows[case] + 1}, "
                "expected one row for each case"
            )
        rows[case] = index
    return rows


def _common_scores(a: Table, b: Table, options: CompareOptions) -> tuple[str, ...]:
    others = {options.label, options.id_column, options.cluster}
    common = [name for name in a.columns if name in b.columns and name not in others]
    numeric = tuple(name for name in common if _is_number(a.columns[name][0]) and _is_number(b.columns[name][0]))
    if not numeric:
        raise refusal(f"no common score column: {a.source} and {b.source} share {common or 'no column'}")
    return numeric


def _cases(table: Table, names: Sequence[str], options: CompareOptions) -> Cases:
    clusters = None if options.cluster is None else table.categories(options.cluster)
    scores = {name: table.numbers(name) for name in names}
    return Cases(scores, table.labels(options.label, options.positive), clusters)


def _check_same_labels(a: Table, b: Table, of_a: BoolArray, of_b: BoolArray, column: str) -> None:
    differs = of_a != of_b
    if differs.any():
        row = int(np.argmax(differs))
        values = f"A has {a.columns[column][row]!r}, B has {b.columns[column][row]!r}"
        raise refusal(
            f"column {column!r}, row {row + 1}: {values}: the cases are not the same; "
            "name the column that joins them with --id, or use --unpaired"
        )


def _areas(result: Mapping[str, object], side: str) -> dict[str, tuple[float, float, int]]:
    found: dict[str, tuple[float, float, int]] = {}
    try:
        n, scores = result["n"], result["scores"]
        if not isinstance(n, int) or not isinstance(scores, dict):
            raise TypeError
        for name, block in scores.items():
            variance = block["variance"]
            found[name] = (float(block["auc"]), math.nan if variance is None else float(variance), n)
    except (KeyError, TypeError, ValueError):
        raise refusal(f"{side} is not a result of `evaluate roc`: it lacks n, or a score's auc or variance") from None
    return found


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _shown(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4f}"


def _shown_p(value: float) -> str:
    return "<0.0001" if value < 0.0001 else _shown(value)
