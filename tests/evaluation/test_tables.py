"""Reading tables: what is refused, and that the refusal names column, row and value."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from radserve.errors import ErrorCode, RadserveError
from radserve.evaluation.tables import ROWS_AT_A_TIME, Table, binary_labels, check_same_length, read_table


def table_of(text: str | bytes, folder: Path) -> Table:
    path = folder / "scores.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_table(path)


def refused(text: str | bytes, folder: Path) -> str:
    with pytest.raises(RadserveError) as caught:
        table_of(text, folder)
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT
    return caught.value.client_message


def test_a_table_keeps_its_cells_as_text_under_trimmed_names(tmp_path: Path) -> None:
    table = table_of('\ufeff"a, b", c \r\n1,"x ""y"""\r\n2,z\r\n', tmp_path)
    assert dict(table.columns) == {"a, b": ("1", "2"), "c": ('x "y"', "z")}
    assert table.n_rows == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "scores.csv is empty: expected a header line and data rows"),
        ("a,b\n", "scores.csv has a header but no data row"),
        ("a,b\n\n\n", "scores.csv has a header but no data row"),
        ("a,b\n1,2\n3\n", "scores.csv, row 2: got 1 fields, expected 2 as in the header"),
        ("a,b\n1,2\n\n3,4\n", "scores.csv, row 2: got 0 fields, expected 2 as in the header"),
        ("a,b\n1,2,3\n", "scores.csv, row 1: got 3 fields, expected 2 as in the header"),
        ("a,a\n1,2\n", "scores.csv: the header has the column 'a' twice"),
        (",\n1,2\n", "scores.csv: no column of the header has a name"),
        ("a;b\n1;2\n", "scores.csv: the header 'a;b' is separated by semicolons, expected commas"),
        ("a;b\n0,1;2\n", "scores.csv: the header 'a;b' is separated by semicolons, expected commas"),
        ("a\tb\n1\t2\n", "scores.csv: the header 'a\\tb' is separated by tabs, expected commas"),
    ],
)
def test_a_misshapen_file_is_refused_with_its_row(text: str, message: str, tmp_path: Path) -> None:
    assert refused(text, tmp_path) == message


def test_a_short_row_far_down_is_named_by_its_number(tmp_path: Path) -> None:
    rows = ["1,2"] * (ROWS_AT_A_TIME + 5)
    rows[ROWS_AT_A_TIME + 2] = "7"
    assert f"row {ROWS_AT_A_TIME + 3}: got 1 fields" in refused("a,b\n" + "\n".join(rows), tmp_path)


@pytest.mark.parametrize("text", [",a,b\n0,1,2\n1,3,4\n", '"","a","b"\n"1",1,2\n"2",3,4\n', "a,b,\n1,2,\n3,4,\n"])
def test_row_numbers_under_no_name_as_r_and_pandas_write_them_are_left_out(text: str, tmp_path: Path) -> None:
    assert dict(table_of(text, tmp_path).columns) == {"a": ("1", "3"), "b": ("2", "4")}


def test_blank_lines_at_the_end_are_no_rows(tmp_path: Path) -> None:
    assert table_of("a,b\n1,2\n\n\n", tmp_path).n_rows == 1


def test_a_file_that_is_not_utf8_or_not_there_is_refused(tmp_path: Path) -> None:
    assert "is not a UTF-8 CSV file" in refused(b"a,b\n\xff\xfe,2\n", tmp_path)
    with pytest.raises(RadserveError, match=r"cannot read absent\.csv"):
        read_table(tmp_path / "absent.csv")


def test_a_missing_column_is_named_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(RadserveError, match=r"column 'c' is not in scores\.csv, which has 'a', 'b'"):
        table_of("a,b\n1,2\n", tmp_path).numbers("c")


@pytest.mark.parametrize("cell", ["", "high", "nan", "NaN", "inf", "-Infinity", "1,5", "1e999", "1_000"])
def test_a_cell_that_is_no_finite_number_is_named_by_column_row_and_value(cell: str) -> None:
    table = Table("scores.csv", {"s": ("0.5", "1", cell, "x")})
    with pytest.raises(RadserveError) as caught:
        table.numbers("s")
    assert caught.value.client_message == f"column 's', row 3: got {cell!r}, expected a finite number"


