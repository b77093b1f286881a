"""The caller's deadline, carried from the edge to every model call."""

from __future__ import annotations

import time
from dataclasses import dataclass

from radserve.errors import ErrorCode, RequestError


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment on the monotonic clock (`time.monotonic`, in seconds), or none."""

    at_s: float | None = None

    @classmethod
    def after(cls, seconds: float | None) -> Deadline:
        """The deadline `seconds` from now; None means there is none."""
        return cls(None if seconds is None else time.monotonic() + seconds)

    def remaining_s(self) -> float | None:
        """Seconds that are left, or None without a deadline. Raises RequestError DEADLINE_EXCEEDED at zero."""
        if self.at_s is None:
            return None
        left = self.at_s - time.monotonic()
        if left <= 0:
            raise RequestError(ErrorCode.DEADLINE_EXCEEDED, "the request's deadline passed before it was finished")
        return left
