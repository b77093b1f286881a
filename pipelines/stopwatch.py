"""How long each stage of one analysis took."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Stopwatch:
    """Adds up the time of each stage of one analysis."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self._stages: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self._stages[name] = self._stages.get(name, 0.0) + (time.perf_counter() - started) * 1e3

    def timings_ms(self) -> tuple[tuple[str, float], ...]:
        total = (time.perf_counter() - self._started) * 1e3
        return *((name, round(value, 3)) for name, value in self._stages.items()), ("total", round(total, 3))
