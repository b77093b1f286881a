"""`radserve models alarm`: what the last re-evaluation said, in the form that monitoring systems ask for.

One line, its first word the state, and the exit codes of a Nagios plug-in, which Icinga, Zabbix, Checkmk and a cron job
can use: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN. It reads files alone, so it also tells of a server that is down.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import IntEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from radserve.server.console import settings_of, stdout

LATE = 1.5
"""Intervals after which a run that did not come is missed."""


class State(IntEnum):
    """The state of a service, as its exit code."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("alarm")(alarm)


def alarm(data_dir: Annotated[Path | None, typer.Option(help="The server's data folder.")] = None) -> None:
    """Say what the last re-evaluation found: exit code 0 OK, 1 WARNING (late), 2 CRITICAL (gate failed), 3 UNKNOWN."""
    settings = settings_of(data_dir=data_dir)
    state, text = last_state(settings.data_dir / "reevaluations", settings.reevaluation_hours, time.time())
    stdout().out(f"{state.name}: {text}")
    raise typer.Exit(state)


def last_state(folder: Path, interval_hours: float, now: float) -> tuple[State, str]:
    """The state by the newest record of `folder` at `now` (seconds since 1970), and it in words."""
    newest = max(folder.glob("*.json"), default=None)  # their names are times
    if newest is None:
        return State.UNKNOWN, "no re-evaluation has ended yet"
    try:
        at = datetime.strptime(newest.stem, "%Y-%m-%dT%H-%M-%SZ").replace(tzinfo=UTC).timestamp()
        text = json.loads(newest.read_bytes())
        failed, told = _gates(text["record"])
        model = f"{text['record']['model']['name']} {text['record']['model']['version']}"
    except (OSError, ValueError, KeyError, TypeError) as error:
        return State.UNKNOWN, f"{newest.name} cannot be read ({type(error).__name__})"
    when = f"re-evaluation of {model} at {newest.stem}"
    if failed:
        return State.CRITICAL, f"{when}: {'; '.join(failed)}"
    hours = (now - at) / 3600
    if hours > LATE * interval_hours:
        return (
            State.WARNING,
            f"{when} passed, and none came since: {hours:.0f} h ago, expected every {interval_hours:g} h",
        )
    return State.OK, f"{when} passed: {'; '.join(told)}"


def _gates(record: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """The gates that failed with the reason, and all with what was observed."""
    failed, told = [], []
    for gate in record["gates"]:
        name = f"{gate['finding']} {gate['metric']}"
        if gate["passed"] is not True:
            failed.append(f"{name}: {gate['reason']}")
        elif isinstance(gate["observed"], float | int):
            told.append(f"{name} {gate['observed']:.4f}")
    return failed, told
