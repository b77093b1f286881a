"""When to go on: the clock, when a study is complete, and how long to wait before a retry. Times in seconds."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from radserve._checks import invalid
from radserve.work import OpenStudy, Signal


class Clock(Protocol):
    """Time as the workflow sees it; tests have their own."""

    def now(self) -> float:
        """Seconds since 1970."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after that time."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> float:
        return time.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


@dataclass(frozen=True, slots=True)
class CompletionPolicy:
    """A study is taken as complete after `quiet_s` without a new instance, and closed after `cap_s` in any case."""

    quiet_s: float = 60.0
    cap_s: float = 3600.0

    def __post_init__(self) -> None:
        if not 0 <= self.quiet_s <= self.cap_s:
            raise invalid("CompletionPolicy", (self.quiet_s, self.cap_s), "0 <= quiet_s <= cap_s")

    def incomplete(self, study: OpenStudy, now: float) -> bool | None:
        """Whether a study is to be closed now, and then whether it lacks something; None: keep waiting.

        It lacks something where fewer instances came than were announced, where the sender was interrupted, and where
        the cap cuts off a study that still grows.
        """
        expected = study.expected_instances
        if expected is None and study.signal is Signal.COMPLETE:
            return False
        if expected is not None and study.stored_instances >= expected:
            return False
        if now - study.last_received_at >= self.quiet_s:
            return expected is not None or study.signal is Signal.INTERRUPTED
        return True if now - study.opened_at >= self.cap_s else None


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """At most `attempts`; after attempt n a wait of `first_s` * `factor` ** (n - 1), at most `most_s`.

    Each wait is cut by a random part of up to `jitter` of itself, so that what failed together is not retried together.
    """

    attempts: int = 3
    first_s: float = 2.0
    factor: float = 4.0
    most_s: float = 600.0
    jitter: float = 0.5
    random: Callable[[], float] = random.random

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise invalid("RetryPolicy.attempts", self.attempts, "at least 1")
        if not (self.first_s >= 0 and self.factor >= 1 and self.most_s >= 0 and 0 <= self.jitter <= 1):
            raise invalid("RetryPolicy", (self.first_s, self.factor, self.most_s, self.jitter), "waits that grow")

    def wait_s(self, attempt: int) -> float:
        """How long to wait after attempt number `attempt`, counted from 1."""
        whole = min(self.first_s * self.factor ** min(attempt - 1, 64), self.most_s)
        return whole * (1 - self.jitter * self.random())
