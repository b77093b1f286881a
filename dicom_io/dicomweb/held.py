"""An instance that can be retrieved."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from radserve.references import InstanceRef


@dataclass(frozen=True, slots=True)
class Held:
    """An instance and its file."""

    instance: InstanceRef
    transfer_syntax_uid: str
    path: Path

    @property
    def url(self) -> str:
        """Its place below the address of the service."""
        uids = self.instance
        return f"/studies/{uids.study_instance_uid}/series/{uids.series_instance_uid}/instances/{uids.sop_instance_uid}"
