"""Which workitems this server has claimed, on disk: it goes on with them after a kill."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from radserve._checks import check_uid
from radserve.dicom_io.durable import fsync_folder, storage_error


@dataclass(frozen=True, slots=True)
class Claim:
    """A workitem and the transaction UID by which it is ours.

    `claimed`: the origin server has said so; before, it may or may not be. `retrieved`: the inputs are stored here.
    `failures`: retrievals that failed. `told`: the progress that was told, in percent. `cancelled`: why it is to be
    given up, "" for not. `studies`: its inputs; `brought`: those of them that would not be here without it.
    """

    workitem_uid: str
    transaction_uid: str
    started_at: float
    claimed: bool = False
    retrieved: bool = False
    failures: int = 0
    told: int = 0
    cancelled: str = ""
    studies: tuple[str, ...] = ()
    brought: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_uid("workitem_uid", self.workitem_uid)
        check_uid("transaction_uid", self.transaction_uid)


class ClaimFolder:
    """One file for each claim, replaced as a whole. Raises StorageError."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def all(self) -> list[Claim]:
        """Every claim, the oldest first."""
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            found = [_claim(json.loads(path.read_bytes())) for path in self._root.glob("*.json")]
        except OSError as error:
            raise storage_error(error) from None
        return sorted(found, key=lambda each: (each.started_at, each.workitem_uid))

    def put(self, claim: Claim) -> None:
        """Make a claim, or a change of it, durable."""
        path = self._path(claim)
        aside = path.with_suffix(".part")
        try:
            with aside.open("wb") as file:
                file.write(json.dumps(asdict(claim)).encode())
                file.flush()
                os.fsync(file.fileno())
            aside.replace(path)
            fsync_folder(self._root)
        except OSError as error:
            raise storage_error(error) from None

    def remove(self, claim: Claim) -> None:
        """Forget a claim: its workitem has ended, or is another's."""
        try:
            self._path(claim).unlink(missing_ok=True)
            fsync_folder(self._root)
        except OSError as error:
            raise storage_error(error) from None

    def _path(self, claim: Claim) -> Path:
        return self._root / f"{claim.workitem_uid}.json"


def _claim(values: dict[str, Any]) -> Claim:
    lists = {name: tuple(values.get(name, ())) for name in ("studies", "brought")}
    return Claim(**{**values, **lists})
