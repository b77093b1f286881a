"""Calls that wait at the same moment are done as one: they share a transaction, or the sync of a folder."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar, cast

T = TypeVar("T")
R = TypeVar("R")
MOST_TOGETHER = 256


class Together(Generic[T, R]):
    """Gathers single items for `work`, which takes several; it is called by one of the waiting threads at a time.

    `work` returns an outcome for each item, in their order; one that is an exception is raised to that item's caller.
    """

    def __init__(self, work: Callable[[Sequence[T]], Sequence[R | Exception]]) -> None:
        self._work = work
        self._waiting: deque[_Call[T, R]] = deque()
        self._working = threading.Lock()

    def run(self, item: T) -> R:
        """Return when the work on `item` is done; what comes while other work runs waits for the next turn. Blocks."""
        call: _Call[T, R] = _Call(item)
        self._waiting.append(call)
        with self._working:
            while not call.done:  # else another thread did it in its turn
                self._work_off()
        if isinstance(call.outcome, Exception):
            raise call.outcome
        return cast(R, call.outcome)

    def _work_off(self) -> None:
        calls = [self._waiting.popleft() for _ in range(min(len(self._waiting), MOST_TOGETHER))]
        try:
            outcomes = self._work([call.item for call in calls])
        except Exception as error:
            outcomes = [error] * len(calls)
        for call, outcome in zip(calls, outcomes, strict=True):
            call.outcome, call.done = outcome, True


class _Call(Generic[T, R]):
    """An item that waits; `outcome` once it is `done`."""

    __slots__ = ("done", "item", "outcome")

    def __init__(self, item: T) -> None:
        self.item = item
        self.outcome: R | Exception | None = None
        self.done = False
