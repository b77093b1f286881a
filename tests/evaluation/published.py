"""The published data sets the evaluation is checked on; they stand outside the repository and may be absent."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from radserve.evaluation.tables import BoolArray, FloatArray, Table, read_table

FOLDER = Path(__file__).parents[3] / "shared" / "reference"


def published(name: str) -> Path:
    """Return the path of a data set; the test is skipped when it is absent."""
    path = FOLDER / name
    if not path.is_file():
        pytest.skip(f"the published data set {name} is not at ../shared/reference")
    return path


def asah() -> tuple[FloatArray, BoolArray, Table]:
    """aSAH of pROC: scores wfns, s100b, ndka as (3, 113), the positives (Poor), the table."""
    table = read_table(published("asah.csv"))
    scores = np.array([table.numbers(column) for column in ("wfns", "s100b", "ndka")])
    return scores, table.labels("outcome", "Poor"), table
