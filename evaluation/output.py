"""Results as JSON: full double precision, null for what is undefined, the same inputs giving the same bytes."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from pathlib import Path

import numpy as np
import numpy.typing as npt

from radserve.errors import ErrorCode, RadserveError
from radserve.evaluation.collector import collector_paused

STDOUT = "-"


def to_jsonable(value: object) -> object:
    """Return `value` in the types of JSON: dataclasses and mappings as objects, arrays and tuples as lists.

    Floats keep every bit (Python writes the shortest text that reads back the same); NaN and infinities become None,
    because JSON has no word for them: whoever makes one says in `warnings` why.

    Raises RadserveError INTERNAL for a type JSON cannot hold.
    """
    if isinstance(value, np.generic):
        value = value.item()
    elif isinstance(value, Enum):
        value = value.value
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else None
        case np.ndarray():
            return _array(value)
        case Mapping():
            return {str(key): to_jsonable(each) for key, each in value.items()}
        case list() | tuple():
            return [to_jsonable(each) for each in value]
    raise RadserveError(ErrorCode.INTERNAL, f"result: got a {type(value).__name__}, expected what JSON can hold")


def json_text(value: object) -> str:
    """Return `value` as JSON text that ends in a line feed; keys stay in their order of insertion.

    Objects are indented; a list of numbers or a row of a table stands on one line, so that a million points stay
    readable and quick to write.
    """
    with collector_paused():
        return "".join(_lines(to_jsonable(value), "\n")) + "\n"


def write_text(text: str, target: str) -> None:
    """Write UTF-8 `text` to the file `target`, or to the standard output when it is `-`.

    Raises RadserveError INVALID_ARGUMENT when the file cannot be written.
    """
    if target == STDOUT:
        sys.stdout.write(text)
        return
    try:
        Path(target).write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise RadserveError(
            ErrorCode.INVALID_ARGUMENT, f"--json: cannot write {target!r}: {error.strerror or error}"
        ) from error


def write_json(value: object, target: str) -> None:
    """Write `value` as JSON (see `to_jsonable`) to the file `target`, or to the standard output when it is `-`."""
    write_text(json_text(value), target)


def without_repeats(warnings: Iterable[str]) -> list[str]:
    """Return the warnings in their order, each once."""
    return list(dict.fromkeys(warnings))


class _NumberRows(list[object]):
    """Rows of numbers, known to hold nothing else, so that they are written in one go."""


def _array(array: npt.NDArray[np.generic]) -> object:
    values = array
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        values = array.astype(object)  # Python floats, bit for bit
        values[~np.isfinite(array)] = None
    elif array.dtype.kind not in "fiub":
        return [to_jsonable(each) for each in array.tolist()]
    return _NumberRows(values.tolist()) if array.ndim == 2 else values.tolist()


def _lines(value: object, line: str) -> Iterator[str]:
    """Yield the text of a JSON value in pieces; `line` is the line feed with the indent of the value's own line."""
    deeper = line + "  "
    if isinstance(value, dict) and value:
        for number, (key, each) in enumerate(value.items()):
            yield f"{'{' if number == 0 else ','}{deeper}{_compact(key)}: "
            yield from _lines(each, deeper)
        yield line + "}"
    elif isinstance(value, _NumberRows) and value:
        rows = _compact(value)[1:-1].replace("], [", f"],{deeper}[")
        yield f"[{deeper}{rows}{line}]"
    elif isinstance(value, list) and any(isinstance(each, dict | list | str) for each in value):
        for number, each in enumerate(value):
            yield ("[" if number == 0 else ",") + deeper
            yield from _lines(each, deeper)
        yield line + "]"
    else:
        yield _compact(value)


def _compact(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
