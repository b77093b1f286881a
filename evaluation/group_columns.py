"""Groups of patients out of the columns of a table: texts as they stand, ages as bands."""

from __future__ import annotations

import math
from collections.abc import Sequence

from radserve.evaluation.fairness import age_bands
from radserve.evaluation.tables import MISSING, Table, bad_cell, refusal


def group_columns(table: Table, columns: Sequence[str], age: str | None = None) -> dict[str, tuple[str, ...]]:
    """Return the group of each row by attribute, "" where it is missing; `age` becomes the attribute "<age> band".

    Raises INVALID_ARGUMENT when no column is named, and for an age that is no number from 0 to 150.
    """
    attributes: dict[str, tuple[str, ...]] = {column: _groups(table, column) for column in columns}
    if age is not None:
        attributes[f"{age} band"] = age_bands(_ages(table, age))
    if not attributes:
        raise refusal("fairness: got no group column, expected --group or --age")
    return attributes


def _groups(table: Table, column: str) -> tuple[str, ...]:
    return tuple("" if cell.strip().lower() in MISSING else cell.strip() for cell in table.text(column))


def _ages(table: Table, column: str) -> list[float | None]:
    ages: list[float | None] = []
    for row, cell in enumerate(table.text(column), start=1):
        if cell.strip().lower() in MISSING:
            ages.append(None)
            continue
        try:
            years = float(cell)
        except ValueError:
            years = math.nan
        if not 0 <= years <= 150:
            raise bad_cell(column, row, cell, "an age from 0 to 150 years")
        ages.append(years)
    return ages
