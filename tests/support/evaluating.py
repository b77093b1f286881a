"""Running evaluations."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from click.testing import Result
from hypothesis import assume
from hypothesis import strategies as st
from scipy import ndimage
from typer.testing import CliRunner

from radserve.errors import ErrorCode, RadserveError
from radserve.evaluation.cli import evaluate_app
from radserve.evaluation.tables import BoolArray, FloatArray

Grey = npt.NDArray[np.uint8]
Sample = tuple[FloatArray, BoolArray]


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(evaluate_app, [str(each) for each in arguments])


def run(*arguments: object) -> Any:
    result = invoke(*arguments, "--json", "-")
    if result.exception is not None:
        raise result.exception
    return json.loads(result.stdout)


def refused(*arguments: object) -> str:
    error = invoke(*arguments).exception
    assert isinstance(error, RadserveError), error
    assert error.code is ErrorCode.INVALID_ARGUMENT
    return error.client_message


def write_csv(path: Path, columns: Mapping[str, Sequence[object]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return path


def texture(seed: int, side: int = 200) -> Grey:
    rng = np.random.default_rng(seed)
    layers = [ndimage.gaussian_filter(rng.standard_normal((side, side)), s) * s for s in (2, 5, 12, 30)]
    total = np.sum(layers, axis=0)
    return (255 * (total - total.min()) / np.ptp(total)).astype(np.uint8)


@st.composite
def samples(draw: st.DrawFn, values: st.SearchStrategy[float] | None = None) -> Sample:
    """Scores with many ties (or `values`) and labels with both classes."""
    each = values if values is not None else st.integers(-3, 3).map(float)
    rows = draw(st.lists(st.tuples(each, st.booleans()), min_size=2, max_size=40))
    scores, positive = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    assume(positive.any() and not positive.all())
    return scores, positive
