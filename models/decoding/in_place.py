"""Several reports decoded side by side in one process, their keys and values in memory that never moves.

Needs numpy only and imports nothing of radserve: this file is copied into the Triton model repository.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


class Progress(NamedTuple):
    """What a step brought one report: tokens that are certain now, and whether it is at its end."""

    key: Any
    tokens: tuple[int, ...]
    finished: bool


@dataclass
class _Job:
    key: Any
    search: Any
    image_tokens: Array
    most_rows: int
    rows: int = 1
    position: int = 0


class InPlaceBatch:
    """The reports in work, over the two graphs of LoopGraphs (each an OnnxGraph).

    A report holds a row for each text that is written side by side; those that would come to more than `max_rows` wait
    until others have ended. Rows lie one behind the other in pools, one for each input and output of the step graph,
    that grow with what is in work; the graph reads and writes them in place.
    """

    def __init__(self, start: Any, step: Any, max_rows: int) -> None:
        self._start, self._step, self._max_rows = start, step, max_rows
        self._waiting: deque[_Job] = deque()
        self._jobs: list[_Job] = []
        self._pools: dict[str, Array] = {}
        self._bound: dict[int, tuple[Array, list[Callable[[], None]]]] = {}

    def __len__(self) -> int:
        return len(self._jobs) + len(self._waiting)

    def add(self, key: Any, search: Any, image_tokens: Array, rows: int = 1) -> None:
        """Take a report in: `image_tokens` (P, C) float32, and the most texts that its search writes side by side."""
        self._waiting.append(_Job(key, search, image_tokens, rows))

    def remove(self, key: Any) -> None:
        """Drop a report that is no longer wanted; nothing where it has ended."""
        self._waiting = deque(job for job in self._waiting if job.key != key)
        kept, row = [], 0
        for job in self._jobs:
            if job.key != key:
                kept.append((job, list(range(row, row + job.rows))))
            row += job.rows
        self._keep(kept)

    def step(self) -> list[Progress]:
        """Write the next token of the reports in work. Raises ValueError where a logit is not a number."""
        if self._waiting:
            self._admit()
        rows = sum([job.rows for job in self._jobs])
        logits, runs = self._bound.get(rows) or self._bind(rows)
        for run in runs:
            run()
        if not math.isfinite(np.add.reduce(logits, axis=None)):  # the sum is no number where a value is none
            raise ValueError("the decoder returned values that are not numbers")
        progress, kept, row, moved = [], [], 0, False
        for job in self._jobs:
            parents, tokens = job.search.advance(logits[row : row + job.rows])
            finished = job.search.finished
            progress.append(Progress(job.key, tokens, finished))
            if not finished:
                job.position += 1
                kept.append((job, [row] if job.most_rows == 1 else (parents + row).tolist()))
            moved = moved or finished or job.most_rows > 1
            row += job.rows
        if moved:
            self._keep(kept)
        self._tell()
        return progress

    def _admit(self) -> None:
        """Take in what waits, in its order, while there is room for all rows it may come to hold."""
        most = sum(job.most_rows for job in self._jobs)
        while self._waiting and (not self._jobs or most + self._waiting[0].most_rows <= self._max_rows):
            job = self._waiting.popleft()
            row = sum(each.rows for each in self._jobs)
            most += job.most_rows
            self._grow(most)
            seen = self._start.run({"image_tokens": job.image_tokens[np.newaxis]})
            for name, found in seen.items():  # of a slot no more is read than this report has written
                self._pools[name][row] = found[0]
            self._jobs.append(job)
        self._tell()

    def _grow(self, rows: int) -> None:
        """Make room for rows; what lies in the pools stays."""
        size = len(self._pools["token"]) if self._pools else 0
        if rows <= size:
            return
        size = max(rows, min(2 * size, self._max_rows))
        self._bound.clear()
        for name, (kind, shape) in {**self._step.inputs, "logits": self._step.outputs["logits"]}.items():
            pool = np.zeros((size, *shape), dtype=np.int32 if kind == "tensor(int32)" else np.float32)
            if name in self._pools:
                pool[: len(self._pools[name])] = self._pools[name]
            self._pools[name] = pool

    def _bind(self, rows: int) -> tuple[Array, list[Callable[[], None]]]:
        """The logits of so many rows and what fills them: a run, or one a row where a batch would give other bits."""
        parts = [(0, rows)] if self._step.joint else [(row, row + 1) for row in range(rows)]
        runs = []
        for start, end in parts:
            views = {name: pool[start:end] for name, pool in self._pools.items()}
            outputs = {name: views[name.replace("kept_", "slot_")] for name in self._step.outputs}
            runs.append(self._step.bound({name: views[name] for name in self._step.inputs}, outputs))
        self._bound[rows] = self._pools["logits"][:rows], runs
        return self._bound[rows]

    def _keep(self, kept: list[tuple[_Job, list[int]]]) -> None:
        """Go on with these reports, each with the rows that it takes from those there are."""
        sources = [row for _, rows in kept for row in rows]
        for job, rows in kept:
            job.rows = len(rows)
        self._jobs = [job for job, _ in kept]
        if sources != list(range(len(sources))):
            for pool in self._pools.values():
                pool[: len(sources)] = pool[sources]

    def _tell(self) -> None:
        """Write the tokens and positions of the next run."""
        token, position = self._pools["token"], self._pools["position"]
        row = 0
        for job in self._jobs:
            token[row : row + job.rows] = job.search.tokens
            position[row : row + job.rows] = job.position
            row += job.rows
