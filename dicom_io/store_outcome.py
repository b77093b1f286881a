"""What became of an instance that was sent to another system, by C-STORE or by STOW-RS."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class StoreState(StrEnum):
    """What became of an instance. Only STORED and WARNING mean that the peer has it."""

    STORED = "stored"
    WARNING = "stored with a warning"
    REFUSED = "refused"
    NOT_SENT = "not sent"
    UNCONFIRMED = "sent, not answered"


@dataclass(frozen=True, slots=True)
class StoreOutcome:
    """`status`: of the C-STORE response, or the failure reason of STOW-RS; None without one.

    `is_transient`: whether to send it again later. `converted`: the peer refused the transfer syntax, so it got the
    instance without compression.
    """

    sop_class_uid: str
    sop_instance_uid: str
    state: StoreState
    status: int | None = None
    message: str = ""
    is_transient: bool = False
    converted: bool = False

    @property
    def is_stored(self) -> bool:
        return self.state in (StoreState.STORED, StoreState.WARNING)