def test_a_long_offending_value_is_cut(tmp_path: Path) -> None:
    with pytest.raises(RadserveError) as caught:
        Table("scores.csv", {"s": ("x" * 1000,)}).numbers("s")
    assert len(caught.value.client_message) < 120


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=20))
def test_numbers_are_read_to_the_last_bit(values: list[float]) -> None:
    read = Table("t", {"s": tuple(map(repr, values))}).numbers("s")
    assert [struct.pack("d", each) for each in read] == [struct.pack("d", each) for each in values]
    assert not read.flags.writeable


def test_whole_numbers_refuse_fractions() -> None:
    assert Table("t", {"s": ("1", "2.0")}).whole_numbers("s").tolist() == [1, 2]
    with pytest.raises(RadserveError, match=r"column 's', row 2: got '2\.5', expected a whole number"):
        Table("t", {"s": ("1", "2.5")}).whole_numbers("s")


@pytest.mark.parametrize("cells", [("0", "1", "1"), ("false", "TRUE", "True"), ("0.0", "1.0", " 1 ")])
def test_zeros_and_ones_or_true_and_false_are_labels(cells: tuple[str, ...]) -> None:
    assert binary_labels("y", cells).tolist() == [False, True, True]


def test_any_two_values_are_labels_once_the_positive_one_is_named() -> None:
    assert binary_labels("y", ("Good", "Poor", "Poor"), "Poor").tolist() == [False, True, True]
    assert binary_labels("y", ("2", "1.0", "2.0"), "1").tolist() == [False, True, False]
    assert binary_labels("y", ("TRUE", "FALSE", "True"), "true").tolist() == [True, False, True]
    assert binary_labels("y", ("TRUE", "FALSE", "True"), "False").tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("cells", "positive", "message"),
    [
        (("0", "1", "2"), None, "column 'y', row 3: got '2', expected 0 or 1"),
        (("a", "b", "c"), "a", "column 'y', row 3: got 'c', expected two classes, 'a' and 'b'"),
        (("0", "1", ""), None, "column 'y', row 3: got '', expected a label"),
        (("a", "b", "NA"), "a", "column 'y', row 3: got 'NA', expected a label"),
        (("0", "0"), None, "column 'y' has one class only, '0', in all 2 rows: no positive"),
        (("1", "1"), None, "column 'y' has one class only, '1', in all 2 rows: no negative"),
        (("a", "b"), "c", "column 'y' has no row of the positive value 'c', only 'a', 'b'"),
        (("a", "a"), "a", "column 'y' has one class only, 'a', in all 2 rows: no negative"),
        (tuple("abcdefg"), "h", "column 'y' has no row of the positive value 'h', only 'a', 'b', 'c', 'd', 'e', ..."),
    ],
)
def test_labels_that_are_not_two_classes_are_refused(cells: tuple[str, ...], positive: str, message: str) -> None:
    with pytest.raises(RadserveError) as caught:
        binary_labels("y", cells, positive)
    assert caught.value.client_message.startswith(message)
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT


def test_an_empty_category_is_refused() -> None:
    assert Table("t", {"site": (" A ", "B")}).categories("site") == ("A", "B")
    with pytest.raises(RadserveError, match="column 'site', row 2: got '', expected a value"):
        Table("t", {"site": ("A", " ")}).categories("site")


def test_columns_of_different_lengths_are_refused_with_their_lengths() -> None:
    with pytest.raises(RadserveError, match="columns differ in length: score 3, label 2"):
        check_same_length({"score": np.zeros(3), "label": np.zeros(2)})
    with pytest.raises(RadserveError, match="no rows"):
        check_same_length({"score": [], "label": []})


def test_rows_can_be_taken_in_another_order() -> None:
    assert Table("t", {"a": ("x", "y", "z")}).take(np.array([2, 0])).text("a") == ("z", "x")
