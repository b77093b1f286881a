"""Results as JSON: every bit of a float, null for what JSON cannot hold, the same bytes each time."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from radserve.errors import ErrorCode, RadserveError
from radserve.evaluation.output import json_text, to_jsonable, without_repeats, write_json


class Colour(StrEnum):
    RED = "red"


@dataclass(frozen=True)
class Pair:
    name: str
    value: float


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False)))
def test_floats_come_back_bit_for_bit(values: list[float]) -> None:
    for form in (values, np.array(values), tuple(values), np.array([values, values])):
        back = np.array(json.loads(json_text({"v": form}))["v"], dtype=np.float64)
        assert back.tobytes() == np.array(form, dtype=np.float64).tobytes()


def test_text_is_what_the_standard_library_reads_back() -> None:
    value = {
        "pair": Pair("é, [1], [2]", 0.1),
        "rows": np.array([[-math.inf, 1.0], [2.0, math.nan]]),
        "whole": np.array([[1, 2], [3, 4]]),
        "flags": np.array([True, False]),
        "empty": [{}, [], np.zeros((0, 3))],
        "mixed": [1, "], [", None, {"a": (Colour.RED, np.float64(2.5), np.int64(3), np.bool_(True))}],
    }
    assert json.loads(json_text(value)) == {
        "pair": {"name": "é, [1], [2]", "value": 0.1},
        "rows": [[None, 1.0], [2.0, None]],
        "whole": [[1, 2], [3, 4]],
        "flags": [True, False],
        "empty": [{}, [], []],
        "mixed": [1, "], [", None, {"a": ["red", 2.5, 3, True]}],
    }


def test_rows_of_numbers_stand_on_a_line_each() -> None:
    assert (
        json_text({"p": np.array([[1.0, 0.5], [2.0, 0.25]])})
        == '{\n  "p": [\n    [1.0, 0.5],\n    [2.0, 0.25]\n  ]\n}\n'
    )


def test_nan_and_infinities_are_null() -> None:
    assert to_jsonable([math.nan, math.inf, -math.inf, np.float64("nan")]) == [None] * 4


def test_a_type_json_cannot_hold_is_an_error_of_ours() -> None:
    with pytest.raises(RadserveError) as caught:
        to_jsonable({"a": object()})
    assert caught.value.code is ErrorCode.INTERNAL


def test_a_dash_writes_to_the_standard_output(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    write_json({"a": 1}, "-")
    written = capsys.readouterr().out
    write_json({"a": 1}, str(tmp_path / "out.json"))
    assert (tmp_path / "out.json").read_bytes() == written.encode() == b'{\n  "a": 1\n}\n'


def test_a_file_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RadserveError, match="--json: cannot write") as caught:
        write_json({}, str(tmp_path / "absent" / "out.json"))
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT


def test_a_repeated_warning_is_given_once() -> None:
    assert without_repeats(["b", "a", "b"]) == ["b", "a"]
