"""Calls that wait at the same moment are done as one: they share a transaction, or the sync of a folder."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")
MOST_TOGETHER = 256


class Together(Generic[T, R]):
    """Gathers single items for `work`, which takes several, runs in a thread, and in one at a time.

    `work` returns an outcome for each item, in their order; one that is an exception is raised to that item's caller.
    For one event loop.
    """

    def __init__(self, work: Callable[[Sequence[T]], Sequence[R | Exception]]) -> None:
        self._work = work
        self._waiting: list[tuple[T, asyncio.Future[R]]] = []
        self._working: asyncio.Task[None] | None = None

    async def run(self, item: T) -> R:
        """Return when the work on `item` is done; what arrives while other work runs waits for the next turn."""
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._working is None:
            self._working = asyncio.create_task(self._work_off())
        return await future

    async def idle(self) -> None:
        """Return when nothing waits or runs."""
        while self._working:
            await asyncio.wait([self._working])

    async def _work_off(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:MOST_TOGETHER], self._waiting[MOST_TOGETHER:]
                outcomes = await asyncio.to_thread(self._outcomes, [item for item, _ in batch])
                for (_, future), outcome in zip(batch, outcomes, strict=True):
                    if future.done():  # its caller was cancelled
                        continue
                    if isinstance(outcome, Exception):
                        future.set_exception(outcome)
                    else:
                        future.set_result(outcome)
        finally:
            self._working = None

    def _outcomes(self, items: Sequence[T]) -> Sequence[R | Exception]:
        try:
            return self._work(items)
        except Exception as error:
            return [error] * len(items)
