"""What a report is made from: a TOML plan that names the table of scores and the results of other evaluations."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from radserve.evaluation.report.indicators import INDICATORS
from radserve.evaluation.tables import refusal

STRICT = ConfigDict(extra="forbid")
FROM_SCORES = frozenset(
    {"accuracy", "specificity", "sensitivity", "precision", "f1", "auroc", "language_generation", "fairness"}
    | {"resource_use", "cost_effectiveness"}
)
"""Indicators that are computed from the table of scores; the others come from files of other commands."""


@dataclass(frozen=True, slots=True, config=STRICT)
class Plan:
    """The plan of one report.

    `scores` is a table as `radserve evaluate collect` writes it, or anybody's with the columns label and score; paths
    are relative to the plan's folder. `positive` is the value of label that means positive; `threshold` is for a table
    without a column of that name, whose scores are then probabilities unless it has a column of those. `groups` are its
    columns by which fairness is measured, `cluster` the column that names the patient. `measured` gives, for
    indicators that are not computed here, a JSON file: an object, or one for each finding, with value, interval and n.
    `not_measured` gives the reason for those left out.
    """

    title: str
    model: str
    data: str
    scores: Path
    positive: str | None = None
    threshold: Annotated[float, Field(ge=0, lt=1)] = 0.5
    level: Annotated[float, Field(gt=0, lt=1)] = 0.95
    bootstrap: Annotated[int, Field(ge=100)] = 1000
    seed: int = 1
    groups: tuple[str, ...] = ()
    cluster: str = ""
    bins: Annotated[int, Field(ge=2)] = 10
    measured: Mapping[str, Path] = Field(default_factory=dict)
    not_measured: Mapping[str, str] = Field(default_factory=dict)


def read_plan(path: Path) -> Plan:
    """Read a plan; its paths become absolute. Raises INVALID_ARGUMENT naming the key at fault."""
    try:
        plan = TypeAdapter(Plan).validate_python(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise refusal(f"cannot read {path.name}: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise refusal(f"{path.name} is not TOML: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise refusal(f"{path.name}, key {key!r}: {first['msg']}") from error
    _check_keys(plan, path.name)
    folder = path.resolve().parent
    measured = {key: folder / file for key, file in plan.measured.items()}
    return TypeAdapter(Plan).validate_python(
        {**{name: getattr(plan, name) for name in Plan.__dataclass_fields__}, "scores": folder / plan.scores}
        | {"measured": measured}
    )


def read_measured(path: Path) -> Mapping[str, Mapping[str, Any]]:
    """Read a measurement file as {finding: {value, interval, n, ...}}; "" stands for the model as a whole.

    Raises INVALID_ARGUMENT when the file is not such an object.
    """
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise refusal(f"measurement {path.name}: {type(error).__name__}, expected a JSON file") from error
    whole = isinstance(content, dict) and "value" in content
    findings = {"": content} if whole else content
    if not isinstance(findings, dict) or not findings:
        raise refusal(
            f"measurement {path.name}: expected an object with value, interval and n, or one for each finding"
        )
    for name, each in findings.items():
        if not isinstance(each, dict) or not isinstance(each.get("value"), int | float):
            raise refusal(f"measurement {path.name}, {name!r}: expected an object with a number 'value'")
    return findings


def _check_keys(plan: Plan, source: str) -> None:
    known = {each.key for each in INDICATORS}
    for table, keys in (("measured", plan.measured), ("not_measured", plan.not_measured)):
        for key in keys:
            if key not in known:
                raise refusal(f"{source}, [{table}]: got {key!r}, expected one of {sorted(known)}")
    for key in plan.measured:
        if key in FROM_SCORES:
            raise refusal(f"{source}, [measured]: {key!r} is computed from the table of scores")
