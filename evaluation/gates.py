"""Acceptance: does a measured model meet a versioned profile of gates? The record is what promotion of models reads.

A profile is a TOML file:

    name = "chest-radiograph"
    version = "1.0"

    [[gate]]
    finding = "pneumonia"
    metric = "auroc"        # an indicator's key of the report, or "auc" of a `roc` result
    statistic = "low"       # "value", or the bound of its interval: "low", "high"
    op = ">="               # ">=", ">", "<=", "<"
    threshold = 0.90
    minimum_n = 100         # optional: fewer cases fail the gate

What was not measured fails: a gate can only be passed by a number.
"""

from __future__ import annotations

import hashlib
import json
import math
import operator
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from radserve.evaluation.tables import refusal

SCHEMA = "radserve-gate-record/1"
OPERATORS: Mapping[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    ">": operator.gt,
    "<=": operator.le,
    "<": operator.lt,
}


class Statistic(StrEnum):
    """Which number of a measurement a gate looks at."""

    VALUE = "value"
    LOW = "low"
    HIGH = "high"


@dataclass(frozen=True)
class Gate:
    """One condition on one metric of one finding; an empty finding means the model as a whole."""

    finding: str
    metric: str
    statistic: Statistic
    op: str
    threshold: float
    minimum_n: int = 0


@dataclass(frozen=True)
class Profile:
    """A versioned list of gates; `digest` is the SHA-256 of what it says, whatever its layout and comments."""

    name: str
    version: str
    gates: tuple[Gate, ...]

    @property
    def digest(self) -> str:
        """The SHA-256 over name, version and gates, hexadecimal."""
        return _digest({"name": self.name, "version": self.version, "gates": [_as_json(each) for each in self.gates]})


@dataclass(frozen=True)
class Measurement:
    """One measured number: value, interval bounds and n, each None where it is unknown."""

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int | None = None


@dataclass(frozen=True)
class GateResult:
    """What came of one gate; `reason` says in words why it failed."""

    gate: Gate
    observed: float | None
    n: int | None
    passed: bool
    reason: str | None


Measurements = Mapping[tuple[str, str], Measurement]  # by (finding, metric)


