"""Reading tables of scores, labels and readings from CSV. Every refusal names the column, the row and the value.

Rows are counted as people count them: the first line after the header is row 1.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from radserve._checks import read_only
from radserve.errors import ErrorCode, RadserveError
from radserve.evaluation.collector import collector_paused

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]

ROWS_AT_A_TIME = 8192
MOST_SHOWN = 5  # values of a column in an error
LONGEST_SHOWN = 40  # characters of an offending value in an error
MISSING = frozenset({"", "na", "nan", "null", "none", "n/a"})  # what R, pandas and spreadsheets write for "no value"
OTHER_DELIMITERS = MappingProxyType({";": "semicolons", "\t": "tabs"})  # what spreadsheets also save as CSV
BINARY_WORDS: Mapping[str, bool] = MappingProxyType({"0": False, "1": True, "false": False, "true": True})


@dataclass(frozen=True)
class Table:
    """A CSV file as text: `columns[name][i]` is the cell of data row `i + 1`. All columns have `n_rows` cells.

    `source` names the file in errors. The typed readers below convert one column at a time.
    """

    source: str
    columns: Mapping[str, tuple[str, ...]]

    @property
    def n_rows(self) -> int:
        return len(next(iter(self.columns.values())))

    def text(self, column: str) -> tuple[str, ...]:
        """Return the cells of a column as they stand. Raises INVALID_ARGUMENT when there is no such column."""
        try:
            return self.columns[column]
        except KeyError:
            raise refusal(
                f"column {column!r} is not in {self.source}, which has {', '.join(map(repr, self.columns))}"
            ) from None

    def categories(self, column: str) -> tuple[str, ...]:
        """Return the cells of a column (a reader, a case, a site), stripped of blanks; an empty cell is refused."""
        cells = tuple(cell.strip() for cell in self.text(column))
        for row, cell in enumerate(cells, start=1):
            if not cell:
                raise bad_cell(column, row, cell, "a value")
        return cells

    def numbers(self, column: str) -> FloatArray:
        """Return a column of finite numbers, shape (n_rows,), float64, not writeable.

        Raises INVALID_ARGUMENT naming column, row and value for text, an empty cell, NaN or an infinity.
        """
        cells = self.text(column)
        try:
            if "_" in "".join(cells):  # Python reads 1_000 as a number; no other program writes one so
                raise ValueError
            values = np.array(cells, dtype=np.float64)
        except ValueError:
            values = np.array([_as_number(cell) for cell in cells])  # NaN where it is no number: refused below
        finite = np.isfinite(values)
        if not finite.all():
            row = int(np.argmin(finite)) + 1
            raise bad_cell(column, row, cells[row - 1], "a finite number")
        return read_only(values)

    def whole_numbers(self, column: str) -> IntArray:
        """Return a column of whole numbers, shape (n_rows,), int64, not writeable; refuses as `numbers` does."""
        values = self.numbers(column)
        whole = values == np.floor(values)
        if not whole.all():
            row = int(np.argmin(whole)) + 1
            raise bad_cell(column, row, self.columns[column][row - 1], "a whole number")
        return read_only(values.astype(np.int64))

    def labels(self, column: str, positive: str | None = None) -> BoolArray:
        """Return a binary column as booleans, shape (n_rows,), not writeable; see `binary_labels`."""
        return binary_labels(column, self.text(column), positive)

    def take(self, rows: npt.NDArray[np.intp]) -> Table:
        """Return the table of these rows (counted from 0), in their order. Row numbers in errors count from there."""
        chosen = {name: tuple(cells[row] for row in rows) for name, cells in self.columns.items()}
        return Table(self.source, MappingProxyType(chosen))


def read_table(path: Path) -> Table:
    """Read a CSV file with a header line: comma separated, UTF-8 (a byte-order mark is allowed), quotes as in RFC 4180.

    A column without a name (the row numbers that R and pandas write) is left out.

    Raises RadserveError INVALID_ARGUMENT for a file that cannot be read, is empty, has no data row, is separated by
    something else, has a repeated name in the header, or has a row with another number of fields than the header.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines, collector_paused():
            return _read(path.name, csv.reader(lines, strict=True))
    except OSError as error:
        raise refusal(f"cannot read {path.name or path}: {error.strerror or error}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise refusal(f"{path.name} is not a UTF-8 CSV file: {error}") from error


def binary_labels(column: str, cells: Sequence[str], positive: str | None = None) -> BoolArray:
    """Return which cells are the positive class, shape (n,), not writeable.

    Without `positive` the cells are 0 and 1 or true and false (any case). With it, the cells equal to it are positive
    (as text, as the same number, "1" and "1.0", or as the same truth, "TRUE" and "True"), and all the others must share
    one other value.

    Raises INVALID_ARGUMENT naming column, row and value for a missing or a third value, for a positive value that does
    not occur, and for a single class.
    """
    stripped = [cell.strip() for cell in cells]
    if positive is not None and not any(_same_value(cell, positive) for cell in set(stripped)):
        present = sorted(set(stripped))
        shown = ", ".join(
            [repr(_shorten(each)) for each in present[:MOST_SHOWN]] + ["..."] * (len(present) > MOST_SHOWN)
        )
        raise refusal(f"column {column!r} has no row of the positive value {positive!r}, only {shown}")
    meaning: dict[str, bool] = {}
    for row, cell in enumerate(stripped, start=1):
        if cell not in meaning:
            meaning[cell] = _meaning(column, row, cell, positive, meaning)
    labels = np.fromiter(map(meaning.__getitem__, stripped), dtype=np.bool_, count=len(stripped))
    if labels.all() or not labels.any():
        shown = ", ".join(repr(_shorten(each)) for each in meaning)
        absent = "negative" if labels.all() else "positive"
        raise refusal(f"column {column!r} has one class only, {shown}, in all {len(labels)} rows: no {absent}")
    return read_only(labels)


def check_same_length(arrays: Mapping[str, Sequence[object] | npt.NDArray[np.generic]]) -> None:
    """Raise INVALID_ARGUMENT unless all the named columns have one length, which is not 0."""
    lengths = {name: len(each) for name, each in arrays.items()}
    if len(set(lengths.values())) > 1:
        raise refusal(f"columns differ in length: {', '.join(f'{name} {n}' for name, n in lengths.items())}")
    if 0 in lengths.values():
        raise refusal(f"no rows: {', '.join(lengths)} are empty")


def refusal(message: str) -> RadserveError:
    """Return (not raise) the error of input that cannot be evaluated."""
    return RadserveError(ErrorCode.INVALID_ARGUMENT, message)


def bad_cell(column: str, row: int, value: object, expected: str) -> RadserveError:
    """Return (not raise) the error of one cell; `row` is the data row, from 1."""
    return refusal(f"column {column!r}, row {row}: got {_shorten(value)!r}, expected {expected}")


def _meaning(column: str, row: int, cell: str, positive: str | None, known: Mapping[str, bool]) -> bool:
    if cell.lower() in MISSING and cell != positive:
        raise bad_cell(column, row, cell, "a label")
    if positive is None:
        word = cell.lower()
        if word not in BINARY_WORDS and _as_number(cell) in (0.0, 1.0):
            word = str(int(float(cell)))
        if word not in BINARY_WORDS:
            raise bad_cell(column, row, cell, "0 or 1 (name the positive class with --positive)")
        return BINARY_WORDS[word]
    if _same_value(cell, positive):
        return True
    others = [other for other, is_positive in known.items() if not is_positive]
    if others and not _same_value(cell, others[0]):
        raise bad_cell(column, row, cell, f"two classes, {positive!r} and {_shorten(others[0])!r}")
    return False


def _same_value(cell: str, other: str) -> bool:
    number, words = _as_number(cell), {cell.lower(), other.lower()}
    same_word = len(words) == 1 and words <= BINARY_WORDS.keys()
    return cell == other or same_word or (not math.isnan(number) and number == _as_number(other))


def _as_number(cell: str) -> float:
    try:
        return math.nan if "_" in cell else float(cell)
    except ValueError:
        return math.nan


def _shorten(value: object) -> object:
    return value[:LONGEST_SHOWN] + "..." if isinstance(value, str) and len(value) > LONGEST_SHOWN else value


def _read(source: str, rows: Iterator[list[str]]) -> Table:
    header = [name.strip() for name in next(rows, [])]
    if not header:
        raise refusal(f"{source} is empty: expected a header line and data rows")
    _check_header(source, header)
    columns: list[list[str]] = [[] for _ in header]
    # In pieces: rows become columns before they pile up, which halves time and memory for a million rows.
    while piece := list(islice(rows, ROWS_AT_A_TIME)):
        if not all(len(row) == len(header) for row in piece):
            piece = _without_blank_end(source, piece, rows, len(header), len(columns[0]))
        for column, cells in zip(columns, zip(*piece, strict=True), strict=False):
            column.extend(cells)
    if not columns[0]:
        raise refusal(f"{source} has a header but no data row")
    named = {name: tuple(cells) for name, cells in zip(header, columns, strict=True) if name}
    return Table(source, MappingProxyType(named))


def _without_blank_end(
    source: str, piece: list[list[str]], rows: Iterator[list[str]], width: int, n_before: int
) -> list[list[str]]:
    """Return the piece without blank lines when nothing but blank lines follows; else name the first bad row."""
    first = next(index for index, row in enumerate(piece) if len(row) != width)
    if any(piece[first:]) or any(rows):
        got = len(piece[first])
        raise refusal(f"{source}, row {n_before + first + 1}: got {got} fields, expected {width} as in the header")
    return piece[:first]


def _check_header(source: str, header: Sequence[str]) -> None:
    if not any(header):
        raise refusal(f"{source}: no column of the header has a name")
    for delimiter, title in OTHER_DELIMITERS.items():
        if len(header) == 1 and delimiter in header[0]:
            raise refusal(f"{source}: the header {_shorten(header[0])!r} is separated by {title}, expected commas")
    seen: set[str] = set()
    for name in filter(None, header):
        if name in seen:
            raise refusal(f"{source}: the header has the column {name!r} twice")
        seen.add(name)
