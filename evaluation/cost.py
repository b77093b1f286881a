"""What 1,000 studies cost by a price file, and which variants of a model no other beats on every count."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from radserve.evaluation.tables import refusal

STUDIES = 1000
_JOULES_PER_KWH = 3.6e6
_SECONDS_PER_HOUR = 3600.0
PRICES = ("machine_hour", "kilowatt_hour", "gigabyte_month", "reader_minute", "study", "month")


@dataclass(frozen=True)
class Prices:
    """Prices in `currency`, as a price file states them; what it does not name costs nothing and is said to be unnamed.

    machine_hour: one machine for an hour · kilowatt_hour: electricity · gigabyte_month: storage · reader_minute: a
    physician's minute · study: licence or fee per study · month: fixed costs (maintenance, support).
    """

    currency: str
    date: str
    source: str
    amounts: Mapping[str, float]


@dataclass(frozen=True)
class Usage:
    """What one study uses. None: not measured, so its cost is left out and said to be."""

    machine_s: float | None
    energy_j: float | None = None
    stored_gb: float | None = None
    stored_months: float = 12.0
    reader_minutes: float | None = None
    studies_per_month: float | None = None


@dataclass(frozen=True)
class Cost:
    """Cost of 1,000 studies by item; `left_out` gives the reason for every item that could not be priced."""

    currency: str
    total: float
    items: Mapping[str, float]
    left_out: Mapping[str, str]


def read_prices(path: Path) -> Prices:
    """Read a price file (TOML): currency, date, source, and a table [prices].

    Raises RadserveError INVALID_ARGUMENT naming a missing entry, an unknown price or a value that is not a number of
    at least 0.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise refusal(f"prices: {path.name!r} cannot be read: {error}") from error
    for entry in ("currency", "date", "source", "prices"):
        if entry not in table:
            raise refusal(f"prices: {path.name!r} has no entry {entry!r}")
    amounts = {}
    for name, amount in table["prices"].items():
        if name not in PRICES:
            raise refusal(f"prices: got {name!r}, expected one of {', '.join(PRICES)}")
        if isinstance(amount, bool) or not isinstance(amount, int | float) or not 0 <= amount < math.inf:
            raise refusal(f"prices: {name}: got {amount!r}, expected a number of at least 0")
        amounts[name] = float(amount)
    return Prices(str(table["currency"]), str(table["date"]), str(table["source"]), amounts)


def cost_per_1000(usage: Usage, prices: Prices) -> Cost:
    """Return what 1,000 studies cost. An item without a price or a measurement is left out with the reason."""
    months = None if usage.studies_per_month is None else STUDIES / usage.studies_per_month
    quantities: dict[str, float | None] = {
        "machine_hour": _scaled(usage.machine_s, STUDIES / _SECONDS_PER_HOUR),
        "kilowatt_hour": _scaled(usage.energy_j, STUDIES / _JOULES_PER_KWH),
        "gigabyte_month": _scaled(usage.stored_gb, STUDIES * usage.stored_months),
        "reader_minute": _scaled(usage.reader_minutes, float(STUDIES)),
        "study": float(STUDIES),
        "month": months,
    }
    items, left_out = {}, {}
    for name, quantity in quantities.items():
        if name not in prices.amounts:
            left_out[name] = "the price file does not name it"
        elif quantity is None:
            left_out[name] = "not measured"
        else:
            items[name] = quantity * prices.amounts[name]
    return Cost(prices.currency, math.fsum(items.values()), items, left_out)


def pareto_set(values: NDArray[np.generic], maximise: Sequence[bool]) -> tuple[int, ...]:
    """Return the rows of `values` (variants, criteria) that no other row beats: as good in all, better in one.

    `maximise` says of each criterion whether more is better. Equal rows beat neither each other.
    """
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2 or table.shape[1] != len(maximise):
        raise refusal(f"variants: got shape {table.shape}, expected (variants, {len(maximise)})")
    if not np.isfinite(table).all():
        raise refusal(f"variants: row {int(np.argwhere(~np.isfinite(table))[0][0]) + 1} has a NaN or an infinity")
    gain = np.where(np.asarray(maximise), table, -table)
    beaten = [bool(((gain >= row).all(axis=1) & (gain > row).any(axis=1)).any()) for row in gain]
    return tuple(index for index, each in enumerate(beaten) if not each)


def _scaled(amount: float | None, factor: float) -> float | None:
    return None if amount is None else amount * factor