def read_profile(path: Path) -> Profile:
    """Read a profile. Raises RadserveError INVALID_ARGUMENT naming the gate and the entry at fault."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise refusal(f"profile: {path.name!r} cannot be read: {error}") from error
    for entry in ("name", "version", "gate"):
        if not table.get(entry):
            raise refusal(f"profile {path.name!r}: the entry {entry!r} is missing or empty")
    unknown = set(table) - {"name", "version", "gate", "description"}
    if unknown:
        raise refusal(f"profile {path.name!r}: got the unknown entry {min(unknown)!r}")
    gates = tuple(_gate(number, each) for number, each in enumerate(table["gate"], start=1))
    seen: set[tuple[str, str, str, str]] = set()
    for number, gate in enumerate(gates, start=1):
        key = (gate.finding, gate.metric, gate.statistic, gate.op)
        if key in seen:
            raise refusal(f"profile, gate {number}: says again what an earlier gate says of {gate.finding!r}")
        seen.add(key)
    return Profile(str(table["name"]), str(table["version"]), gates)


def check_new_version(old: Profile, new: Profile) -> None:
    """Raise RadserveError INVALID_ARGUMENT when `new` says other things than `old` under the same name and version."""
    if (old.name, old.version) == (new.name, new.version) and old.digest != new.digest:
        raise refusal(f"profile {new.name!r}: its gates changed, but its version is still {new.version!r}")


def apply_profile(profile: Profile, measurements: Measurements) -> tuple[GateResult, ...]:
    """Return the result of every gate, in the order of the profile."""
    return tuple(_apply(gate, measurements.get((gate.finding, gate.metric))) for gate in profile.gates)


def gate_record(
    profile: Profile, results: Sequence[GateResult], *, model: Mapping[str, str], evaluation: bytes
) -> dict[str, Any]:
    """Return the record for promotion: JSON types, the same inputs giving the same record (no date, no host).

    `model` says which model was measured (name, version, pipeline digest ...), `evaluation` is the evaluation file as
    it was read. `digest` is the SHA-256 over all the rest, so that a changed record is found out (`check_record`); it
    is not a signature: `radserve models sign` puts one beside it.
    """
    record: dict[str, Any] = {
        "schema": SCHEMA,
        "profile": {"name": profile.name, "version": profile.version, "digest": profile.digest},
        "model": dict(model),
        "evaluation_sha256": hashlib.sha256(evaluation).hexdigest(),
        "passed": all(each.passed for each in results),
        "gates": [
            _as_json(each.gate) | {"observed": each.observed, "n": each.n, "passed": each.passed, "reason": each.reason}
            for each in results
        ],
    }
    return record | {"digest": _digest(record)}


def read_record(path: Path) -> Mapping[str, Any]:
    """Read a record that was written to a file. Raises RadserveError INVALID_ARGUMENT as `check_record` does."""
    try:
        record = json.loads(path.read_bytes())
    except OSError as error:
        raise refusal(f"cannot read {path.name}: {error.strerror or error}") from error
    except ValueError as error:
        raise refusal(f"gate record: {path.name!r} is not JSON") from error
    if not isinstance(record, dict):
        raise refusal(f"gate record: {path.name!r} is not a JSON object")
    check_record(record)
    return record


def check_record(record: Mapping[str, Any], profile: Profile | None = None) -> bool:
    """Return whether the record passed; with `profile`, of exactly that profile.

    Raises RadserveError INVALID_ARGUMENT when it is not a gate record, was changed, or is of another profile.
    """
    if record.get("schema") != SCHEMA:
        raise refusal(f"gate record: got schema {record.get('schema')!r}, expected {SCHEMA!r}")
    rest = {key: value for key, value in record.items() if key != "digest"}
    if record.get("digest") != _digest(rest):
        raise refusal("gate record: its digest does not fit its content, so it was changed after it was made")
    gates = record.get("gates")
    if not isinstance(gates, list) or not gates:
        raise refusal("gate record: it has no gates")
    if profile is not None and record["profile"]["digest"] != profile.digest:
        raise refusal(f"gate record: it was made with another profile than {profile.name!r} {profile.version!r}")
    return record.get("passed") is True and all(each.get("passed") is True for each in gates)


def _gate(number: int, table: Mapping[str, Any]) -> Gate:
    unknown = set(table) - {"finding", "metric", "statistic", "op", "threshold", "minimum_n"}
    if unknown:
        raise refusal(f"profile, gate {number}: got the unknown entry {min(unknown)!r}")
    for entry in ("metric", "threshold", "op"):
        if entry not in table:
            raise refusal(f"profile, gate {number}: the entry {entry!r} is missing")
    statistic = table.get("statistic", Statistic.VALUE.value)
    if statistic not in set(Statistic):
        raise refusal(f"profile, gate {number}: statistic: got {statistic!r}, expected one of {', '.join(Statistic)}")
    if table["op"] not in OPERATORS:
        raise refusal(f"profile, gate {number}: op: got {table['op']!r}, expected one of {' '.join(OPERATORS)}")
    threshold, minimum_n = table["threshold"], table.get("minimum_n", 0)
    if isinstance(threshold, bool) or not isinstance(threshold, int | float) or not math.isfinite(threshold):
        raise refusal(f"profile, gate {number}: threshold: got {threshold!r}, expected a finite number")
    if isinstance(minimum_n, bool) or not isinstance(minimum_n, int) or minimum_n < 0:
        raise refusal(f"profile, gate {number}: minimum_n: got {minimum_n!r}, expected a whole number of at least 0")
    finding = str(table.get("finding", ""))
    return Gate(finding, str(table["metric"]), Statistic(statistic), table["op"], float(threshold), minimum_n)


def _apply(gate: Gate, measured: Measurement | None) -> GateResult:
    if measured is None:
        return GateResult(gate, None, None, False, "not measured")
    observed = getattr(measured, gate.statistic.value)
    if observed is None:
        return GateResult(gate, None, measured.n, False, f"its {gate.statistic.value} is undefined")
    if gate.minimum_n and (measured.n is None or measured.n < gate.minimum_n):
        had = "unknown" if measured.n is None else measured.n
        return GateResult(gate, observed, measured.n, False, f"n is {had}, fewer than {gate.minimum_n}")
    passed = OPERATORS[gate.op](observed, gate.threshold)
    reason = None if passed else f"{gate.statistic.value} {observed:.6g} is not {gate.op} {gate.threshold:g}"
    return GateResult(gate, observed, measured.n, passed, reason)


def _as_json(gate: Gate) -> dict[str, Any]:
    return {
        "finding": gate.finding,
        "metric": gate.metric,
        "statistic": gate.statistic.value,
        "op": gate.op,
        "threshold": gate.threshold,
        "minimum_n": gate.minimum_n,
    }


def _digest(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
