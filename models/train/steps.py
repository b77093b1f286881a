"""The steps of a training run: each is done once, its time is kept, and a run that is started again goes on."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from radserve.errors import ErrorCode, PackError

_STEPS_FILE, _PLAN_FILE = "steps.json", "plan.json"


@dataclass(frozen=True)
class Steps:
    """The record of the steps that are done in `folder`: `steps.json` has the seconds of each on the clock."""

    folder: Path

    @property
    def seconds(self) -> dict[str, float]:
        path = self.folder / _STEPS_FILE
        found: dict[str, float] = json.loads(path.read_text()) if path.exists() else {}
        return found

    def once(self, name: str, work: Callable[[], object]) -> None:
        """Do `work`, unless it was done before; when it fails the next run does it again."""
        if name in self.seconds:
            return
        began = time.monotonic()
        work()
        done = self.seconds | {name: round(time.monotonic() - began, 1)}
        (self.folder / _STEPS_FILE).write_text(json.dumps(done, indent=2) + "\n")

    def claim(self, plan: Any) -> None:
        """Keep the dataclass `plan` in the folder; raises PackError where a run with another one was begun there."""
        path, stated = self.folder / _PLAN_FILE, json.loads(json.dumps(asdict(plan)))
        if path.exists() and json.loads(path.read_text()) != stated:
            raise PackError(
                ErrorCode.PACK_INVALID,
                f"{self.folder} holds a run with other settings, see {_PLAN_FILE}: use another",
            )
        path.write_text(json.dumps(stated, indent=2) + "\n")
