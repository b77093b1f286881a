"""Checks that value types run on construction; every message says "got X, expected Y"."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from radserve.errors import ErrorCode, RadserveError

UID_MAX_LENGTH = 64  # PS3.5 section 9.1
UID = re.compile(r"[0-9]+(?:\.[0-9]+)*")


def invalid(what: str, got: object, expected: str) -> RadserveError:
    """Return (not raise) the error of a value that breaks its contract."""
    return RadserveError(ErrorCode.INVALID_ARGUMENT, f"{what}: got {got!r}, expected {expected}")


def check_uid(name: str, uid: str) -> None:
    """Raise unless `uid` is a DICOM UID: digits and dots, no empty component, at most 64 characters (PS3.5 9.1).

    Leading zeros in a component are tolerated: real devices write them.
    """
    if len(uid) > UID_MAX_LENGTH or not UID.fullmatch(uid):
        raise invalid(name, uid[: UID_MAX_LENGTH + 1], "a DICOM UID of digits and dots, at most 64 characters")


def check_one_of(name: str, value: object, allowed: Iterable[object]) -> None:
    """Raise unless `value` is one of `allowed`."""
    options = list(allowed)
    if value not in options:
        raise invalid(name, value, f"one of {options}")


def check_unit_interval(name: str, value: float) -> None:
    """Raise unless 0 <= value <= 1 (NaN fails)."""
    if not 0.0 <= value <= 1.0:
        raise invalid(name, value, "a number from 0 to 1")


def read_only(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return a view of `array` that cannot be written through, so that stages share it without copies."""
    view = np.asarray(array).view()
    view.setflags(write=False)
    return view
